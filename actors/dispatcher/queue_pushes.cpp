// The part of queue_fsm that takes pushes, or says no to them.
#include <utility>

#include "actors/dispatcher/queue_fsm.hpp"
#include "config/limits.hpp"

namespace ntrace::dispatcher {
namespace {

// What a peer that pushes nonsense, or at a full queue, can make the journal write.
constexpr milliseconds refusal_window{60'000};
constexpr std::uint64_t refusals_per_window = 120;
constexpr std::size_t early_pushes_max = 65'536;

}  // namespace

result<void> queue_fsm::may_push() const {
  if (is_draining_ || is_stopping_)
    return fail(ec::draining,
                "the dispatcher drains and takes no new work; `ntrace resume` ends that");
  if (open_runs() >= limits::pushes_queued_max)
    return fail(ec::overloaded, "the queue holds " + std::to_string(limits::pushes_queued_max) +
                                    " runs; push again later");
  if (is_recovering_ && pushed_early_ >= early_pushes_max)
    return fail(ec::overloaded, "the dispatcher still reads its queue; push again in a moment");
  return {};
}

effects queue_fsm::on_push(time_point now, request_id request, const result<push_request>& push,
                           std::string run_id, std::int64_t at_ms) {
  if (!push) return refuse(now, request, run_id, nullptr, push.error());
  if (auto may = may_push(); !may) return refuse(now, request, run_id, &*push, may.error());
  effects out;
  if (is_recovering_) ++pushed_early_;
  run_row row;
  row.id = std::move(run_id);
  row.owner = push->owner;
  row.repo = push->repo;
  row.sha = push->sha;
  row.priority = push->priority;
  row.created_ms = at_ms;
  row.deadline_ms = push->deadline_ms;
  row.source = push->source.empty()
                   ? fill_source(options_.source_template, push->owner, push->repo, push->sha)
                   : push->source;
  journal::batch ops;  // Filled by a move: a list in braces would be copied.
  ops.push_back(journal::insert_run{row, push->key, push->payload});
  if (mutated(mutation::ack_before_commit))
    out.push_back(answer{request, to_json(receipt{row.id, run_state::queued, false, 0})});
  write(out, std::move(ops),
        [this, request, row = std::move(row), pushed = now](
            time_point then, const result<journal::committed>& done, effects& next) {
          if (!done) {
            next.push_back(answer{request, fail(done.error())});
            return;
          }
          if (done->duplicate_of) {
            const auto& old = *done->duplicate_of;
            next.push_back(answer{request, to_json(receipt{old.id, old.state, true, 0})});
            return;
          }
          waiting_.add(row);
          if (row.deadline_ms != 0)
            watch_deadline(pushed + milliseconds{row.deadline_ms}, row.id, next);
          next.push_back(
              answer{request, to_json(receipt{row.id, run_state::queued, false, done->seq})});
          schedule(then, next);
        });
  return out;
}

/// The no is recorded under the id that the run would have had, and the answer names it, so that
/// `why` tells it later; of very many only some are.
effects queue_fsm::refuse(time_point now, request_id request, const std::string& run_id,
                          const push_request* push, error why) {
  effects out;
  ++refused_;
  if (now >= refusals_end_) {
    refusals_end_ = now + refusal_window;
    refusals_ = 0;
  }
  if (++refusals_ > refusals_per_window) {
    ++refused_unrecorded_;
    out.push_back(answer{request, fail(std::move(why))});
    return out;
  }
  nlohmann::json told{{"code", to_string(why.code)}, {"reason", why.message}};
  if (push) {
    told["owner"] = push->owner;
    told["repo"] = push->repo;
    told["sha"] = push->sha;
    if (!push->key.empty()) told["key"] = push->key;
  }
  write(out, {journal::event{run_id, 0, 0, "intake", journal::push_refused, std::move(told)}},
        [this, request, run_id, why = std::move(why)](
            time_point, const result<journal::committed>& done, effects& next) {
          auto said = why;
          if (done)
            said.facts.emplace_back("run", run_id);
          else
            ++refused_unrecorded_;
          next.push_back(answer{request, fail(std::move(said))});
        });
  return out;
}

effects queue_fsm::on_drain(time_point now, request_id request, bool draining) {
  effects out;
  // Work stops at once; it begins again only when the end of the drain is on disk.
  const bool before = std::exchange(is_draining_, is_draining_ || draining);
  write(out, {journal::set_flag{journal::draining_flag, draining}},
        [this, request, draining, before](time_point then, const result<journal::committed>& done,
                                          effects& next) {
          if (!done) {
            is_draining_ = before;  // Who asked is told that nothing changed.
            next.push_back(answer{request, fail(done.error())});
          } else {
            is_draining_ = draining;
            next.push_back(answer{request, nlohmann::json{{"draining", draining}}});
          }
          schedule(then, next);
        });
  schedule(now, out);
  return out;
}

}  // namespace ntrace::dispatcher
