#include "supervision/facade_fsm.hpp"

#include <algorithm>

#include "config/mutation.hpp"

namespace ntrace::supervision {

facade_fsm::iterator facade_fsm::drop(iterator at) {
  bytes_ -= at->second.bytes;
  return held_.erase(at);
}

facade_effects facade_fsm::on_message(time_point now, std::uint64_t id, std::size_t bytes,
                                      bool wants_answer, std::optional<time_point> deadline) {
  if (is_gone_)
    return {deny{id, ec::no_such_child, "the actor behind this address is gone for good"}};
  if (is_up_ && !wants_answer) return {forward{id}};
  if (held_.size() >= options_.count_max || bytes_ + bytes > options_.bytes_max)
    return {deny{
        id, ec::overloaded,
        std::to_string(held_.size()) + " messages wait for this actor already; try again later"}};
  auto& e = held_[id] = {bytes, wants_answer, deadline, now + options_.wait_max};
  bytes_ += bytes;
  if (is_up_) return {forward{id}};
  return {look_again{deadline ? std::min(*deadline, e.waits_until) : e.waits_until}};
}

bool facade_fsm::on_answer(std::uint64_t id) {
  const auto at = held_.find(id);
  if (at == held_.end()) return false;
  drop(at);
  return true;
}

facade_effects facade_fsm::on_up(time_point now) {
  facade_effects out;
  expire(now, out);
  is_up_ = true;
  for (auto at = held_.begin(); at != held_.end();) {
    out.push_back(forward{at->first});
    const bool is_owed = at->second.wants_answer && !mutated(mutation::facade_resends_without_id);
    at = is_owed ? std::next(at) : drop(at);
  }
  return out;
}

facade_effects facade_fsm::on_down(time_point now, const std::string& reason) {
  facade_effects out;
  if (!is_up_) return out;
  is_up_ = false;
  if (!options_.resend) {
    for (const auto& [id, e] : held_)
      out.push_back(deny{id, ec::child_failed, "the actor ended before it answered: " + reason});
    held_.clear();
    bytes_ = 0;
    return out;
  }
  auto next = now + options_.wait_max;
  for (auto& [id, e] : held_) {
    e.waits_until = now + options_.wait_max;
    if (e.deadline) next = std::min(next, *e.deadline);
  }
  if (!held_.empty()) out.push_back(look_again{next});
  return out;
}

facade_effects facade_fsm::on_gone() {
  facade_effects out;
  is_up_ = false;
  is_gone_ = true;
  for (const auto& [id, e] : held_)
    out.push_back(deny{id, ec::no_such_child, "the actor behind this address is gone for good"});
  held_.clear();
  bytes_ = 0;
  return out;
}

void facade_fsm::expire(time_point now, facade_effects& out) {
  for (auto at = held_.begin(); at != held_.end();) {
    const auto& e = at->second;
    if (now < e.waits_until && (!e.deadline || now < *e.deadline)) {
      ++at;
      continue;
    }
    out.push_back(deny{at->first, ec::timed_out, "no incarnation of the actor came up in time"});
    at = drop(at);
  }
}

facade_effects facade_fsm::on_tick(time_point now) {
  facade_effects out;
  if (is_up_) return out;
  expire(now, out);
  std::optional<time_point> next;
  for (const auto& [id, e] : held_) {
    const auto at = e.deadline ? std::min(*e.deadline, e.waits_until) : e.waits_until;
    next = next ? std::min(*next, at) : at;
  }
  if (next) out.push_back(look_again{*next});
  return out;
}

}  // namespace ntrace::supervision
