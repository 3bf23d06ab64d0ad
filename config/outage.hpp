#pragma once
// What cannot be reached at the moment. An outage is no failure: a run that meets one waits and
// tries again, as long as the setting outage_patience_ms says.
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "config/clock.hpp"
#include "config/error.hpp"

namespace ntrace {

enum class outage_cause : std::uint8_t {
  name_unknown,     ///< The resolver knows no address of the name, which may be its own trouble.
  no_resolver,      ///< No resolver answers.
  no_route,         ///< The network does not lead there.
  refused,          ///< Nobody listens there.
  silent,           ///< No answer in time.
  connection_lost,  ///< The connection ended before the answer.
  untrusted,        ///< Who answers cannot prove to be that host.
  server_error,     ///< The server says that it cannot answer now: HTTP 5xx.
  busy,             ///< The server says to come later: HTTP 429.
  absent,           ///< A local path that is not there, as of a file system that is not mounted.
  last = absent
};
/// The word of the wire and the journal, e.g. "no_route"; and of it.
std::string_view to_string(outage_cause c) noexcept;
std::optional<outage_cause> outage_cause_from(std::string_view word) noexcept;
/// As people say it, e.g. "no route".
std::string_view phrase_of(outage_cause c) noexcept;

struct outage {
  std::string host;  ///< With a port where one was named; a path for what is local.
  outage_cause cause = outage_cause::silent;
  std::string message;
  milliseconds retry_after{0};  ///< The server's own wish; 0: none.
  bool operator==(const outage&) const = default;
};

/// As an error: ec::unreachable, whose facts carry the rest.
error to_error(const outage& o);
/// The outage that an error tells of; nothing for any other error.
std::optional<outage> outage_of(const error& e);

/// As a runner's `finish` and the journal's events carry it: {"host", "cause", "message"[,
/// "retry_after_ms"]}.
nlohmann::json outage_json(const outage& o);
/// Nothing for what is none. A cause that is not known is `silent`; texts are cut to what is of
/// use.
std::optional<outage> outage_from(const nlohmann::json& value);

}  // namespace ntrace
