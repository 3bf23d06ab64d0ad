#pragma once
// The messages between runners and their dispatcher: a struct for each of them, its parser and
// its writer. docs/protocol.md, "Runner's calls". Pure.
//
// parse_x gives ec::bad_argument, and the name of the field, for a member of the wrong type or
// beyond its bound. A member that is absent has its default: 0, empty, or none.
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "actors/domain/document.hpp"
#include "actors/domain/states.hpp"
#include "config/clock.hpp"
#include "config/outage.hpp"
#include "config/result.hpp"

namespace ntrace::rpc {

inline constexpr std::uint64_t protocol_version = 1;

/// An attempt that a runner knows of.
struct known_attempt {
  std::uint64_t token = 0;
  std::string run;
  std::string worker;                    ///< Of one that is worked on: the zone's uuid.
  std::optional<domain::verdict> ended;  ///< Of one whose verdict waits in the outbox.
};
/// `hello` and `heartbeat`: the runner's state of the moment.
struct runner_report {
  std::uint64_t version = 0;  ///< Of the protocol; 0: not said.
  std::string name;
  std::uint64_t workers = 0;  ///< Enrolled.
  std::uint64_t free = 0;     ///< To be had at once.
  std::string text;           ///< "3 enrolled, 2 busy, 1 repairing", for people.
  std::vector<known_attempt> attempts;
};
nlohmann::json to_json(const runner_report& m);
result<runner_report> parse_runner_report(const nlohmann::json& value);

struct hello_answer {
  std::uint64_t version = 1;  ///< That both speak.
  milliseconds lease{30'000}, heartbeat{10'000};
  std::uint64_t session = 0;
};
nlohmann::json to_json(const hello_answer& m);
result<hello_answer> parse_hello_answer(const nlohmann::json& value);

/// `offer`, of the dispatcher: a run to work on.
struct offer {
  std::string run;
  std::uint64_t attempt = 1, token = 0;
  std::string owner, repo, sha;
  std::string source;  ///< SPEC.
};
nlohmann::json to_json(const offer& m);
result<offer> parse_offer(const nlohmann::json& value);

/// `abort`, of the dispatcher: the lease is taken back. `accept`: it is taken.
struct about_token {
  std::uint64_t token = 0;
};
nlohmann::json to_json(const about_token& m);
result<about_token> parse_about_token(const nlohmann::json& value);

struct refuse {
  std::uint64_t token = 0;
  std::string reason;
};
nlohmann::json to_json(const refuse& m);
result<refuse> parse_refuse(const nlohmann::json& value);

/// `started`: the zone is up.
struct started {
  std::uint64_t token = 0;
  std::string zone;
};
nlohmann::json to_json(const started& m);
result<started> parse_started(const nlohmann::json& value);

/// `append`: a numbered piece of a stream.
struct append {
  std::uint64_t token = 0, seq = 0;
  domain::stream stream = domain::stream::out;
  std::string data;        ///< At most limits::chunk_bytes_max.
  domain::document event;  ///< What `data` of the stream events says, if that is an object.
};
/// The bytes travel as text when they are short valid UTF-8, else packed.
nlohmann::json to_json(const append& m);
result<append> parse_append(const nlohmann::json& value);

/// `finish`: the verdict.
struct finish {
  std::uint64_t token = 0;
  domain::verdict how = domain::verdict::infrastructure;
  std::string reason;
  domain::document receipt;
  std::optional<outage> lost_to;  ///< What could not be reached.
  /// How many chunks the attempt wrote. Nothing: not known, those that are stored stay as they are.
  std::optional<std::uint64_t> last_seq;
};
nlohmann::json to_json(const finish& m);
result<finish> parse_finish(const nlohmann::json& value);

/// Answer of accept: the lease's length.
struct accepted {
  milliseconds lease{30'000};
};
/// Answer of heartbeat.
struct heartbeat_answer {
  milliseconds lease{30'000};
  std::vector<std::uint64_t> stale;  ///< Tokens that hold no lease.
};
/// Answer of append: everything up to this chunk is stored.
struct append_answer {
  std::uint64_t ack = 0;
};
/// Answer of finish, and of a cancel or requeue (which also name the run).
struct state_answer {
  std::string run;
  domain::run_state state = domain::run_state::queued;
};
struct ok_answer {};
nlohmann::json to_json(const accepted& m);
nlohmann::json to_json(const heartbeat_answer& m);
nlohmann::json to_json(const append_answer& m);
nlohmann::json to_json(const state_answer& m);
nlohmann::json to_json(const ok_answer& m);
result<heartbeat_answer> parse_heartbeat_answer(const nlohmann::json& value);
result<append_answer> parse_append_answer(const nlohmann::json& value);

}  // namespace ntrace::rpc
