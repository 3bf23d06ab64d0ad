#include "actors/domain/states.hpp"

#include <array>

namespace ntrace::domain {
namespace {

constexpr std::array<std::string_view, 7> states{"queued", "leased",      "running",  "done",
                                                 "failed", "quarantined", "cancelled"};
constexpr std::array<std::string_view, 5> verdicts{"passed", "script_failed", "timed_out",
                                                   "infrastructure", "source_failed"};
constexpr std::array<std::string_view, stream_count> streams{"stdout", "stderr", "events",
                                                             "result"};

template <class Enum, std::size_t N>
std::optional<Enum> find_word(const std::array<std::string_view, N>& words, std::string_view word) {
  for (std::size_t i = 0; i < N; ++i)
    if (words[i] == word) return static_cast<Enum>(i);
  return {};
}

}  // namespace

std::string_view to_string(run_state s) { return states[static_cast<std::size_t>(s)]; }
run_state run_state_from(std::string_view word) {
  return find_word<run_state>(states, word).value_or(run_state::quarantined);
}

std::string_view to_string(verdict v) { return verdicts[static_cast<std::size_t>(v)]; }
std::optional<verdict> verdict_from(std::string_view word) {
  return find_word<verdict>(verdicts, word);
}
std::string_view word_of(const std::optional<verdict>& v) { return v ? to_string(*v) : ""; }

std::string_view to_string(stream s) { return streams[static_cast<std::size_t>(s)]; }
std::optional<stream> stream_from(std::string_view word) {
  return find_word<stream>(streams, word);
}

}  // namespace ntrace::domain
