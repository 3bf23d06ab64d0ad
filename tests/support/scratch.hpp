#pragma once
// A folder of a test's own, gone when the test is.
#include <poll.h>
#include <stdlib.h>

#include <chrono>
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
    // The helper of a server that was killed may be putting its zones away still.
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds{5};
    std::error_code problem;
    do std::filesystem::remove_all(path_, problem);
    while (problem && std::chrono::steady_clock::now() < end && ::poll(nullptr, 0, 10) == 0);
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
