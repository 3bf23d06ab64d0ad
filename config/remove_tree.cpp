#include "config/remove_tree.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <memory>
#include <string_view>

#include "config/file.hpp"

namespace ntrace {
namespace {

constexpr unsigned names_tried_max = 64;

struct closer {
  void operator()(DIR* d) const { ::closedir(d); }
};
using folder = std::unique_ptr<DIR, closer>;

bool is_dots(std::string_view name) { return name == "." || name == ".."; }

folder open_folder(int at, const char* name) {
  const auto open = [&] {
    return unique_fd{::openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)};
  };
  auto fd = open();
  if (!fd && errno == EACCES && ::fchmodat(at, name, S_IRWXU, 0) == 0) fd = open();
  if (!fd) return nullptr;
  folder out{::fdopendir(fd.get())};
  if (out) [[maybe_unused]]
    const int is_its_own = fd.release();
  return out;
}

/// Deletes what is in one folder; its subfolders become neighbours of their parent, so that nobody
/// has to go down to them.
class flattener {
public:
  explicit flattener(folder top) : top_{std::move(top)} {}

  /// As long as it gets anywhere. The errno of what stays, else 0.
  int run() {
    for (;;) {
      stays_ = 0;
      has_moved_ = false;
      ::rewinddir(top_.get());
      while (const auto* entry = ::readdir(top_.get()))
        if (!is_dots(entry->d_name)) remove(entry->d_name);
      if (!has_moved_) return stays_;
    }
  }

private:
  int at() const { return ::dirfd(top_.get()); }

  void remove(const char* name) {
    if (::unlinkat(at(), name, 0) == 0) {
      has_moved_ = true;
      return;
    }
    if (errno == ENOENT) return;
    if (errno != EISDIR && errno != EPERM) {  // POSIX has EPERM for folders.
      stays_ = errno;
      return;
    }
    if (const auto inner = open_folder(at(), name)) empty(inner.get());
    if (::unlinkat(at(), name, AT_REMOVEDIR) == 0)
      has_moved_ = true;
    else if (errno != ENOENT)
      stays_ = errno;
  }

  void empty(DIR* inner) {
    const int from = ::dirfd(inner);
    bool may_write = false;
    while (const auto* entry = ::readdir(inner)) {
      if (is_dots(entry->d_name)) continue;
      for (;;) {
        if (::unlinkat(from, entry->d_name, 0) == 0 ||
            (errno == EISDIR && move_up(from, entry->d_name))) {
          has_moved_ = true;
          break;
        }
        if (may_write || (errno != EACCES && errno != EPERM)) break;
        may_write = ::fchmod(from, S_IRWXU) == 0;
        if (!may_write) break;
      }
    }
  }

  bool move_up(int from, const char* name) {
    for (unsigned tries = 0; tries < names_tried_max; ++tries) {
      const auto to = ".removed-" + std::to_string(++number_);
      if (::renameat(from, name, at(), to.c_str()) == 0) return true;
      if (errno == EACCES && ::fchmodat(from, name, S_IRWXU, 0) == 0) continue;
      if (errno != ENOTEMPTY && errno != EEXIST && errno != ENOTDIR) return false;
    }
    return false;
  }

  folder top_;
  std::uint64_t number_ = 0;
  int stays_ = 0;
  bool has_moved_ = false;
};

}  // namespace

result<void> remove_tree(const std::string& path) {
  if (::unlink(path.c_str()) == 0 || errno == ENOENT) return {};
  if (errno != EISDIR && errno != EPERM) return fail(io_error("delete", path, errno));
  auto top = open_folder(AT_FDCWD, path.c_str());
  if (!top) return fail(io_error("open", path, errno));
  const int stays = flattener{std::move(top)}.run();
  if (::rmdir(path.c_str()) == 0 || errno == ENOENT) return {};
  return fail(io_error("delete all of", path, stays != 0 ? stays : errno));
}

}  // namespace ntrace
