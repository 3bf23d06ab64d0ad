#pragma once
// What an attempt tells of itself: a line of the stream `events` for each beginning and end of a
// step, and the receipt that stands beside its verdict. Pure.
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "actors/domain/document.hpp"
#include "config/clock.hpp"
#include "config/error.hpp"

namespace ntrace::runner {

enum class step { rollback, profiler, fetch, unpack, install, run, capture, fold };
std::string_view to_string(step s);

/// A step began, or ended.
struct attempt_event {
  step what = step::rollback;
  std::optional<milliseconds> duration{};  ///< Of one that ended.
  error failed{};                          ///< code none: it went well, or has begun.
  std::string script{};                    ///< Of run that began.
  domain::document facts{};                ///< Of one that ended.
};
/// {"level", "code", "step", "message"}, and what else there is.
nlohmann::json to_json(const attempt_event& e);
/// As a line of the stream `events`.
std::string event_text(const attempt_event& e);
std::string event_text(const domain::document& e);

struct attempt_receipt {
  std::map<step, milliseconds> durations;
  domain::document clean;                     ///< The proof.
  std::string script;                         ///< Empty: none was chosen.
  std::optional<std::string> profile_failed;  ///< Why there is no flame graph.
  std::vector<domain::document> facts;        ///< Of the steps, in order: the last word counts.
};
nlohmann::json to_json(const attempt_receipt& r);

}  // namespace ntrace::runner
