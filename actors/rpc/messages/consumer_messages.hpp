#pragma once
// What consumers of the old protocol hear and say: a job, and one document at a time of its run.
// docs/protocol.md, "Consumers of the old protocol". Pure.
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

#include "actors/domain/document.hpp"
#include "actors/domain/states.hpp"
#include "config/result.hpp"

namespace ntrace::rpc {

/// Answer of `next`.
struct job {
  std::string run;
  std::string owner, repo, sha;
  std::string payload;  ///< What was pushed, as JSON text; empty: no payload.
};
nlohmann::json to_json(const job& m);

/// `result`.
struct result_doc {
  std::string id;      ///< Unique; a repeated one is the same document.
  std::string run_id;  ///< The consumer's own name of its run.
  std::string owner, repo, sha;
  std::optional<domain::stream> stream;  ///< Nothing: control.
  std::string data;                      ///< As a chunk holds it; empty for control.
  std::optional<domain::stream> ended;   ///< Of control: the stream that ended.
  domain::document event;                ///< Of events: `data`.
  /// Of events: what an entry of level error says went wrong.
  std::string failure;
};
/// `args`: the arguments of a `result` request. ec::bad_argument names the field that is missing
/// or wrong; nothing that a peer sends throws.
result<result_doc> parse_result_doc(const nlohmann::json& args);

/// Answer of `result`.
struct stored {
  bool is_duplicate = false;
};
nlohmann::json to_json(const stored& m);

}  // namespace ntrace::rpc
