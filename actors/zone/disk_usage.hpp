#pragma once
// What a zone's writable layer takes of the disk while its programs write to it: docs/zones.md,
// "Limits". Measured from outside, for ext4 and xfs bound a folder only by mount options that are
// not ours to set.
#include <dirent.h>
#include <sys/stat.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "config/clock.hpp"

namespace ntrace::zone {

/// One measurement of a tree that hostile programs change meanwhile, a piece at a time. It follows
/// no symbolic link and leaves no mount.
class disk_usage {
public:
  /// `upper` is the writable layer, `cgroup` the zone's v2 group (it may be empty) and `root` what
  /// its programs have as "/": files that they deleted and keep open count, too.
  disk_usage(const std::string& upper, const std::string& cgroup, const std::string& root);
  ~disk_usage();
  disk_usage(const disk_usage&) = delete;
  disk_usage& operator=(const disk_usage&) = delete;

  /// Goes on until `until`. Bytes once all was seen: blocks, at least inode_bytes_min of each file
  /// and folder. A tree deeper than tree_depth_max counts as endless.
  std::optional<std::uint64_t> step(time_point until);

  static constexpr std::uint64_t inode_bytes_min = 4096;
  static constexpr std::size_t tree_depth_max = 200;  ///< Each level has a descriptor.

private:
  struct closer {
    void operator()(DIR* d) const { ::closedir(d); }
  };
  using folder = std::unique_ptr<DIR, closer>;
  void enter(int at, const char* name);
  void count(const struct stat& facts);
  void look_at(const char* name);
  void look_at_open(const char* name);

  std::vector<folder> tree_;             ///< From the top to where it is.
  std::vector<std::string> open_files_;  ///< Folders /proc/PID/fd that are still to be read.
  folder descriptors_;
  dev_t layer_device_ = 0, overlay_device_ = 0;
  std::set<std::pair<dev_t, ino_t>> deleted_;
  std::uint64_t bytes_ = 0;
};

/// What a disk has left, and what of it is kept from zones: below that nothing boots and nothing
/// runs on. 5 % of its bytes, at most 256 MiB, and of its files, at most 65,536; a file system that
/// makes inodes as it needs them has no number of files.
struct disk_room {
  std::uint64_t bytes = 0, bytes_reserve = 0, files = 0, files_reserve = 0;
  bool is_below_reserve() const { return bytes < bytes_reserve || files < files_reserve; }
};
/// Of the disk that `path` lies on; nothing when it cannot be told.
std::optional<disk_room> room_on_disk_of(const std::string& path);

/// When to measure, and what it means. `look()` is asked every so often while something runs.
class disk_watch {
public:
  enum class finding { fine, beyond_bound, no_reserve };
  /// `bound` 0: only the reserve counts.
  disk_watch(std::string upper, std::string cgroup, std::string root, std::uint64_t bound)
      : upper_{std::move(upper)},
        cgroup_{std::move(cgroup)},
        root_{std::move(root)},
        bound_{bound} {}
  finding look(time_point now);
  /// A whole measurement, now. False also when it takes longer than `within`.
  bool is_beyond_bound(milliseconds within) const;
  static constexpr milliseconds every{250};

private:
  bool is_due(time_point now, const disk_room& room) const;

  std::string upper_, cgroup_, root_;
  std::uint64_t bound_;
  std::unique_ptr<disk_usage> measuring_;
  milliseconds spent_{0};                  ///< By this measurement.
  time_point not_before_{}, at_latest_{};  ///< Of the next.
  std::optional<disk_room> room_then_;     ///< When the last one began.
};

}  // namespace ntrace::zone
