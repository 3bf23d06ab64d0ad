#pragma once
// The whole tree of a commit, byte for byte: what .gitattributes would take out or change in an
// archive or a working copy too, and the trees of its submodules.
#include "actors/runner/git_repository.hpp"

namespace ntrace::runner {

/// `commit` of `repository`, which came from `url`. Submodules are fetched into `scratch` and
/// beside it only over https, http and ssh, or from this machine when `url` is of it; who cannot be
/// had is an empty folder and stands in the bundle's tree_facts. Blocks.
result<bundle> bundle_commit(const git_repository& repository, const std::string& commit,
                             const std::string& url, const source_options& options,
                             const cancellation* stop);

}  // namespace ntrace::runner
