#pragma once
// The mounts of a zone, from both sides: detached ones made by the helper with its rights, and
// those that the zone's own child makes. The new mount API has no wrappers in glibc 2.36.
#include <cstdint>
#include <string>
#include <vector>

#include "actors/zone/linux/zone_sights.hpp"
#include "config/file.hpp"
#include "config/result.hpp"

namespace ntrace::zone {

struct overlay_plan {
  std::vector<std::string> layers;  ///< Topmost first.
  std::string upper, work;          ///< Empty: for reading only, of two layers at least.
  bool is_volatile = true;
};

/// Detached mounts that the helper made with its rights; -1: the child makes them itself.
struct made_mounts {
  int root = -1, usr = -1, devices = -1;
};

/// A tmpfs of bounded size over a folder, seen by this process's namespace only, until this goes
/// away; what was mounted from it meanwhile keeps it.
class bounded_folder {
public:
  bounded_folder() = default;
  ~bounded_folder();
  bounded_folder(const bounded_folder&) = delete;
  bounded_folder& operator=(const bounded_folder&) = delete;
  /// ec::io.
  result<void> cover(const std::string& folder, std::uint64_t bytes, std::uint64_t inodes);

private:
  std::string folder_;
};

/// A detached overlay: no mount table shows it, and it dies with its descriptor.
result<unique_fd> make_detached_overlay(const overlay_plan& plan);

/// Mounts the detached `fd` at `to`; false with errno set.
bool attach(int fd, const std::string& to);

/// The options that bound a tmpfs of a zone.
std::string size_options(std::uint64_t tmp_bytes);

/// In the child: builds the whole tree of the `made` mounts and, for a root that is not among them,
/// of `plan`, and makes it `/`. Throws std::string with the failing step.
/// `limits`: folders of the host that it sees, read-only.
void enter_root(const made_mounts& made, const overlay_plan& plan, std::uint64_t tmp_bytes,
                const std::vector<limits_view>& limits);

}  // namespace ntrace::zone
