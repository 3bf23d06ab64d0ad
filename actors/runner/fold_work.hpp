#pragma once
// A capture on its way to folded stacks: fed with perf's text as it comes, then packed.
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "actors/profiler/fold_perf.hpp"

namespace ntrace::runner {

struct fold_work {
  profiler::fold_options options;
  std::optional<profiler::perf_folder> folder;
  std::optional<profiler::perf_feed> feed;
  result<void> fed{};
  std::string words;                                ///< Of perf's standard error.
  nlohmann::json facts = nlohmann::json::object();  ///< Of what was collected for it.
};

struct packed_stacks {
  nlohmann::json facts;  ///< For the run's receipt.
  std::uint64_t samples = 0;
  std::string zstd;
};

/// Ends the feed; what it came to.
result<packed_stacks> pack_stacks(fold_work& work);

}  // namespace ntrace::runner
