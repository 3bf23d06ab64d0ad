#pragma once
// The mounts of a zone, from both sides: detached ones made by the helper with its rights, and
// those that the zone's own child makes. The new mount API has no wrappers in glibc 2.36.
#include <string>
#include <vector>

#include "config/file.hpp"
#include "config/result.hpp"

namespace ntrace::zone {

struct overlay_plan {
  std::vector<std::string> layers;  ///< Topmost first.
  std::string upper, work;
  bool is_volatile = true;
};

/// A detached overlay: no mount table shows it, and it dies with its descriptor.
result<unique_fd> make_detached_overlay(const overlay_plan& plan);

/// A detached read-only clone of `path`; its ids are shifted into the user namespace `userns` when
/// that is ≥ 0 and the file system can (`was_shifted` tells).
result<unique_fd> make_readonly_clone(const std::string& path, int userns, bool& was_shifted);

/// In the child: builds the whole tree at `root` (an overlay is mounted there from `overlay_fd`, or
/// from `plan` when that is -1) and makes it `/`. Throws std::string with the failing step.
void enter_root(int overlay_fd, int usr_fd, const overlay_plan& plan, std::uint64_t tmp_bytes);

}  // namespace ntrace::zone
