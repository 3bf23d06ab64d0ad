#pragma once
#include <string>

#include "config/result.hpp"

namespace ntrace {

/// Deletes a file, or a folder with all that is in it. Made for trees of hostile programs: it
/// follows no symbolic link, goes on past what others delete meanwhile, makes way where a folder of
/// our own forbids it, and needs four descriptors whatever the depth, for a tree can easily be
/// deeper than a process may have files open. What is not there is fine; ec::io when something
/// stays (a mount point), after all else is gone.
result<void> remove_tree(const std::string& path);

}  // namespace ntrace
