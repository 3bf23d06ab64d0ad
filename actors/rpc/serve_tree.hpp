#pragma once
// The method `tree`, which both ports serve alike.
#include "actors/rpc/rpc_types.hpp"
#include "supervision/supervisor_actor.hpp"

namespace ntrace::rpc {

/// Asks the root supervisor for its tree and fulfils the promise with it, or with why not.
template <class Self>
void serve_tree(Self* self, const caf::actor& root, const caf::response_promise& promise) {
  self->request(root, std::chrono::seconds{5}, supervision::tree_atom::value)
      .then(
          [promise](const std::string& tree) {
            give(promise, nlohmann::json::parse(tree, nullptr, false));
          },
          [promise](const caf::error& e) { deny(promise, e); });
}

}  // namespace ntrace::rpc
