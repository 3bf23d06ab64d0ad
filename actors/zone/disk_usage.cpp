#include "actors/zone/disk_usage.hpp"

#include <fcntl.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <limits>
#include <sstream>

#include "config/file.hpp"
#include "config/gauges.hpp"

namespace ntrace::zone {
namespace {

constexpr std::uint64_t bytes_reserve_max = 256u << 20, files_reserve_max = 65'536;
constexpr std::size_t deleted_max = 65'536;  // more of them than a zone can have open
// On a loaded machine most of a piece goes to others, so it is longer than one of their turns.
constexpr auto piece = std::chrono::milliseconds{25};
constexpr int rest_factor = 19;  // measuring takes at most a twentieth of one CPU
// What others delete meanwhile hides in the room that is left what this zone writes.
constexpr auto between_max = std::chrono::seconds{5};
constexpr auto between_min = std::chrono::seconds{1};

bool is_dots(const char* name) {
  return std::string_view{name} == "." || std::string_view{name} == "..";
}

}  // namespace

disk_usage::disk_usage(const std::string& upper, const std::string& cgroup,
                       const std::string& root) {
  struct stat facts {};
  if (::stat(root.c_str(), &facts) == 0) overlay_device_ = facts.st_dev;
  enter(AT_FDCWD, upper.c_str());
  if (!tree_.empty() && ::fstat(::dirfd(tree_.back().get()), &facts) == 0)
    layer_device_ = facts.st_dev;
  if (cgroup.empty()) return;
  std::istringstream members{read_file(cgroup + "/cgroup.procs", 1u << 20).value_or("")};
  for (int pid = 0; members >> pid;) open_files_.push_back("/proc/" + std::to_string(pid) + "/fd");
}

disk_usage::~disk_usage() = default;

void disk_usage::enter(int at, const char* name) {
  if (tree_.size() >= tree_depth_max) {
    bytes_ = std::numeric_limits<std::uint64_t>::max();
    return tree_.clear();
  }
  unique_fd fd{::openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)};
  if (!fd) return;  // It is gone, or an ordinary user's zone hides it: then the reserve counts.
  if (DIR* opened = ::fdopendir(fd.get())) {
    [[maybe_unused]] const int is_its_own = fd.release();
    tree_.emplace_back(opened);
  }
}

void disk_usage::count(const struct stat& facts) {
  const auto blocks = static_cast<std::uint64_t>(facts.st_blocks) * 512;
  const auto links = std::max<std::uint64_t>(facts.st_nlink, 1);
  // A file with several names is seen once by each.
  bytes_ += std::max(blocks, inode_bytes_min) / (S_ISDIR(facts.st_mode) ? 1 : links);
}

void disk_usage::look_at(const char* name) {
  const int at = ::dirfd(tree_.back().get());
  struct stat facts {};
  if (::fstatat(at, name, &facts, AT_SYMLINK_NOFOLLOW) != 0 || facts.st_dev != layer_device_)
    return;
  count(facts);
  if (S_ISDIR(facts.st_mode)) enter(at, name);
}

void disk_usage::look_at_open(const char* name) {
  struct stat facts {};
  if (::fstatat(::dirfd(descriptors_.get()), name, &facts, 0) != 0) return;
  const bool is_on_layer = facts.st_dev == overlay_device_ || facts.st_dev == layer_device_;
  if (!S_ISREG(facts.st_mode) || facts.st_nlink != 0 || !is_on_layer) return;
  if (deleted_.size() < deleted_max && deleted_.emplace(facts.st_dev, facts.st_ino).second)
    count(facts);
}

std::optional<std::uint64_t> disk_usage::step(time_point until) {
  constexpr auto endless = std::numeric_limits<std::uint64_t>::max();
  for (unsigned seen = 0; bytes_ != endless; ++seen) {
    if (seen % 64 == 63 && steady_clock::now() >= until) return std::nullopt;
    if (!tree_.empty()) {
      if (const auto* entry = ::readdir(tree_.back().get()); !entry)
        tree_.pop_back();
      else if (!is_dots(entry->d_name))
        look_at(entry->d_name);
    } else if (descriptors_) {
      if (const auto* entry = ::readdir(descriptors_.get()); !entry)
        descriptors_.reset();
      else if (!is_dots(entry->d_name))
        look_at_open(entry->d_name);
    } else if (!open_files_.empty()) {
      descriptors_.reset(::opendir(open_files_.back().c_str()));
      open_files_.pop_back();
    } else {
      break;
    }
  }
  return bytes_;
}

bool disk_watch::is_due(time_point now, const disk_room& room) const {
  if (now < not_before_) return false;
  if (!room_then_ || now >= at_latest_) return true;
  // What was written since shows in the room that is left, unless others made room meanwhile.
  return room.bytes + bound_ / 4 < room_then_->bytes ||
         room.files + bound_ / 4 / disk_usage::inode_bytes_min < room_then_->files;
}

disk_watch::finding disk_watch::look(time_point now) {
  const auto room = room_on_disk_of(upper_);
  if (!room) return finding::fine;  // Its root is gone: so is what runs.
  if (room->is_below_reserve()) {
    ++gauges::value("zone_disk_reserve_touched");
    return finding::no_reserve;
  }
  if (bound_ == 0) return finding::fine;
  if (!measuring_) {
    if (!is_due(now, *room)) return finding::fine;
    measuring_ = std::make_unique<disk_usage>(upper_, cgroup_, root_);
    spent_ = {};
    room_then_ = room;
  }
  const auto bytes = measuring_->step(now + piece);
  spent_ += std::chrono::ceil<milliseconds>(steady_clock::now() - now);
  if (!bytes) return finding::fine;
  measuring_.reset();
  not_before_ = now + std::max<milliseconds>(spent_ * rest_factor, between_min);
  at_latest_ = std::max(now + between_max, not_before_);
  ++gauges::value("zone_disk_measurements");
  if (*bytes <= bound_) return finding::fine;
  ++gauges::value("zone_disk_bounds_broken");
  return finding::beyond_bound;
}

bool disk_watch::is_beyond_bound(milliseconds within) const {
  disk_usage usage{upper_, cgroup_, root_};
  const bool is_beyond = usage.step(steady_clock::now() + within).value_or(0) > bound_;
  ++gauges::value("zone_disk_measurements");
  if (is_beyond) ++gauges::value("zone_disk_bounds_broken");
  return is_beyond;
}

std::optional<disk_room> room_on_disk_of(const std::string& path) {
  struct statvfs facts {};
  if (::statvfs(path.c_str(), &facts) != 0) return std::nullopt;
  const std::uint64_t total = facts.f_blocks * facts.f_frsize;
  return disk_room{facts.f_bavail * facts.f_frsize, std::min(total / 20, bytes_reserve_max),
                   facts.f_favail, std::min<std::uint64_t>(facts.f_files / 20, files_reserve_max)};
}

}  // namespace ntrace::zone
