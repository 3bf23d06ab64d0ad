#include "tests/support/invariants.hpp"

#include "config/overload.hpp"

namespace ntrace::test {
namespace {

using namespace domain;

/// The state that a story's line leads to; nullopt for lines that change none.
std::optional<run_state> state_after(const journal::event& e) {
  if (e.what == "requeued" || e.what == "attempt_ended") return run_state::queued;
  if (e.what == "accepted" || e.what == "revived") return run_state::leased;
  if (e.what == "started") return run_state::running;
  if (e.what == "cancelled") return run_state::cancelled;
  if (e.what == "ended") return run_state_from(e.detail.value("state", ""));
  return {};
}

}  // namespace

void invariant_checker::fail(const char* invariant, std::string what) {
  if (violations_.size() < 100) violations_.push_back({invariant, std::move(what)});
}

void invariant_checker::check(const char* invariant, bool holds, const std::string& what) {
  ++met_[invariant];
  if (!holds) fail(invariant, what);
}

void invariant_checker::on(const fact& f) {
  switch (f.kind) {
    case fact_kind::sent:
      break;
    case fact_kind::acked:
      if (deleted_.count(f.run) != 0) break;  // It has ended since.
      check("S1", runs_.count(f.run) != 0, "acknowledged run " + f.run + " is not on the disk");
      if (const auto at = run_of_key_.find(f.text); at != run_of_key_.end())
        check("S3", at->second == f.run,
              "key " + f.text + " was answered with " + f.run + ", it belongs to " + at->second);
      if (const auto at = runs_.find(f.run); !f.who.empty() && at != runs_.end())
        check("S3", at->second.row.sha == f.who,
              "a push of " + f.who + " was answered with " + f.run + ", which is of " +
                  at->second.row.sha);
      acked_.insert(f.run);
      break;
    case fact_kind::committed:
      on_operation(f);
      break;
    case fact_kind::deleted:
      on_deleted(f.run);
      break;
    case fact_kind::recovered: {
      std::map<std::string, const journal::run_row*> seen;
      for (const auto& r : f.runs) seen[r.id] = &r;
      for (const auto& [id, r] : runs_) {
        const auto at = seen.find(id);
        const bool is_open = !is_terminal(r.row.state);
        check("S2",
              is_open == (at != seen.end()) &&
                  (!is_open ||
                   (at->second->state == r.row.state && at->second->attempts == r.row.attempts &&
                    outages_of(at->second->outages) == outages_of(r.row.outages) &&
                    at->second->last_seq == r.chunks)),
              "run " + id + " came back otherwise than it was committed");
        if (r.is_cancelled)
          check("S15", r.row.state == domain::run_state::cancelled,
                "the acknowledged cancel of " + id + " is gone after a restart");
      }
      for (auto& [token, at] : alive_at_) at = f.at;
      break;
    }
    case fact_kind::renewed: {
      // What was heard counts from there, though it may be known later that it was good.
      const auto heard = f.n.empty() ? f.at : f.at - milliseconds{f.n[0]};
      heard_at_[f.token] = std::max(heard_at_[f.token], heard);
      if (const auto at = alive_at_.find(f.token); at != alive_at_.end())
        at->second = std::max(at->second, heard);
      break;
    }
    case fact_kind::lease_expired:
      if (const auto at = alive_at_.find(f.token); at != alive_at_.end())
        check("S4", f.at - at->second >= options_.lease / 2,
              "the lease of token " + std::to_string(f.token) +
                  " expired early: its holder was heard less than a term ago");
      break;
    case fact_kind::verdict_early:
      fail("S9", "a verdict of " + f.who + " overtook chunks, or they were lost on their way");
      break;
    case fact_kind::lease_begun:
      begun_.insert(f.token);
      break;
    case fact_kind::zone_begun:
    case fact_kind::zone_proved:
    case fact_kind::zone_used:
    case fact_kind::zone_ended:
      on_zone(f);
      break;
    case fact_kind::zone_expired:
      expired_.insert(f.token);
      on_attempt_over(f.token);
      break;
    case fact_kind::attempt_over:
      on_attempt_over(f.token);
      break;
    case fact_kind::outage_met:
      lost_to_outage_[f.token] = f.text;
      break;
    case fact_kind::outages_kept:
      check("S13", f.n[0] == runs_[f.run].outages,
            std::to_string(f.n[0]) + " attempts of " + f.run +
                " are on record as lost to outages, " + std::to_string(runs_[f.run].outages) +
                " were");
      break;
    case fact_kind::told_stale:
      stale_at_.try_emplace(f.token, f.at);
      break;
    case fact_kind::cancel_acked:
      if (deleted_.count(f.run) != 0) break;
      runs_[f.run].is_cancelled = true;
      check("S15", runs_[f.run].row.state == domain::run_state::cancelled,
            "the cancel of " + f.run + " was acknowledged and is not on the disk");
      break;
    case fact_kind::drain_acked:
      ++met_["S19"];
      is_drained_ = true;
      break;
    case fact_kind::resume_sent:
      is_drained_ = false;
      break;
    case fact_kind::doc_acked:
      check("S1", docs_.count(f.text) != 0,
            "acknowledged document " + f.text + " is not on the disk");
      break;
    case fact_kind::workers:
      check("S17", f.n[0] == f.n[1] + f.n[2] + f.n[3] && f.n[2] == f.n[4],
            f.who + " has " + std::to_string(f.n[0]) + " workers: " + std::to_string(f.n[1]) +
                " free, " + std::to_string(f.n[2]) + " busy (" + std::to_string(f.n[4]) +
                " with an attempt), " + std::to_string(f.n[3]) + " repairing");
      break;
    case fact_kind::held_bytes:
      check("S16", f.n[0] <= f.n[1], f.text + " of " + f.who + " is above its bound");
      break;
    case fact_kind::child_restarted:
      check("V1", f.n[0] <= f.n[1],
            f.text + " of " + f.who + " was restarted after " + std::to_string(f.n[0]) +
                " ms, at most " + std::to_string(f.n[1]) + " were due");
      break;
    case fact_kind::crashed:
      for (const auto& [token, w] : std::map{at_work_})
        if (w.runner == f.who) on_attempt_over(token);
      std::erase_if(zones_, [&](const auto& z) { return z.first.starts_with(f.who + "/"); });
      break;
    case fact_kind::quiet:
      break;
    case fact_kind::asserted:
      fail("A1", f.text);
      break;
    case fact_kind::finished:
      for (const auto& id : acked_)
        check("L1", is_terminal(runs_[id].row.state),
              "run " + id + " is " + std::string{to_string(runs_[id].row.state)} +
                  " long after the last fault");
      for (const auto& [id, r] : runs_) {
        ++met_["S18"];
        if (r.last_event != to_string(r.row.state))
          fail("S18", "the story of " + id + " ends with " + r.last_event + ", its state is " +
                          std::string{to_string(r.row.state)});
      }
      check("L5", f.n[0] == 0, std::to_string(f.n[0]) + " outbox entries are left");
      check("L5", f.n[4] == 0,
            std::to_string(f.n[4]) + " requests or connections are held and never served");
      check("L1", f.n[5] == 0, std::to_string(f.n[5]) + " pushes are never acknowledged");
      check("L3", f.n[1] == 0, std::to_string(f.n[1]) + " links are down");
      check("L2", f.n[2] == 0,
            std::to_string(f.n[2]) + " workers are busy with nothing left to do");
      check("L4", f.n[3] == 0, std::to_string(f.n[3]) + " zones were never clean again");
      break;
  }
}

void invariant_checker::on_deleted(const std::string& run) {
  const auto& r = runs_[run];
  check("S20", is_terminal(r.row.state),
        "run " + run + " was deleted while it was " + std::string{to_string(r.row.state)});
  run_of_key_.erase(r.key);
  acked_.erase(run);
  deleted_.insert(run);
  runs_.erase(run);
}

void invariant_checker::on_operation(const fact& f) {
  std::visit(
      [&](const auto& o) {
        if constexpr (requires { std::string{o.run}; })
          if (deleted_.count(o.run) != 0)
            fail("S20", "something was written of run " + o.run + " after it had been deleted");
      },
      f.op);
  std::visit(
      overload{
          [&](const journal::insert_run& o) {
            if (!o.key.empty()) {
              const auto [at, is_new] = run_of_key_.emplace(o.key, o.run.id);
              check("S3", is_new,
                    "key " + o.key + " has two runs, " + at->second + " and " + o.run.id);
            }
            runs_[o.run.id].row = o.run;
            runs_[o.run.id].last_event = to_string(domain::run_state::queued);
            runs_[o.run.id].key = o.key;
          },
          [&](const journal::set_run& o) { on_set_run(f, o); },
          [&](const journal::put_attempt& o) {
            check("S5", o.token > last_token_,
                  "token " + std::to_string(o.token) + " follows " + std::to_string(last_token_));
            last_token_ = std::max(last_token_, o.token);
            if (is_drained_)
              fail("S19", "run " + o.run + " was offered after the drain was acknowledged");
            run_of_token_[o.token] = o.run;
          },
          [&](const journal::end_attempt& o) { on_end_attempt(f, o); },
          [&](const journal::set_outages& o) { runs_[o.run].row.outages = o.record; },
          [&](const journal::revive& o) { on_revive(f, o); },
          [&](const journal::append_chunk& o) {
            auto& r = runs_[o.run];
            check("S6",
                  r.row.token == o.token && (!options_.chunks_name_tokens ||
                                             o.data.starts_with(std::to_string(o.token) + ":")),
                  "chunk \"" + o.data + "\" was stored for token " + std::to_string(o.token) +
                      ", live is " + std::to_string(r.row.token));
            check("S8", o.seq == r.chunks + 1,
                  "chunk " + std::to_string(o.seq) + " of " + o.run + " follows " +
                      std::to_string(r.chunks));
            r.chunks = chunks_[o.token] = o.seq;
          },
          [](const journal::bind_run_id&) {},
          [&](const journal::append_doc& o) {
            auto& r = runs_[o.run];
            check("S6", r.row.token == o.token,
                  "document " + o.doc + " was stored for token " + std::to_string(o.token) +
                      ", live is " + std::to_string(r.row.token));
            check("S8", docs_.insert(o.doc).second, "document " + o.doc + " was stored twice");
            r.chunks = chunks_[o.token] = r.chunks + o.pieces.size();
          },
          [](const journal::set_flag&) {},
          [&](const journal::event& o) {
            if (const auto s = state_after(o)) runs_[o.run].last_event = to_string(*s);
          }},
      f.op);
}

void invariant_checker::on_end_attempt(const fact& f, const journal::end_attempt& o) {
  auto& r = runs_[o.run];
  check("S6", r.row.token == o.token,
        "a verdict of token " + std::to_string(o.token) + " was stored, live is " +
            std::to_string(r.row.token));
  // The receipt names how many chunks the verdict speaks of.
  const auto& receipt = *o.receipt;
  if (receipt.is_object() && receipt.contains("chunks"))
    check("S9", receipt["chunks"] == r.chunks,
          "the verdict of " + o.run + " names " + receipt["chunks"].dump() +
              " chunks, stored are " + std::to_string(r.chunks));
  r.ended_with = o.verdict;
  const auto met = lost_to_outage_.find(o.token);
  const bool is_outage = met != lost_to_outage_.end() && met->second == o.reason;
  if (!is_outage) {
    r.outage_since.reset();
    return;
  }
  ++r.outages;
  if (!r.outage_since) r.outage_since = f.at;
}

/// Given up is a run whose attempts are used up, outages not counted, or one that waited for as
/// long as the patience lasts; half of that, because clocks drift and restarts lose some of it.
void invariant_checker::check_quarantine(const fact& f, const run_state& r,
                                         const journal::set_run& o) {
  check("S13", !o.reason.empty(), "run " + o.run + " was quarantined without a reason");
  const bool has_waited = r.outage_since && f.at - *r.outage_since >= options_.outage_patience / 2;
  check("S13", r.accepted - r.outages >= options_.attempts || has_waited,
        "run " + o.run + " was quarantined after " + std::to_string(r.accepted) +
            " attempts, of which " + std::to_string(r.outages) + " met an outage");
}

void invariant_checker::on_set_run(const fact& f, const journal::set_run& o) {
  using domain::run_state;
  auto& r = runs_[o.run];
  const auto before = r.row.state;
  ++transitions_[std::string{to_string(before)} + ">" + std::string{to_string(o.state)}];
  if (o.state == run_state::leased) {
    check("S4", before == run_state::queued,
          "run " + o.run + " was leased again while it was " + std::string{to_string(before)});
    std::string others;
    for (const auto& [token, w] : at_work_)
      if (w.run == o.run) others += " " + std::to_string(token);
    check("S4", others.empty(),
          "run " + o.run + " was leased with token " + std::to_string(o.token) +
              " while others still worked on it:" + others);
    ++r.accepted;
    r.last_accepted = o.token;
    check("S13", r.accepted - r.outages <= options_.attempts,
          "run " + o.run + " is at attempt " + std::to_string(o.attempts) + ", of which " +
              std::to_string(r.outages) + " met an outage");
    // The lease counts from the accept, whose write may have taken long.
    const auto heard = heard_at_.find(o.token);
    alive_at_[o.token] = heard == heard_at_.end() ? f.at : heard->second;
  }
  if (o.state == run_state::quarantined) check_quarantine(f, r, o);
  if (is_terminal(o.state))
    check("S7", !is_terminal(before), "run " + o.run + " got a second verdict");
  if (o.state == run_state::queued) {
    check("S7", !o.verdict, "run " + o.run + " is queued and keeps a verdict");
    check("S14",
          is_terminal(before) || (r.ended_with != domain::verdict::script_failed &&
                                  r.ended_with != domain::verdict::source_failed),
          "run " + o.run + " is retried though its script failed, or its source is not there");
    if (is_terminal(before)) {
      r.last_accepted = 0;
      r.outages = 0;
      r.ended_with.reset();
      r.outage_since.reset();
      r.accepted = 0;  // Requeued: a new epoch. What a cancel left running has no part in it.
      std::erase_if(at_work_, [&](const auto& w) { return w.second.run == o.run; });
      r.is_cancelled = false;
    }
  }
  if (o.state == run_state::queued || is_terminal(o.state)) {
    if (o.token == 0) alive_at_.erase(r.row.token);
  }
  if (o.token != r.row.token) r.chunks = chunks_[o.token];
  r.row.state = o.state;
  r.row.attempts = o.attempts;
  r.row.token = o.token;
  r.verdict = o.verdict;
}

/// An attempt that expired gets its lease back: nothing may have happened to its run since.
void invariant_checker::on_revive(const fact& f, const journal::revive& o) {
  using domain::run_state;
  auto& r = runs_[o.run];
  ++transitions_["queued>leased"];
  check("S4", r.row.state == run_state::queued && r.last_accepted == o.token,
        "token " + std::to_string(o.token) + " of run " + o.run + " was revived while it was " +
            std::string{to_string(r.row.state)} + ", accepted last was " +
            std::to_string(r.last_accepted));
  for (const auto& [token, w] : at_work_)
    check("S4", w.run != o.run || token == o.token,
          "token " + std::to_string(o.token) + " was revived while " + std::to_string(token) +
              " worked on its run");
  alive_at_[o.token] = f.at;
  r.row.state = run_state::leased;
  r.row.token = o.token;
  r.chunks = chunks_[o.token];
  r.verdict.reset();
}

void invariant_checker::on_attempt_over(std::uint64_t token) {
  over_.insert(token);
  at_work_.erase(token);
}

void invariant_checker::on_zone(const fact& f) {
  auto& z = zones_[f.zone];
  switch (f.kind) {
    case fact_kind::zone_begun:
      check("S10", begun_.count(f.token) != 0,
            "zone " + f.zone + " was begun for token " + std::to_string(f.token) +
                " before its accept was answered");
      check("S11", z.token == 0,
            "zone " + f.zone + " was begun for token " + std::to_string(f.token) +
                " while it belongs to " + std::to_string(z.token));
      z = {f.token, false};
      if (const auto at = run_of_token_.find(f.token);
          at != run_of_token_.end() && over_.count(f.token) == 0)
        at_work_[f.token] = {at->second, f.who};
      break;
    case fact_kind::zone_proved:
      check("S12", expired_.count(f.token) == 0,
            "zone " + f.zone + " came up for token " + std::to_string(f.token) +
                " after its lease was over");
      z.is_proved = true;
      break;
    case fact_kind::zone_used:
      check("S12", expired_.count(f.token) == 0,
            "token " + std::to_string(f.token) + " works in zone " + f.zone +
                " after its lease was over");
      check("S11", z.token == f.token && z.is_proved,
            "token " + std::to_string(f.token) + " works in zone " + f.zone +
                " without a proof of clean");
      break;
    default:
      if (const auto at = stale_at_.find(z.token); at != stale_at_.end())
        check("S12", f.at - at->second <= options_.kill_deadline,
              "token " + std::to_string(z.token) + " ran on after its runner knew it was stale");
      z = {};
      break;
  }
}

}  // namespace ntrace::test
