#include "tests/sim/sim_disk.hpp"

#include <algorithm>
#include <utility>

#include "actors/journal/push_identity.hpp"
#include "config/mutation.hpp"
#include "config/overload.hpp"

namespace ntrace::sim {

using namespace journal;

std::vector<committed> sim_disk::write(const std::vector<batch>& batches, std::int64_t wall_ms) {
  written_ = durable_;
  unsynced_.clear();
  std::vector<committed> out;
  for (const auto& b : batches) {
    auto next = *written_;
    auto done = apply(next, b, wall_ms);
    if (!done.is_void()) {
      written_ = std::move(next);
      unsynced_.insert(unsynced_.end(), b.begin(), b.end());
    }
    out.push_back(std::move(done));
  }
  return out;
}

bool sim_disk::has_live(const image& in, const std::string& run, std::uint64_t token) {
  const auto at = in.runs.find(run);
  if (at == in.runs.end() || at->second.row.token != token) return false;
  const auto state = at->second.row.state;
  return state == run_state::leased || state == run_state::running;
}

std::vector<std::string> sim_disk::delete_ended() {
  std::vector<std::string> out;
  const auto last = highest_token();
  for (auto at = durable_.runs.begin(); at != durable_.runs.end();) {
    const auto& r = at->second;
    const auto has = [&](std::uint64_t token) {
      return std::find(r.tokens.begin(), r.tokens.end(), token) != r.tokens.end();
    };
    if (!is_terminal(r.row.state) || (has(last) && !mutated(mutation::retention_forgets_tokens))) {
      ++at;
      continue;
    }
    std::erase_if(durable_.docs, [&](const auto& doc) { return has(doc.second); });
    for (const auto token : r.tokens) {
      durable_.attempts.erase(token);
      durable_.chunks.erase(token);
    }
    durable_.run_of_key.erase(r.key);
    out.push_back(at->first);
    at = durable_.runs.erase(at);
  }
  return out;
}

/// The run's last accepted attempt of this epoch: 0 without one.
std::uint64_t sim_disk::last_attempt(const image& in, const run_record& r) {
  std::uint64_t out = 0;
  for (const auto token : r.tokens)
    if (in.attempts.at(token).number == r.row.attempts) out = token;
  return out;
}

void sim_disk::set_outages(image& to, const journal::set_outages& o, std::int64_t wall_ms) {
  const auto at = to.runs.find(o.run);
  if (at == to.runs.end()) return;
  if (!o.record) {
    at->second.row.outages = nullptr;
    return;
  }
  auto r = std::make_shared<domain::outage_record>(*o.record);
  if (r->since_ms == 0) r->since_ms = wall_ms;
  r->at_ms = wall_ms;
  at->second.row.outages = std::move(r);
}

committed sim_disk::apply(image& to, const batch& b, std::int64_t wall_ms) {
  committed out;
  for (const auto& op : b) {
    std::visit(
        overload{
            [&](const insert_run& o) {
              const auto known = to.run_of_key.find(o.key);
              if (known != to.run_of_key.end()) {
                const auto& r = to.runs.at(known->second);
                out.duplicate_of = r.row;
                out.differences = push_differences({r.row, r.has_source, r.asked_deadline_ms}, o);
                return;
              }
              if (!o.key.empty()) to.run_of_key[o.key] = o.run.id;
              ++to.seq;
              to.runs[o.run.id] = {o.run, o.key, "", {}, {}, o.has_source, o.run.deadline_ms};
            },
            [&](const set_run& o) {
              out.is_stale = to.runs.count(o.run) == 0;
              if (out.is_stale) return;
              auto& r = to.runs[o.run];
              r.row.state = o.state;
              r.row.attempts = o.attempts;
              if (o.drops_deadline) r.row.deadline_ms = 0;
              r.row.token = o.token;
              r.verdict = o.verdict;
              r.reason = o.reason;
            },
            [&](const put_attempt& o) {
              to.runs[o.run].tokens.push_back(o.token);
              to.attempts[o.token] = {o.number, false, ""};
            },
            [&](const end_attempt& o) {
              const auto at = to.attempts.find(o.token);
              if (at != to.attempts.end()) at->second.is_expired = o.is_expired;
            },
            [&](const journal::set_outages& o) {
              set_outages(to, o, wall_ms);
              out.at_ms = wall_ms;
            },
            [&](const revive& o) {
              const auto at = to.runs.find(o.run);
              out.is_stale = at == to.runs.end() || at->second.row.state != run_state::queued ||
                             !to.attempts[o.token].is_expired ||
                             o.token != last_attempt(to, at->second);
              if (out.is_stale) return;
              auto& r = at->second;
              auto& a = to.attempts[o.token];
              a.is_expired = false;
              r.row.state = run_state::leased;
              r.row.token = o.token;
              r.verdict.reset();
              r.reason.clear();
              out.last_seq = to.chunks[o.token];
            },
            [&](const append_chunk& o) {
              const bool is_live = has_live(to, o.run, o.token);
              if (!is_live && !mutated(mutation::chunk_without_token_check))
                out.is_stale = true;
              else if (to.chunks[o.token] + 1 != o.seq)
                out.is_gap = true;
              else
                to.chunks[o.token] = o.seq;
            },
            [&](const bind_run_id& o) {
              for (const auto& [token, a] : to.attempts)
                out.is_stale |= a.run_id == o.run_id && token != o.token;
              const auto at = to.attempts.find(o.token);
              if (!out.is_stale && at != to.attempts.end()) at->second.run_id = o.run_id;
            },
            [&](const append_doc& o) {
              out.is_known = to.docs.count(o.doc) != 0;
              out.is_stale = !out.is_known && !has_live(to, o.run, o.token);
              if (out.is_known || out.is_stale) return;
              to.docs[o.doc] = o.token;
              out.last_seq = to.chunks[o.token] += o.pieces.size();
            },
            [&](const event&) { ++to.seq; },
            [&](const set_flag& o) { to.flags[o.name] = o.value; }},
        op);
    if (out.is_void()) return out;
  }
  out.seq = to.seq;
  return out;
}

std::vector<operation> sim_disk::sync() {
  if (written_) durable_ = std::move(*written_);
  written_.reset();
  return std::exchange(unsynced_, {});
}

void sim_disk::roll_back() {
  written_.reset();
  unsynced_.clear();
}

std::vector<operation> sim_disk::crash(bool is_kept) {
  std::vector<operation> out;
  if (is_kept)
    out = sync();
  else
    roll_back();
  if (mutated(mutation::dedupe_forgets)) durable_.run_of_key.clear();
  return out;
}

std::vector<run_row> sim_disk::open_runs() const {
  std::vector<run_row> out;
  for (const auto& [id, r] : durable_.runs) {
    if (is_terminal(r.row.state)) continue;
    out.push_back(r.row);
    if (r.row.state != run_state::queued) {
      const auto at = durable_.chunks.find(r.row.token);
      out.back().last_seq = at == durable_.chunks.end() ? 0 : at->second;
      const auto live = durable_.attempts.find(r.row.token);
      out.back().is_consumers = live != durable_.attempts.end() && !live->second.run_id.empty();
      continue;
    }
    const auto last = last_attempt(durable_, r);
    if (last != 0 && durable_.attempts.at(last).is_expired) out.back().expired_token = last;
  }
  return out;
}

std::optional<run_row> sim_disk::find(const std::string& run) const {
  const auto at = durable_.runs.find(run);
  if (at == durable_.runs.end()) return {};
  return at->second.row;
}

}  // namespace ntrace::sim
