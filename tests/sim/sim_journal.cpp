// The dispatcher's journal: group_commit_fsm on the simulated disk.
#include "config/mutation.hpp"
#include "config/overload.hpp"
#include "tests/sim/sim_dispatcher.hpp"

namespace ntrace::sim {

using namespace dispatcher;
using nlohmann::json;

void sim_dispatcher::note_durable(const std::vector<journal::operation>& ops) {
  for (const auto& op : ops) {
    fact f;
    f.kind = fact_kind::committed;
    f.op = op;
    world_.note(std::move(f));
  }
}

/// What an earlier dispatcher asked for is decided first.
void sim_dispatcher::recover(const reply& answer) {
  if (group_.is_idle() || mutated(mutation::recovery_does_not_wait)) {
    gate_->begin_recovery();
    return answer(json());
  }
  after_between(100, 1000, tree_.only_for("journal", [this, answer] { recover(answer); }));
}

void sim_dispatcher::perform(journal::group_effects todo) {
  for (auto& one : todo) {
    std::visit(
        overload{[&](const journal::flush_soon&) {
                   after_between(0, 200,
                                 tree_.only_for("journal", [this] { perform(group_.on_flush()); }));
                 },
                 [&](journal::write_batches& e) { write(std::move(e.batches)); },
                 [&](const journal::tell_writer& e) {
                   const auto answer = std::move(writers_.extract(e.tag).mapped());
                   if (!e.outcome) return answer(fail(e.outcome.error()));
                   json out{{"seq", e.outcome->seq},           {"stale", e.outcome->is_stale},
                            {"last_seq", e.outcome->last_seq}, {"gap", e.outcome->is_gap},
                            {"known", e.outcome->is_known},    {"at_ms", e.outcome->at_ms}};
                   if (const auto& old = e.outcome->duplicate_of)
                     out["duplicate"] = {old->id, static_cast<int>(old->state)};
                   for (const auto& d : e.outcome->differences)
                     out["differences"].push_back({d.member, d.then, d.now});
                   answer(out);
                 }},
        one);
  }
}

void sim_dispatcher::crowd_journal(milliseconds lasts) {
  const bool is_new = now() >= crowded_until_;
  crowded_until_ = std::max(crowded_until_, now() + lasts);
  if (is_new && is_alive_ && tree_.is_up("journal")) retain();
}

void sim_dispatcher::retain() {
  if (now() >= crowded_until_) return;
  delete_ended();
  after_between(50, 200'000, tree_.only_for("journal", [this] { retain(); }));
}

/// Between two writes, as the journal's actor does it: never between a write and its sync.
void sim_dispatcher::delete_ended() {
  if (has_unsynced_ || now() < failing_until_) return;
  for (const auto& run : disk_.delete_ended()) {
    world_.met("disk.run_deleted");
    fact f;
    f.kind = fact_kind::deleted;
    f.run = run;
    world_.note(std::move(f));
  }
}

/// Two moments: the write, and the sync that makes it count. A crash may come between them.
void sim_dispatcher::write(std::vector<journal::batch> batches) {
  const std::uint64_t slow = now() < slow_until_ ? 400'000 : 0;
  const auto synced = [this](const result<std::vector<journal::committed>>& done) {
    perform(group_.on_written(done));
  };
  const auto written = std::make_shared<std::vector<journal::batch>>(std::move(batches));
  const auto sync = [this, synced, written](const std::vector<journal::committed>& done) {
    has_unsynced_ = false;
    if (now() < failing_until_) {
      world_.met("disk.sync_failed");
      disk_.roll_back();
      return synced(fail(ec::journal_failed, "fsync failed"));
    }
    note_durable(disk_.sync());
    gate_->add(journal::take_new_runs(*written, done));
    synced(done);
  };
  const auto begin = [this, synced, sync, slow, written] {
    if (now() < full_until_) {
      world_.met("disk.refused_full");
      return synced(fail(ec::journal_full, "no room on the journal's disk"));
    }
    const auto done = disk_.write(*written, wall_now_ms());
    has_unsynced_ = true;
    after_between(100, 3000 + slow, tree_.only_for("journal", [sync, done] { sync(done); }));
  };
  after_between(20, 500 + slow, tree_.only_for("journal", begin));
}

void sim_dispatcher::write_all(const std::vector<journal::batch>& batches, const reply& answer) {
  const auto outcomes = std::make_shared<json>(batches.size(), json());
  const auto missing = std::make_shared<std::size_t>(batches.size());
  for (std::size_t i = 0; i < batches.size(); ++i) {
    writers_[next_write_] = [=](const result<json>& said) {
      (*outcomes)[i] =
          said ? *said
               : json{{"code", static_cast<int>(said.error().code)}, {"why", said.error().message}};
      if (--*missing == 0) answer(*outcomes);
    };
    perform(group_.on_write(next_write_++, batches[i]));
  }
}

result<json> sim_dispatcher::outcome_in(const json& one) {
  if (!one.contains("code")) return one;
  return fail(static_cast<ec>(one["code"].get<int>()), one["why"].get<std::string>());
}

result<journal::committed> sim_dispatcher::committed_from(const result<json>& said) {
  if (!said) {
    auto why = said.error();
    if (why.code == ec::child_failed)
      why = {ec::journal_failed, "the journal restarts; try again", {}};
    return fail(std::move(why));
  }
  journal::committed done;
  done.seq = said->value("seq", std::uint64_t{0});
  done.is_stale = said->value("stale", false);
  done.last_seq = said->value("last_seq", std::uint64_t{0});
  done.is_gap = said->value("gap", false);
  done.is_known = said->value("known", false);
  done.at_ms = said->value("at_ms", std::int64_t{0});
  if (const auto old = said->find("duplicate"); old != said->end()) {
    done.duplicate_of.emplace();
    done.duplicate_of->id = (*old)[0].get<std::string>();
    done.duplicate_of->state = static_cast<run_state>((*old)[1].get<int>());
  }
  if (const auto all = said->find("differences"); all != said->end())
    for (const auto& d : *all) done.differences.push_back({d[0], d[1], d[2]});
  return done;
}

}  // namespace ntrace::sim
