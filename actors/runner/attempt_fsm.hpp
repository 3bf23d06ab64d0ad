#pragma once
// One attempt at a run, step by step: rollback, fetch, unpack, install, run under the profiler,
// fold; and the verdict, whatever happens on the way. Pure.
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "actors/domain/states.hpp"
#include "actors/runner/attempt_report.hpp"
#include "config/clock.hpp"
#include "config/outage.hpp"
#include "config/result.hpp"

namespace ntrace::runner {

/// How a step went; the members beside `failed` belong to the steps named.
struct step_outcome {
  error failed{};                           ///< code none: it went well.
  bool is_clean = false;                    ///< rollback: the zone was proved clean.
  domain::document receipt{};               ///< rollback: that proof.
  std::string package_json{};               ///< fetch.
  domain::document facts{};                 ///< Anything for the run's receipt: digests, counts.
  std::optional<std::uint64_t> samples{};   ///< fold: how many were taken.
  bool has_binding_gyp = false;             ///< fetch.
  std::vector<domain::document> notices{};  ///< fetch: further events.
};

struct perform {
  step what;
  std::string script;
};  ///< Do it; answer by on_done. `script`: of run.
struct report {
  attempt_event event;
};  ///< One line of the stream `events`.
struct notice {
  domain::document event;
};  ///< The same, of what a step has noticed.
struct started {
  std::string zone;
};  ///< The zone is up: the run counts as running.
struct finish {
  domain::verdict how = domain::verdict::infrastructure;
  std::string reason;
  attempt_receipt receipt;
  bool zone_is_broken = false;
  std::optional<outage> lost_to = {};  ///< What could not be reached: to be tried again later.
};
using attempt_effects = std::vector<std::variant<perform, report, notice, started, finish>>;

class attempt_fsm {
public:
  /// `zone` and `name` (the folder of the source) stand in the receipt.
  explicit attempt_fsm(std::string zone) : zone_{std::move(zone)} {}

  attempt_effects on_start(time_point now);
  attempt_effects on_done(time_point now, step what, const step_outcome& outcome);
  /// Ends as soon as the step under way does (its blocking call is cancelled by the actor).
  void on_cancel(const std::string& reason);
  bool is_finished() const { return finished_; }

private:
  void begin(time_point now, step what, attempt_effects& out, std::string script = {});
  void tell(step what, milliseconds lasted, const step_outcome& outcome, attempt_effects& out);
  void after_preparation(time_point now, attempt_effects& out);
  void end(domain::verdict how, const error& why, bool zone_is_broken, attempt_effects& out);

  std::string zone_;
  std::map<step, time_point> began_;
  attempt_receipt receipt_;
  std::string package_json_, script_;
  std::optional<std::string> cancel_reason_;
  error script_error_;
  bool with_profiler_ = false, profiler_done_ = false, fetched_ = false, finished_ = false;
  bool has_binding_gyp_ = false;
};

}  // namespace ntrace::runner
