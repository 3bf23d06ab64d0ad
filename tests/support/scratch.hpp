#pragma once
// A folder of a test's own, gone when the test is.
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <string>

namespace ntrace::test {

class scratch {
public:
  scratch() {
    path_ = (std::filesystem::temp_directory_path() / "ntrace-test.XXXXXX").string();
    if (::mkdtemp(path_.data()) == nullptr) path_.clear();
    std::filesystem::permissions(
        path_, std::filesystem::perms::others_exec | std::filesystem::perms::others_read,
        std::filesystem::perm_options::add);
  }
  ~scratch() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  scratch(const scratch&) = delete;
  scratch& operator=(const scratch&) = delete;
  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  /// Writes a file, making its folders.
  std::string file(const std::string& name, const std::string& content) const {
    const auto to = path_ + "/" + name;
    std::filesystem::create_directories(std::filesystem::path{to}.parent_path());
    std::ofstream{to, std::ios::binary} << content;
    return to;
  }
  /// The same for its user alone.
  std::string secret(const std::string& name, const std::string& content) const {
    const auto to = file(name, content);
    std::filesystem::permissions(
        to, std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
    return to;
  }

private:
  std::string path_;
};

}  // namespace ntrace::test
