#include "actors/runner/outbox_fsm.hpp"

#include <utility>

#include "config/mutation.hpp"

namespace ntrace::runner {

outbox_fsm::entry* outbox_fsm::find(std::uint64_t token) {
  const auto at = entries_.find(token);
  return at == entries_.end() ? nullptr : &at->second;
}

std::size_t outbox_fsm::bytes() const {
  std::size_t out = 0;
  for (const auto& [token, e] : entries_) out += e.chunks.bytes();
  return out;
}

void outbox_fsm::pump(std::uint64_t token, outbox_effects& out) {
  auto* e = find(token);
  if (!e || !is_up_ || e->retry_at) return;
  if (!e->started.is_null() && !std::exchange(e->is_started_sent, true))
    out.push_back(say{token, outbox_word::started, e->started, {}});
  for (auto& piece : e->chunks.take_sendable()) {
    if (mutated(mutation::outbox_deletes_on_send)) e->chunks.on_ack(piece.seq);
    out.push_back(say{token, outbox_word::chunk, nullptr, std::move(piece)});
  }
  const bool may_finish = e->chunks.may_finish() || mutated(mutation::finish_before_last_chunk);
  if (e->finish && may_finish && !std::exchange(e->is_finish_sent, true))
    out.push_back(say{token, outbox_word::finish, *e->finish, {}});
}

outbox_effects outbox_fsm::on_started(std::uint64_t token, nlohmann::json args,
                                      nlohmann::json clean) {
  outbox_effects out;
  auto* e = find(token);
  if (!e) return {word_dropped{token, false}};
  e->started = std::move(args);
  e->clean = std::move(clean);
  pump(token, out);
  return out;
}

outbox_effects outbox_fsm::on_chunk(std::uint64_t token, const std::string& stream,
                                    std::string_view data) {
  outbox_effects out;
  auto* e = find(token);
  if (e && e->chunks.on_append(stream, data))
    pump(token, out);
  else
    out.push_back(word_dropped{token, e && !std::exchange(e->was_full, true)});
  return out;
}

outbox_effects outbox_fsm::on_finished(std::uint64_t token, nlohmann::json args,
                                       bool zone_is_broken) {
  outbox_effects out;
  const bool is_known = find(token) != nullptr;
  auto& e = entries_[token];
  out.push_back(attempt_done{token, zone_is_broken, e.clean});
  if (e.finish) return out;
  e.chunks.on_close();
  if (is_known)
    args["last_seq"] = e.chunks.last_seq();
  else
    args = {{"verdict", "infrastructure"},
            {"reason", "the runner's outbox was restarted and what the attempt said is lost"},
            {"receipt", nlohmann::json::object()}};
  args["token"] = token;
  e.finish = std::move(args);
  pump(token, out);
  return out;
}

outbox_effects outbox_fsm::on_attempts_lost(const std::string& reason) {
  outbox_effects out;
  for (const auto& [token, e] : entries_) {
    if (e.finish) continue;
    const nlohmann::json verdict{
        {"verdict", "infrastructure"}, {"reason", reason}, {"receipt", nlohmann::json::object()}};
    for (auto& one : on_finished(token, verdict, false)) out.push_back(std::move(one));
  }
  return out;
}

outbox_effects outbox_fsm::on_link_up() {
  outbox_effects out;
  is_up_ = true;
  for (auto& [token, e] : entries_) {
    e.retry_at.reset();
    pump(token, out);
  }
  return out;
}

void outbox_fsm::on_link_lost() {
  is_up_ = false;
  for (auto& [token, e] : entries_) {
    e.chunks.on_rewind();
    e.is_started_sent = e.is_finish_sent = false;
  }
}

outbox_effects outbox_fsm::on_stored(time_point now, const say& said, std::uint64_t ack) {
  outbox_effects out;
  auto* e = find(said.token);
  if (!e) return out;
  switch (said.what) {
    case outbox_word::started:
      e->started = nullptr;
      break;
    case outbox_word::chunk:
      e->chunks.on_ack(ack);
      if (ack < said.piece.seq) retry_later(now, *e, out);
      break;
    case outbox_word::finish:
      entries_.erase(said.token);
      return out;
  }
  pump(said.token, out);
  return out;
}

void outbox_fsm::retry_later(time_point now, entry& e, outbox_effects& out) {
  e.chunks.on_rewind();
  e.is_started_sent = e.is_finish_sent = false;
  if (!is_up_ || e.retry_at) return;  // The next link sends it all again; or it is under way.
  e.retry_at = now + retry_wait;
  out.push_back(say_again{*e.retry_at});
}

outbox_effects outbox_fsm::on_refused(time_point now, std::uint64_t token, const error& why) {
  outbox_effects out;
  auto* e = find(token);
  if (!e) return out;
  if (why.code != ec::stale_lease) {
    retry_later(now, *e, out);
    return out;
  }
  entries_.erase(token);
  out.push_back(drop_stale{token, why.message});
  return out;
}

outbox_effects outbox_fsm::on_tick(time_point now) {
  outbox_effects out;
  for (auto& [token, e] : entries_) {
    if (!e.retry_at || now < *e.retry_at) continue;
    e.retry_at.reset();
    pump(token, out);
  }
  return out;
}

}  // namespace ntrace::runner
