#pragma once
// Which writes share a transaction, and so an fsync: what has come together since the last commit,
// up to a bound. Pure.
#include <cstddef>
#include <cstdint>
#include <variant>
#include <vector>

#include "actors/journal/journal_types.hpp"
#include "config/limits.hpp"
#include "config/result.hpp"

namespace ntrace::journal {

/// Call on_flush() once what waits in the mailbox before it has been given to on_write().
struct flush_soon {};
/// Write these in one transaction and sync it; answer by on_written.
struct write_batches {
  std::vector<batch> batches;
};
/// The outcome of the write of that tag.
struct tell_writer {
  std::uint64_t tag;
  result<committed> outcome;
};
using group_effects = std::vector<std::variant<flush_soon, write_batches, tell_writer>>;

class group_commit_fsm {
public:
  /// `tag` comes back with the outcome. ec::overloaded above limits::journal_queue_max.
  group_effects on_write(std::uint64_t tag, batch ops);
  group_effects on_flush();
  /// What became of the last write_batches: one outcome for each batch, or nothing of it is there.
  group_effects on_written(result<std::vector<committed>> done);

  std::size_t waiting() const { return batches_.size(); }
  /// Everything given to on_write() has its outcome: what is on disk is all there will be of it.
  bool is_idle() const { return batches_.empty() && writing_.empty(); }

private:
  void flush(group_effects& out);

  std::vector<batch> batches_;
  std::vector<std::uint64_t> tags_, writing_;
  bool is_flush_asked_ = false;
};

/// Takes the runs that are new out of batches that were written; `done`: what each gave.
std::vector<run_row> take_new_runs(std::vector<batch>& batches, const std::vector<committed>& done);

}  // namespace ntrace::journal
