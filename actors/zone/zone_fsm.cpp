#include "actors/zone/zone_fsm.hpp"

#include "config/assert.hpp"

namespace ntrace::zone {

std::string_view to_string(zone_state s) {
  switch (s) {
    case zone_state::proving:
      return "proving";
    case zone_state::free:
      return "free";
    case zone_state::busy:
      return "busy";
    case zone_state::repairing:
      return "repairing";
    case zone_state::parked:
      break;
  }
  return "parked";
}

bool zone_fsm::on_acquire() {
  if (phase_ != phase::free) return false;
  phase_ = phase::busy;
  return true;
}

void zone_fsm::on_failure(time_point now, random_source& random) {
  NTRACE_ASSERT(phase_ == phase::busy || phase_ == phase::trying, "only who works breaks");
  NTRACE_ASSERT(!problem_.empty(), "people are told what broke it");
  if (failures_ == 0) broken_at_ = now;
  phase_ = phase::waiting;
  retry_at_ = now + backoff_wait(repair_, failures_++, random);
  ++breaks_;
}

void zone_fsm::on_release(time_point now, bool is_broken, random_source& random) {
  if (phase_ != phase::busy) return;
  if (is_broken) {
    problem_ = "an attempt broke it";
    return on_failure(now, random);
  }
  phase_ = phase::free;
  failures_ = 0;
}

bool zone_fsm::on_tick(time_point now) {
  if (phase_ != phase::waiting || now < retry_at_) return false;
  phase_ = phase::trying;
  return true;
}

void zone_fsm::on_proved(time_point now, const std::string& problem, random_source& random) {
  if (phase_ != phase::trying) return;
  problem_ = problem;
  if (!problem.empty()) return on_failure(now, random);
  // Only an attempt that went well ends the row: one that breaks each attempt, and none of its
  // repairs, must wait longer each time too.
  phase_ = phase::free;
}

void zone_fsm::on_suspicion(time_point now) {
  if (phase_ != phase::free) return;
  phase_ = phase::waiting;
  retry_at_ = now;
}

void zone_fsm::on_retry(time_point now) {
  if (phase_ == phase::waiting) retry_at_ = now;
}

zone_state zone_fsm::state() const {
  if (phase_ == phase::free) return zone_state::free;
  if (phase_ == phase::busy) return zone_state::busy;
  if (problem_.empty()) return zone_state::proving;
  return failures_ < repair_max ? zone_state::repairing : zone_state::parked;
}

std::optional<time_point> zone_fsm::wake() const {
  return phase_ == phase::waiting ? std::optional{retry_at_} : std::nullopt;
}

}  // namespace ntrace::zone
