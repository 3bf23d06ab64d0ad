#include "actors/runner/outbox_fsm.hpp"

#include <algorithm>
#include <array>
#include <utility>

#include "config/assert.hpp"
#include "config/mutation.hpp"

namespace ntrace::runner {
namespace {

constexpr std::uint64_t window = 32;  // chunks in flight; one fsync of the dispatcher serves many

rpc::finish infrastructure(std::uint64_t token, const std::string& reason) {
  rpc::finish out;
  out.token = token;
  out.reason = reason;
  out.receipt = domain::empty_object();
  return out;
}

}  // namespace

std::string_view to_string(outbox_word w) {
  static constexpr std::array<std::string_view, 3> methods{"started", "append", "finish"};
  return methods[static_cast<std::size_t>(w)];
}

said_word say::about() const {
  said_word out;
  out.what = static_cast<outbox_word>(message.index());
  out.token = std::visit([](const auto& m) { return m.token; }, message);
  if (const auto* piece = std::get_if<rpc::append>(&message)) out.seq = piece->seq;
  return out;
}

outbox_fsm::entry* outbox_fsm::find(std::uint64_t token) {
  const auto at = entries_.find(token);
  return at == entries_.end() ? nullptr : &at->second;
}

void outbox_fsm::want_flush(outbox_effects& out) {
  if (!is_writing_ && !std::exchange(is_flush_asked_, true)) out.push_back(flush_soon{});
}

void outbox_fsm::write(outbox_record record, outbox_effects& out) {
  pending_.push_back(std::move(record));
  want_flush(out);
}

void outbox_fsm::pump(std::uint64_t token, outbox_effects& out) {
  auto* e = find(token);
  if (!e || !is_up_ || e->retry_at) return;
  if (mutated(mutation::runs_share_one_queue) && token != entries_.begin()->first) return;
  if (e->started && !std::exchange(e->is_started_sent, true)) out.push_back(say{*e->started});
  NTRACE_ASSERT(e->acked <= e->sent && e->sent <= e->kept && e->kept <= e->last,
                "a chunk is kept before it is sent, and sent before it is acknowledged");
  NTRACE_ASSERT(e->sizes.size() == e->last - e->acked, "each chunk that waits has its size");
  const auto to = std::min(e->kept, e->acked + window);
  if (e->sent < to && !std::exchange(e->is_loading, true))
    out.push_back(load{token, e->sent + 1, to});
  const bool is_all_stored = e->acked == e->last || mutated(mutation::finish_before_last_chunk);
  if (e->finish && e->may_finish && is_all_stored && !std::exchange(e->is_finish_sent, true)) {
    auto verdict = *e->finish;
    verdict.last_seq = e->counts_chunks ? std::optional{e->last} : std::nullopt;
    out.push_back(say{std::move(verdict)});
  }
}

outbox_effects outbox_fsm::on_loaded(std::uint64_t token, const result<std::vector<chunk>>& found) {
  outbox_effects out;
  auto* e = find(token);
  if (!e) return out;
  e->is_loading = false;
  if (!found) {
    lose(token, *e, to_string(found.error()), out);
    // What is stored stays; how much that is, is not ours to say any more.
    e->finish = infrastructure(token, *e->lost);
    e->may_finish = true;
    e->counts_chunks = false;
    e->kept = e->writing = e->sent = e->acked;
    trim(*e);
    look_for_room(out);
    pump(token, out);
    return out;
  }
  for (const auto& piece : *found) {
    if (!is_up_ || piece.seq != e->sent + 1) continue;
    e->sent = piece.seq;
    if (mutated(mutation::outbox_deletes_on_send)) ack(token, *e, piece.seq);
    out.push_back(say{rpc::append{token, piece.seq, piece.stream, piece.data, {}}});
  }
  return out;
}

outbox_effects outbox_fsm::on_recovered(std::vector<kept_attempt> found) {
  outbox_effects out;
  for (auto& k : found) {
    auto& e = entries_[k.token];
    e.run = std::move(k.run);
    e.acked = e.sent = k.acked;
    e.kept = e.writing = e.last = k.acked + k.size_bytes.size();
    for (const auto size : k.size_bytes) {
      e.sizes.push_back(size + chunk_overhead_bytes);
      e.bytes += e.sizes.back();
    }
    bytes_ += e.bytes;
    e.started = std::move(k.started);
    e.finish = std::move(k.finish);
    e.is_begun_kept = true;
    e.may_finish = e.finish.has_value();
  }
  for (auto& one : on_attempts_lost("the runner stopped while the attempt was being worked on"))
    out.push_back(std::move(one));
  look_for_room(out);
  return out;
}

outbox_effects outbox_fsm::on_begun(std::uint64_t token, const std::string& run) {
  outbox_effects out;
  const auto [at, is_new] = entries_.try_emplace(token);
  if (!is_new) return out;
  at->second.run = run;
  write(begun_record{token, run}, out);
  return out;
}

outbox_effects outbox_fsm::on_started(rpc::started said, domain::document clean) {
  outbox_effects out;
  const auto token = said.token;
  auto* e = find(token);
  if (!e || e->finish) return {word_dropped{token}};
  e->clean = std::move(clean);
  e->started = said;
  if (!e->lost) write(started_record{token, std::move(said)}, out);
  pump(token, out);
  return out;
}

outbox_effects outbox_fsm::on_chunk(std::uint64_t token, domain::stream stream,
                                    std::string_view data) {
  outbox_effects out;
  auto* e = find(token);
  if (!e || e->finish || e->lost) return {word_dropped{token}};
  const auto pieces = std::max<std::size_t>(
      1, (data.size() + limits::chunk_bytes_max - 1) / limits::chunk_bytes_max);
  const auto cost = data.size() + pieces * chunk_overhead_bytes;
  if (e->bytes + cost > bounds_.attempt_bytes_max || bytes_ + cost > bounds_.bytes_max) {
    lose(token, *e,
         "the outbox is full: " + std::to_string(bytes_) +
             " bytes wait for the dispatcher, of this attempt " + std::to_string(e->bytes),
         out);
    return out;
  }
  do {
    const auto piece = data.substr(0, limits::chunk_bytes_max);
    data.remove_prefix(piece.size());
    e->sizes.push_back(piece.size() + chunk_overhead_bytes);
    write(chunk_record{token, {++e->last, stream, std::string{piece}}}, out);
  } while (!data.empty());
  e->bytes += cost;
  bytes_ += cost;
  look_for_room(out);
  return out;
}

void outbox_fsm::tell_done(std::uint64_t token, const entry& e, outbox_effects& out) const {
  NTRACE_ASSERT(e.finish, "it has its verdict");
  out.push_back(attempt_done{token, e.run, e.finish->how, e.is_broken, e.clean});
}

outbox_effects outbox_fsm::on_finished(rpc::finish said, bool zone_is_broken) {
  outbox_effects out;
  const auto token = said.token;
  const bool is_known = find(token) != nullptr;
  auto& e = entries_[token];
  if (e.finish) {
    tell_done(token, e, out);
    return out;
  }
  e.is_broken = zone_is_broken;
  if (!is_known) {
    e.lost = "the runner's outbox was restarted and what the attempt said is lost";
    e.counts_chunks = false;
  }
  if (!e.lost) {
    e.finish = said;
    write(finish_record{token, std::move(said)}, out);
  } else {
    e.finish = infrastructure(token, *e.lost);
    e.may_finish = true;  // Without being kept: a lost one gets such a verdict after a restart too.
  }
  tell_done(token, e, out);
  pump(token, out);
  return out;
}

outbox_effects outbox_fsm::on_attempts_lost(const std::string& reason) {
  outbox_effects out;
  std::vector<std::uint64_t> lost;
  if (!has_room_) out.push_back(room_changed{false});
  for (auto& [token, e] : entries_) {
    if (e.finish)
      tell_done(token, e, out);
    else
      lost.push_back(token);
  }
  for (const auto token : lost)
    for (auto& one : on_finished(infrastructure(token, reason), false))
      out.push_back(std::move(one));
  return out;
}

outbox_effects outbox_fsm::on_flush() {
  outbox_effects out;
  is_flush_asked_ = false;
  if (is_writing_ || (pending_.empty() && acks_.empty() && overs_.empty())) return out;
  keep todo{std::exchange(pending_, {})};
  for (const auto& [token, seq] : acks_) todo.records.push_back(acked_record{token, seq});
  for (const auto token : overs_) todo.records.push_back(over_record{token});
  acks_writing_ = std::exchange(acks_, {});
  overs_writing_ = std::exchange(overs_, {});
  for (auto& [token, e] : entries_) {
    e.writing = e.last;
    e.is_begun_writing = true;
    e.is_finish_writing = e.finish && !e.lost;
  }
  NTRACE_ASSERT(!todo.records.empty(), "a write writes something");
  is_writing_ = true;
  out.push_back(std::move(todo));
  return out;
}

outbox_effects outbox_fsm::on_kept(time_point now, const result<void>& done) {
  outbox_effects out;
  NTRACE_ASSERT(is_writing_, "only what was being written is kept");
  is_writing_ = false;
  if (done) {
    for (auto& [token, e] : entries_) {
      e.kept = std::max(e.kept, std::min(e.writing, e.last));
      e.is_begun_kept = e.is_begun_kept || e.is_begun_writing;
      e.may_finish = e.may_finish || e.is_finish_writing;
      pump(token, out);
    }
  } else {
    // Nothing of it is there, nor can what came meanwhile be numbered after it.
    pending_.clear();
    acks_.insert(acks_writing_.begin(), acks_writing_.end());
    overs_.merge(overs_writing_);
    for (auto& [token, e] : entries_) {
      e.writing = e.kept;
      if (e.lost)
        trim(e);
      else if (e.is_begun_kept && e.kept == e.last)
        e.may_finish = e.may_finish || e.finish;  // It is said from memory.
      else
        lose(token, e, "the outbox cannot be written: " + to_string(done.error()), out);
      pump(token, out);
    }
    if (!acks_.empty() || !overs_.empty()) {
      clean_again_at_ = now + retry_wait;
      out.push_back(say_again{*clean_again_at_});
    }
  }
  acks_writing_.clear();
  overs_writing_.clear();
  if (!pending_.empty() || (!overs_.empty() && !clean_again_at_)) want_flush(out);
  return out;
}

void outbox_fsm::uncount(entry& e, std::size_t size) {
  NTRACE_ASSERT(e.bytes >= size && bytes_ >= size, "its bytes are counted");
  bytes_ -= size;
  e.bytes -= size;
}

void outbox_fsm::trim(entry& e) {
  const auto end = std::max(e.kept, e.writing);
  for (; e.last > end; --e.last) {
    uncount(e, e.sizes.back());
    e.sizes.pop_back();
  }
}

void outbox_fsm::lose(std::uint64_t token, entry& e, const std::string& reason,
                      outbox_effects& out) {
  if (e.lost) return;
  e.lost = reason;
  trim(e);
  std::erase_if(pending_, [&](const outbox_record& r) {
    const auto* c = std::get_if<chunk_record>(&r);
    return c && c->token == token;
  });
  if (e.finish) {
    e.finish = infrastructure(token, reason);
    e.may_finish = true;
  } else {
    out.push_back(give_up{token, reason});
  }
  look_for_room(out);
}

}  // namespace ntrace::runner
