#pragma once
// The owner of a data folder: one process for each role, by a lock of the kernel on the folder
// itself.
#include <string>
#include <string_view>
#include <vector>

#include "config/clock.hpp"
#include "config/file.hpp"

namespace ntrace {

/// What a process does with a data folder that no second one may do at the same time. The number is
/// the byte of the folder that stands for it.
enum class folder_role { dispatcher = 0, runner = 1 };
/// "dispatcher", "runner".
std::string_view to_string(folder_role r);

/// The right to use a data folder in some roles, until this is destroyed or its process ends,
/// however that happens. Programs that the process starts do not get it.
///
/// The lock is on the folder's inode, so it holds on every path to it, in all namespaces, and
/// whatever is deleted in the folder: an open-file-description lock (fcntl(2)), one byte for each
/// role. A folder cannot be opened for writing, and so not be locked for it; each owner therefore
/// holds a read lock, and looks for others under a short flock(2) of the folder.
class folder_lock {
public:
  /// How long an owner that is just ending is waited for.
  static constexpr milliseconds ending_max{10'000};

  /// All of `roles`, or none; with them the files of the folder that they write, which may have a
  /// name in another folder, too. ec::folder_busy names the owner: its pid, role, command line and
  /// since when, also as facts. ec::bad_config for a folder on a network file system, where a lock
  /// ends at the machine; ec::io when the folder cannot be locked.
  static result<folder_lock> take(const std::string& folder, const std::vector<folder_role>& roles);

private:
  explicit folder_lock(unique_fd fd) : fd_{std::move(fd)} {}
  result<void> take_files(const std::string& folder, const std::vector<folder_role>& roles);

  unique_fd fd_;                  ///< Close-on-exec, so that no helper holds the lock on.
  std::vector<unique_fd> files_;  ///< The same; locked by flock(2), which SQLite does not use.
};

/// True for a file system (statfs(2), f_type) that several machines may share.
bool is_network_file_system(long type);

}  // namespace ntrace
