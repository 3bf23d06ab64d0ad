// What a supervisor tells about its children.
#include "config/log.hpp"
#include "supervision/caf_types.hpp"
#include "supervision/facade_view.hpp"
#include "supervision/supervisor_state.hpp"
#include "supervision/tree.hpp"

namespace ntrace::supervision {
namespace {

using self_ptr = supervisor_self;

/// Trees of supervisor children are asked for one after the other and put in their places.
void collect_tree(self_ptr self, const caf::response_promise& promise, nlohmann::json tree,
                  std::size_t from) {
  auto& children = tree["children"];
  for (auto i = from; i < children.size(); ++i) {
    const auto id = children[i]["id"].get<std::string>();
    const auto front = self->state.fronts->find(id);
    children[i]["mailbox_size"] =
        front ? nlohmann::json(held_by_facade(front)) : nlohmann::json(nullptr);
    if (const auto doing = front ? doing_of_facade(front) : facade_doing{}; !doing.what.empty()) {
      children[i]["doing"] = doing.what;
      children[i]["doing_ms"] = doing.since.count();
    }
    if (children[i]["type"] != "supervisor") continue;
    const auto at = self->state.running.find(id);
    if (at == self->state.running.end()) continue;
    self->request(at->second.address, std::chrono::seconds{5}, tree_atom::value)
        .then(
            [=](const std::string& text) {
              auto next = tree;
              next["children"][i]["tree"] = nlohmann::json::parse(text, nullptr, false);
              collect_tree(self, promise, std::move(next), i + 1);
            },
            [=](const caf::error&) { collect_tree(self, promise, tree, i + 1); });
    return;
  }
  auto answered = promise;
  answered.deliver(tree.dump());
}

caf::result<caf::actor> reference(self_ptr self, const std::string& id) {
  auto& s = self->state;
  if (s.specs.count(id) == 0)
    return to_caf({ec::not_found, "there is no child \"" + id + "\"", {}});
  if (auto front = s.fronts->find(id)) return front;
  auto front = spawn_facade(self->system(), s.specs.at(id).held);
  s.fronts->put(id, front);
  if (const auto at = s.running.find(id); at != s.running.end())
    point_facade(front, at->second.address);
  return front;
}

}  // namespace

caf::message_handler supervisor_queries(self_ptr self) {
  return {[self](which_atom) {
            which_children out;
            for (const auto& c : self->state.fsm->children()) {
              const auto at = self->state.running.find(c.spec.id);
              out.children.emplace_back(
                  c, at == self->state.running.end() ? nullptr : at->second.address);
            }
            return out;
          },
          [self](count_atom) { return self->state.fsm->count_children(); },
          [self](spec_atom, const std::string& id) -> caf::result<child_spec> {
            if (const auto* known = self->state.fsm->find(id)) return known->spec;
            return to_caf({ec::not_found, "there is no child \"" + id + "\"", {}});
          },
          [self](ref_atom, const std::string& id) { return reference(self, id); },
          [self](tree_atom) -> caf::result<std::string> {
            auto promise = self->make_response_promise();
            collect_tree(self, promise, describe(*self->state.fsm, now_of(self)), 0);
            return caf::delegated<std::string>{};
          }};
}

}  // namespace ntrace::supervision
