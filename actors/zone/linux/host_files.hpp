#pragma once
// What a zone sees of the host's files, made so that it reaches none of them: locks, leases and
// watches are on inodes of the zone's own, and what the host's mode bits give to owner or group is
// given to nobody. docs/zones.md, "What a zone is made of".
#include <string>
#include <string_view>
#include <vector>

#include "config/file.hpp"
#include "config/result.hpp"

namespace ntrace::zone {

/// The two layers of a zone's /usr, for `lowerdir`: the host's, and below it the empty folder /usr
/// of the zone's `lowest` layer, because the kernel makes no overlay of one.
std::string usr_layers(const std::string& lowest);

/// Mount points below /usr in the text of /proc/PID/mountinfo, outermost first. Pure.
std::vector<std::string> mounts_below_usr(std::string_view mountinfo);

/// The host's /usr and what is mounted below it, read-only and detached: an overlay each, of this
/// zone alone. A file, or a file system that no overlay takes, is the host's own. For a process
/// with a mount namespace of its own. ec::io.
result<unique_fd> make_usr(const std::string& lowest);

/// A zone's /dev, read-only and detached, with nodes of its own; none where this process may make
/// none. ec::io.
result<unique_fd> make_devices();

}  // namespace ntrace::zone
