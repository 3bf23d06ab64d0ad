#pragma once
// What a supervisor is told about a child and about itself, in the terms of Erlang/OTP's
// supervisor.
#include <optional>
#include <string>

#include "config/clock.hpp"
#include "config/result.hpp"
#include "supervision/exit_reason.hpp"

namespace ntrace::supervision {

enum class restart_type { permanent, transient, temporary };
/// simple_one_for_one is the dynamic strategy: children of one template, added at run time.
enum class strategy { one_for_one, one_for_all, rest_for_one, simple_one_for_one };
enum class child_kind { worker, supervisor };
/// Whether the end of significant children ends the supervisor.
enum class auto_shutdown { never, any_significant, all_significant };

std::string_view to_string(strategy s);
std::string_view to_string(restart_type r);

/// How a child is stopped: killed without being asked, or asked, and killed if it still runs after
/// the deadline. A deadline of zero is no brutal kill: the child is asked first, so one that has
/// nothing else to do ends by itself, with its own reason. No deadline: it is waited for.
struct shutdown_policy {
  std::optional<milliseconds> deadline = milliseconds{5000};
  bool is_brutal = false;
  static shutdown_policy brutal_kill() { return {milliseconds{0}, true}; }
  static shutdown_policy infinity() { return {std::nullopt}; }
};

/// Wait before restart n (0 is the first since the child was stable):
/// min(max, min · factor^n) · (1 ± jitter). A min of zero restarts at once, as OTP does.
struct restart_backoff {
  milliseconds min{0};
  milliseconds max{0};
  double factor = 2;
  double jitter = 0;              ///< Share of the wait, 0 to 1, drawn evenly to both sides.
  milliseconds stable_for{5000};  ///< Having run this long, a child begins at `min` again.
};

struct child_spec {
  std::string id;  ///< Unique within its supervisor.
  restart_type restart = restart_type::permanent;
  shutdown_policy shutdown{};
  child_kind kind = child_kind::worker;
  bool significant = false;  ///< Its own end may end the supervisor; not for permanent children.
  restart_backoff backoff{};
  /// A start that takes longer has failed; none waits for ever.
  std::optional<milliseconds> start_deadline{};
};

struct supervisor_flags {
  strategy how = strategy::one_for_one;
  unsigned intensity = 1;  ///< More restarts than this within `period`, and it gives up.
  milliseconds period{5000};
  auto_shutdown ends = auto_shutdown::never;
};

/// ec::bad_spec naming the field and the child.
result<void> check(const child_spec& spec, const supervisor_flags& flags);
result<void> check(const supervisor_flags& flags);

}  // namespace ntrace::supervision
