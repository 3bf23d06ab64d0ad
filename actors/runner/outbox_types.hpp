#pragma once
// What the outbox keeps on disk of attempts: the lines that are written, and what is found of them
// after a restart.
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <variant>
#include <vector>

namespace ntrace::runner {

/// A numbered piece of an attempt's output.
struct chunk {
  std::uint64_t seq = 0;
  std::string stream, data;
};

struct begun_record {
  std::uint64_t token = 0;
  std::string run;
};
struct started_record {
  std::uint64_t token = 0;
  nlohmann::json args;
};
struct chunk_record {
  std::uint64_t token = 0;
  chunk piece;
};
struct finish_record {
  std::uint64_t token = 0;
  nlohmann::json args;
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
  nlohmann::json started;  ///< Null when it was not said, or is acknowledged.
  std::optional<nlohmann::json> finish;
  std::uint64_t acked = 0;              ///< Chunks up to it are not needed.
  std::vector<std::size_t> size_bytes;  ///< Of the chunks after `acked`, in order, without gaps.
};

}  // namespace ntrace::runner
