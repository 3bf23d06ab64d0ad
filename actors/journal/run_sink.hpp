#pragma once
// Where new runs go once they are durable.
#include <vector>

#include "actors/domain/run.hpp"

namespace ntrace::journal {

/// Thread-safe.
class run_sink {
public:
  run_sink() = default;
  run_sink(const run_sink&) = delete;
  run_sink& operator=(const run_sink&) = delete;
  virtual ~run_sink() = default;
  /// Before who pushed them is answered.
  virtual void add(std::vector<domain::run_row> runs) = 0;
  /// The queue is being read from the journal: what was added before will be found there.
  virtual void begin_recovery() = 0;
};

}  // namespace ntrace::journal
