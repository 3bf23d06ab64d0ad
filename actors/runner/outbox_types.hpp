#pragma once
// What the outbox keeps on disk of attempts: the lines that are written, and what is found of them
// after a restart.
#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "actors/rpc/messages/runner_messages.hpp"

namespace ntrace::runner {

/// A numbered piece of an attempt's output.
struct chunk {
  std::uint64_t seq = 0;
  domain::stream stream = domain::stream::out;
  std::string data;
};

struct begun_record {
  std::uint64_t token = 0;
  std::string run;
};
struct started_record {
  std::uint64_t token = 0;
  rpc::started said;
};
struct chunk_record {
  std::uint64_t token = 0;
  chunk piece;
};
/// How many chunks there are is found out when it is said.
struct finish_record {
  std::uint64_t token = 0;
  rpc::finish said;
};
/// The dispatcher has everything up to `seq`: it is not needed any more.
struct acked_record {
  std::uint64_t token = 0, seq = 0;
};
/// Nothing of the attempt is needed any more.
struct over_record {
  std::uint64_t token = 0;
};
using outbox_record = std::variant<begun_record, started_record, chunk_record, finish_record,
                                   acked_record, over_record>;

/// What is on disk of one attempt.
struct kept_attempt {
  std::uint64_t token = 0;
  std::string run;
  std::optional<rpc::started> started;  ///< Nothing when it was not said, or is acknowledged.
  std::optional<rpc::finish> finish;
  std::uint64_t acked = 0;              ///< Chunks up to it are not needed.
  std::vector<std::size_t> size_bytes;  ///< Of the chunks after `acked`, in order, without gaps.
};

}  // namespace ntrace::runner
