#pragma once
// What a consumer of the old protocol says of its run: one document at a time.
// docs/protocol.md, "Consumers of the old protocol".
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

#include "config/result.hpp"

namespace ntrace::dispatcher {

struct result_doc {
  std::string id;      ///< Unique; a repeated one is the same document.
  std::string run_id;  ///< The consumer's own name of its run.
  std::string owner, repo, sha;
  std::string stream;  ///< stdout, stderr, events, control or result.
  std::string data;    ///< As a chunk holds it; empty for control.
  /// Of control: the stream that ended.
  std::string ended;
  /// Of events: what an entry of level error says went wrong.
  std::string failure;
};

/// `args`: the arguments of a `result` request. ec::bad_argument names the field that is missing
/// or wrong; nothing that a peer sends throws.
result<result_doc> parse_result_doc(const nlohmann::json& args);

/// The streams that end before a run has.
inline constexpr const char* result_streams[] = {"stdout", "stderr", "events", "result"};

}  // namespace ntrace::dispatcher
