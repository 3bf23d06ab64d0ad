#include "actors/dispatcher/run_types.hpp"

#include <array>

namespace ntrace::dispatcher {
namespace {
constexpr std::array<std::string_view, 7> states{"queued", "leased",      "running",  "done",
                                                 "failed", "quarantined", "cancelled"};
constexpr std::array<std::string_view, 5> verdicts{"passed", "script_failed", "timed_out",
                                                   "infrastructure", "source_failed"};
}  // namespace

std::string_view to_string(run_state s) { return states[static_cast<std::size_t>(s)]; }

run_state run_state_from(std::string_view word) {
  for (std::size_t i = 0; i < states.size(); ++i)
    if (states[i] == word) return static_cast<run_state>(i);
  return run_state::quarantined;  // An unknown state is never run again by itself.
}

std::string_view to_string(verdict v) { return verdicts[static_cast<std::size_t>(v)]; }

std::optional<verdict> verdict_from(std::string_view word) {
  for (std::size_t i = 0; i < verdicts.size(); ++i)
    if (verdicts[i] == word) return static_cast<verdict>(i);
  return {};
}

/// Of all that a push costs on its thread, to build and write a JSON value was a third. Neither an
/// id nor a state has a character that JSON escapes.
std::string to_text(const receipt& r) {
  std::string out = R"({"duplicate":)";
  out.reserve(128);
  out.append(r.duplicate ? "true" : "false").append(R"(,"journal_seq":)");
  out.append(std::to_string(r.journal_seq)).append(R"(,"run":")").append(r.run);
  out.append(R"(","state":")").append(to_string(r.state)).append("\"}");
  return out;
}

}  // namespace ntrace::dispatcher
