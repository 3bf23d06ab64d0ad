#pragma once
#include <string>

namespace ntrace {

/// A folder of our own below `parent`, that is gone with its owner. What cannot be deleted is
/// logged and counted (`temporary_folders_left`).
class temporary_folder {
public:
  /// Its name begins with `name`. path() is empty, and errno set, when it cannot be made.
  temporary_folder(const std::string& parent, const std::string& name);
  ~temporary_folder();
  temporary_folder(const temporary_folder&) = delete;
  temporary_folder& operator=(const temporary_folder&) = delete;
  const std::string& path() const { return path_; }

private:
  std::string path_;
};

}  // namespace ntrace
