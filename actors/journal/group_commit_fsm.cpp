#include "actors/journal/group_commit_fsm.hpp"

#include <utility>

#include "config/assert.hpp"
#include "config/mutation.hpp"

namespace ntrace::journal {

group_effects group_commit_fsm::on_write(std::uint64_t tag, batch ops) {
  group_effects out;
  if (batches_.size() >= limits::journal_queue_max) {
    out.push_back(
        tell_writer{tag, fail(ec::overloaded, "the journal's queue is full; try again later")});
    return out;
  }
  batches_.push_back(std::move(ops));
  tags_.push_back(tag);
  if (batches_.size() >= limits::batch_max && writing_.empty())
    flush(out);
  else if (!std::exchange(is_flush_asked_, true))
    out.push_back(flush_soon{});
  return out;
}

void group_commit_fsm::flush(group_effects& out) {
  NTRACE_ASSERT(writing_.empty(), "one write at a time");
  NTRACE_ASSERT(batches_.size() == tags_.size(), "each batch has its writer");
  writing_ = std::exchange(tags_, {});
  out.push_back(write_batches{std::exchange(batches_, {})});
}

group_effects group_commit_fsm::on_flush() {
  group_effects out;
  is_flush_asked_ = false;
  if (!batches_.empty() && writing_.empty()) flush(out);
  return out;
}

group_effects group_commit_fsm::on_written(result<std::vector<committed>> done) {
  group_effects out;
  const auto tags = std::exchange(writing_, {});
  NTRACE_ASSERT(!done || done->size() == tags.size(), "each batch has its outcome");
  for (std::size_t i = 0; i < tags.size(); ++i) {
    if (done)
      out.push_back(tell_writer{tags[i], std::move((*done)[i])});
    else if (mutated(mutation::fsync_error_ignored))
      out.push_back(tell_writer{tags[i], committed{}});
    else
      out.push_back(tell_writer{tags[i], fail(done.error())});
  }
  if (!batches_.empty() && !std::exchange(is_flush_asked_, true)) out.push_back(flush_soon{});
  return out;
}

std::vector<run_row> take_new_runs(std::vector<batch>& batches,
                                   const std::vector<committed>& done) {
  NTRACE_ASSERT(batches.size() == done.size(), "each batch has its outcome");
  std::vector<run_row> out;
  for (std::size_t i = 0; i < batches.size(); ++i) {
    NTRACE_ASSERT(!batches[i].empty(), "a batch writes something");
    auto* in = std::get_if<insert_run>(&batches[i].front());
    if (in && !done[i].is_void()) out.push_back(std::move(in->run));
  }
  return out;
}

}  // namespace ntrace::journal
