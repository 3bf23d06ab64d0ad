// The part of outbox_fsm that the dispatcher speaks to: links, acknowledgements, refusals.
#include <algorithm>
#include <utility>

#include "actors/runner/outbox_fsm.hpp"

namespace ntrace::runner {

outbox_effects outbox_fsm::on_link_up() {
  outbox_effects out;
  is_up_ = true;
  for (auto& [token, e] : entries_) {
    e.retry_at.reset();
    pump(token, out);
  }
  return out;
}

void outbox_fsm::rewind(entry& e) {
  e.sent = e.acked;
  e.is_started_sent = e.is_finish_sent = false;
}

void outbox_fsm::on_link_lost() {
  is_up_ = false;
  for (auto& [token, e] : entries_) rewind(e);
}

void outbox_fsm::ack(std::uint64_t token, entry& e, std::uint64_t seq) {
  for (; e.acked < std::min(seq, e.kept); ++e.acked) {
    uncount(e, e.sizes.front());
    e.sizes.pop_front();
    acks_[token] = e.acked + 1;  // It is written with what comes next: it saves time, no more.
  }
  e.sent = std::max(e.sent, e.acked);
}

outbox_effects outbox_fsm::on_stored(time_point now, const said_word& said, std::uint64_t up_to) {
  outbox_effects out;
  auto* e = find(said.token);
  if (!e) return out;
  switch (said.what) {
    case outbox_word::started:
      e->started.reset();
      break;
    case outbox_word::append:
      ack(said.token, *e, up_to);
      if (up_to < said.seq) retry_later(now, *e, out);
      break;
    case outbox_word::finish:
      out.push_back(delivered{said.token});
      forget(said.token, out);
      return out;
  }
  look_for_room(out);
  pump(said.token, out);
  return out;
}

void outbox_fsm::forget(std::uint64_t token, outbox_effects& out) {
  auto& e = entries_.at(token);
  uncount(e, e.bytes);
  entries_.erase(token);
  acks_.erase(token);
  std::erase_if(pending_, [&](const outbox_record& r) {
    return std::visit([&](const auto& one) { return one.token == token; }, r);
  });
  overs_.insert(token);
  want_flush(out);
  look_for_room(out);
}

void outbox_fsm::look_for_room(outbox_effects& out) {
  const bool has_room = bytes_ + bounds_.attempt_bytes_max <= bounds_.bytes_max;
  if (std::exchange(has_room_, has_room) != has_room) out.push_back(room_changed{has_room});
}

void outbox_fsm::retry_later(time_point now, entry& e, outbox_effects& out) {
  rewind(e);
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
  out.push_back(drop_stale{token, why.message});
  forget(token, out);
  return out;
}

outbox_effects outbox_fsm::on_tick(time_point now) {
  outbox_effects out;
  if (clean_again_at_ && now >= *clean_again_at_) {
    clean_again_at_.reset();
    want_flush(out);
  }
  for (auto& [token, e] : entries_) {
    if (!e.retry_at || now < *e.retry_at) continue;
    e.retry_at.reset();
    pump(token, out);
  }
  return out;
}

}  // namespace ntrace::runner
