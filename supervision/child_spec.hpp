#pragma once
// What a supervisor is told about a child, in the terms of Erlang/OTP's supervisor behaviour.
#include <optional>
#include <string>

#include "config/clock.hpp"

namespace ntrace::supervision {

enum class restart_type { permanent, transient, temporary };
enum class strategy { one_for_one, one_for_all, rest_for_one, simple_one_for_one };
enum class child_kind { worker, supervisor };

/// How a child is stopped: asked, and killed after the deadline; zero kills at once; none waits.
struct shutdown_policy {
  std::optional<milliseconds> deadline = milliseconds{5000};
  static shutdown_policy brutal_kill() { return {milliseconds{0}}; }
  static shutdown_policy infinity() { return {std::nullopt}; }
};

struct child_spec {
  std::string id;  ///< Unique within its supervisor.
  restart_type restart = restart_type::permanent;
  shutdown_policy shutdown;
  child_kind kind = child_kind::worker;
};

struct supervisor_flags {
  strategy how = strategy::one_for_one;
  unsigned intensity = 3;  ///< More restarts than this within `period`, and it gives up.
  milliseconds period{60'000};
};

/// Why a child ended. normal and shutdown are normal ends; all else is abnormal.
enum class exit_kind { normal, shutdown, killed, failed };
struct exit_reason {
  exit_kind kind = exit_kind::normal;
  std::string text;  ///< Of an exception or error: what people need to see.
  bool is_normal() const { return kind == exit_kind::normal || kind == exit_kind::shutdown; }
};

}  // namespace ntrace::supervision
