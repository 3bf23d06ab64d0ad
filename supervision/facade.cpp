#include "supervision/facade.hpp"

#include <algorithm>
#include <caf/actor_cast.hpp>
#include <caf/actor_config.hpp>
#include <caf/actor_control_block.hpp>
#include <caf/exit_reason.hpp>
#include <caf/make_actor.hpp>
#include <caf/monitorable_actor.hpp>
#include <caf/scheduler/abstract_coordinator.hpp>
#include <mutex>
#include <unordered_map>

#include "config/gauges.hpp"
#include "config/overload.hpp"
#include "supervision/caf_types.hpp"
#include "supervision/facade_view.hpp"
#include "supervision/held_bytes.hpp"
#include "supervision/type_name.hpp"

namespace ntrace::supervision {
namespace {

using tick_atom = caf::atom_constant<caf::atom("fc_tick")>;

class facade final : public caf::monitorable_actor {
public:
  facade(caf::actor_config& cfg, facade_options options)
      : caf::monitorable_actor(cfg), fsm_{options} {}

  const char* name() const override { return "facade"; }

  void enqueue(caf::mailbox_element_ptr what, caf::execution_unit* context) override {
    if (what->mid.is_response()) return on_response(std::move(what), context);
    // By value: all atoms are of one type.
    const auto& content = what->content();
    if (content.size() == 1 && content.match_element<caf::atom_value>(0) &&
        content.get_as<caf::atom_value>(0) == tick_atom::value)
      return locked(context, [&] {
        tick_at_ = time_point::max();
        return fsm_.on_tick(now());
      });
    on_message(std::move(what), context);
  }

  void point(const caf::actor& target) {
    // The one before it may not have been seen to end; it will not answer any more.
    clear("another took its place");
    locked(nullptr, [&] {
      target_ = caf::actor_cast<caf::strong_actor_ptr>(target);
      return fsm_.on_up(now());
    });
  }
  void clear(const std::string& reason) {
    locked(nullptr, [&] {
      target_ = nullptr;
      return fsm_.on_down(now(), reason);
    });
  }
  void end() {
    locked(nullptr, [&] {
      target_ = nullptr;
      return fsm_.on_gone();
    });
    cleanup(caf::exit_reason::user_shutdown, nullptr);
  }
  std::size_t held() {
    const std::lock_guard lock{guard_};
    return fsm_.held();
  }
  facade_doing doing() {
    const std::lock_guard lock{guard_};
    const auto oldest =
        std::min_element(letters_.begin(), letters_.end(),
                         [](const auto& a, const auto& b) { return a.first < b.first; });
    if (oldest == letters_.end()) return {};
    const auto& [atom, type] = oldest->second.kind;
    const auto what = type                        ? demangled(type->name())
                      : atom == caf::atom_value{} ? std::string{"a message"}
                                                  : caf::to_string(atom);
    return {what, std::chrono::duration_cast<milliseconds>(now() - oldest->second.came)};
  }

private:
  /// What a message is, also when its content is moved from: an atom, or a type.
  struct message_kind {
    caf::atom_value atom{};
    const std::type_info* type = nullptr;
  };
  static message_kind kind_of(const caf::message& content) {
    if (content.empty()) return {};
    if (content.match_element<caf::atom_value>(0)) return {content.get_as<caf::atom_value>(0), {}};
    return {{}, content.type(0).second};
  }
  struct letter {
    caf::strong_actor_ptr sender;
    caf::message_id mid;
    caf::message content;
    message_kind kind{};
    time_point came{};
  };
  struct delivery {
    caf::strong_actor_ptr to, from;
    caf::message_id mid;
    caf::message content;
  };

  static std::atomic<std::int64_t>& held_gauge() {
    static auto& held = gauges::value("facade_held");
    return held;
  }
  void hold(std::uint64_t id, letter l) {
    letters_.emplace(id, std::move(l));
    ++held_gauge();
  }
  letter release(std::uint64_t id) {
    const auto at = letters_.find(id);
    auto out = std::move(at->second);
    letters_.erase(at);
    --held_gauge();
    return out;
  }

  time_point now() { return home_system().clock().now(); }

  void on_message(caf::mailbox_element_ptr what, caf::execution_unit* context) {
    letter l{std::move(what->sender), what->mid, what->move_content_to_message()};
    std::optional<time_point> deadline;
    if (l.content.match_elements<within>()) {
      const auto wrapped = l.content.get_as<within>(0);
      deadline = wrapped.deadline;
      l.content = wrapped.content;
    }
    locked(context, [&] {
      const auto id = next_id_++;
      const auto bytes = bytes_beyond(l.content);
      l.kind = kind_of(l.content);
      l.came = now();
      const bool is_request = l.mid.is_request();
      hold(id, std::move(l));
      return fsm_.on_message(now(), id, bytes, is_request, deadline);
    });
  }

  /// A response without a sender is a dead mailbox giving back its content: no answer.
  void on_response(caf::mailbox_element_ptr what, caf::execution_unit* context) {
    if (!what->sender) return;
    letter asked;
    {
      const std::lock_guard lock{guard_};
      const auto id = what->mid.request_id().integer_value();
      if (!fsm_.on_answer(id)) return;
      asked = release(id);
    }
    if (asked.sender)
      asked.sender->enqueue(what->sender, asked.mid.response_id(), what->move_content_to_message(),
                            context);
  }

  /// Runs `decide` and sends to the child under the lock, which keeps the order; answers to callers
  /// go out after it. The lock is recursive: a dead child's mailbox answers within our call.
  template <class Decide>
  void locked(caf::execution_unit* context, Decide decide) {
    std::vector<delivery> answers;
    {
      const std::lock_guard lock{guard_};
      perform(decide(), answers, context);
    }
    for (auto& a : answers) a.to->enqueue(a.from, a.mid, std::move(a.content), context);
  }

  void perform(const facade_effects& todo, std::vector<delivery>& answers,
               caf::execution_unit* context) {
    for (const auto& one : todo) {
      std::visit(overload{[&](const forward& e) {
                            const auto at = letters_.find(e.id);
                            if (!at->second.mid.is_request()) {
                              const auto l = release(e.id);
                              target_->enqueue(l.sender, l.mid, l.content, context);
                            } else {
                              const auto mid =
                                  caf::message_id{e.id}.with_category(at->second.mid.category());
                              auto& kept = at->second.content;
                              // What is not sent again is not kept: its receiver may move from it.
                              target_->enqueue(ctrl(), mid, fsm_.resends() ? kept : std::move(kept),
                                               context);
                            }
                          },
                          [&](const deny& e) {
                            static auto& denied = gauges::value("facade_denied");
                            ++denied;
                            const auto l = release(e.id);
                            if (l.mid.is_request() && l.sender)
                              answers.push_back({l.sender, ctrl(), l.mid.response_id(),
                                                 caf::make_message(to_caf({e.code, e.why, {}}))});
                          },
                          [&](const look_again& e) {
                            // A tick that is under way looks as well, and each one wakes the
                            // clock's thread.
                            if (tick_at_ <= e.at) return;
                            tick_at_ = e.at;
                            home_system().clock().schedule_message(
                                e.at, ctrl(),
                                caf::make_mailbox_element(nullptr, caf::make_message_id(), {},
                                                          caf::make_message(tick_atom::value)));
                          }},
                 one);
    }
  }

  std::recursive_mutex guard_;
  facade_fsm fsm_;
  caf::strong_actor_ptr target_;
  std::unordered_map<std::uint64_t, letter> letters_;  ///< As many as the machine holds.
  std::uint64_t next_id_ = 1;
  time_point tick_at_ = time_point::max();
};

facade* cast(const caf::actor& a) {
  return dynamic_cast<facade*>(caf::actor_cast<caf::abstract_actor*>(a));
}

}  // namespace

caf::actor spawn_facade(caf::actor_system& system, facade_options options) {
  caf::actor_config cfg;
  return caf::make_actor<facade, caf::actor>(system.next_actor_id(), system.node(), &system, cfg,
                                             options);
}
void point_facade(const caf::actor& f, const caf::actor& target) {
  if (auto* at = cast(f)) at->point(target);
}
void clear_facade(const caf::actor& f, const std::string& reason) {
  if (auto* at = cast(f)) at->clear(reason);
}
void end_facade(const caf::actor& f) {
  if (auto* at = cast(f)) at->end();
}
facade_doing doing_of_facade(const caf::actor& front) {
  auto* one = cast(front);
  return one ? one->doing() : facade_doing{};
}

std::size_t held_by_facade(const caf::actor& f) {
  auto* at = cast(f);
  return at ? at->held() : 0;
}

}  // namespace ntrace::supervision
