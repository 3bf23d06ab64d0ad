#pragma once
// A child for supervisors in virtual time, that answers, keeps quiet or throws as told.
#include <gtest/gtest.h>
#include <caf/actor_system.hpp>
#include <caf/event_based_actor.hpp>

#include "supervision/caf_types.hpp"
#include "supervision/supervisor_actor.hpp"
#include "supervision/tree.hpp"
#include "tests/support/supervisor_puppet.hpp"
#include "tests/support/virtual_system.hpp"

namespace ntrace::test {

using nlohmann::json;
using ping = caf::atom_constant<caf::atom("ping")>;
using burst = caf::atom_constant<caf::atom("burst")>;

/// Shared by the incarnations of one child.
struct record {
  int starts = 0;
  bool holds = false;                               ///< Pings are kept without an answer.
  std::vector<std::pair<int, std::uint64_t>> seen;  ///< Value and request id, in order of arrival.
  std::vector<caf::response_promise> kept;
  ~record() {
    for (auto& p : kept) p.deliver(0);
  }
};
using record_ptr = std::shared_ptr<record>;

/// Answers (ping, n) with n + 100 · its number; throws at (burst).
inline start_function till(const record_ptr& r) {
  return [r](caf::local_actor* by) -> result<caf::actor> {
    const int number = ++r->starts;
    return by->system().spawn([r, number](caf::event_based_actor* self) -> caf::behavior {
      guard(self, "till");
      return {[=](ping, int n) -> caf::result<int> {
                r->seen.emplace_back(n, request_id_of(self));
                if (!r->holds) return n + 100 * number;
                r->kept.push_back(self->make_response_promise());
                return caf::delegated<int>{};
              },
              [](burst, int) -> caf::result<int> { throw std::runtime_error("burst as told"); }};
    });
  };
}

struct world : virtual_system {
  caf::scoped_actor self{system};
  std::vector<caf::actor> fronts;

  caf::actor front(facade_options options = {}) {
    return fronts.emplace_back(spawn_facade(system, options));
  }
  ~world() {
    for (const auto& f : fronts) end_facade(f);
    settle();
  }
  void stop(const caf::actor& who) {
    caf::anon_send_exit(who, caf::exit_reason::user_shutdown);
    settle();
  }
  /// The answer, or the error that came instead.
  template <class T, class... Args>
  result<T> ask(const caf::actor& who, const Args&... args) {
    auto pending = self->request(who, caf::infinite, args...);
    settle();
    return take<T>(pending);
  }
  template <class T, class Pending>
  result<T> take(Pending& pending) {
    result<T> out = fail(ec::defect, "no answer");
    pending.receive([&](const T& value) { out = value; },
                    [&](const caf::error& e) { out = fail(from_caf(e)); });
    return out;
  }
  json tree(const caf::actor& of) {
    return json::parse(ok(ask<std::string>(of, tree_atom::value)));
  }
};

inline child worker(child_spec spec, const record_ptr& r, caf::actor front = nullptr) {
  return {std::move(spec), till(r), std::move(front)};
}
inline child nested(const char* id, restart_type restart, supervisor_flags flags,
                    const std::vector<child>& children) {
  return {{id, restart, shutdown_policy::infinity(), child_kind::supervisor},
          supervisor_start(id, flags, children)};
}

}  // namespace ntrace::test
