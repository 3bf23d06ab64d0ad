#pragma once
// Random scripts of what may happen to a supervisor: starts that go well or fail, children that
// end, and calls. A script is the same for a seed; to_erlang() writes it as a term that OTP's
// supervisor can be driven with (tests/integration/otp_peer.erl).
#include <string>
#include <vector>

#include "config/random.hpp"
#include "supervision/child_spec.hpp"

namespace ntrace::test {

/// What a child does when it is asked to stop: it ends; it does not hear; it ends with an error.
enum class manner { obedient, deaf, spiteful };

struct scripted_child {
  supervision::child_spec spec;
  manner how = manner::obedient;
};

enum class deed { die, fail, ignore, start, terminate, restart, remove, spec, which, count };

struct scripted_act {
  deed what = deed::which;
  std::string id{};
  std::string how{};                   ///< Of die: normal, shutdown, shutdown_text, crash, kill.
  unsigned times = 1;                  ///< Of fail and ignore: how many of the next starts.
  std::vector<scripted_act> within{};  ///< Of fail: calls that come while the first start fails.
  scripted_child child{};              ///< Of start.
};

struct supervisor_script {
  std::uint64_t seed = 0;
  supervision::supervisor_flags flags{};
  std::vector<scripted_child> children;  ///< Of a dynamic supervisor: its template.
  std::vector<scripted_act> armed;       ///< fail and ignore, at the first starts.
  /// The acts of a step reach the supervisor's mailbox together, in this order.
  std::vector<std::vector<scripted_act>> steps;
  bool is_dynamic() const { return flags.how == supervision::strategy::simple_one_for_one; }
};

/// Leaves out what our supervisor does otherwise on purpose (docs/supervision.md).
supervisor_script draw_script(std::uint64_t seed);
std::string to_erlang(const supervisor_script& script);

}  // namespace ntrace::test
