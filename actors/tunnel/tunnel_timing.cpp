// The tunnel's time-outs and waits: docs/tunnel.md, "Timers".
#include <algorithm>
#include <cmath>

#include "actors/tunnel/tunnel_fsm.hpp"

namespace ntrace::tunnel {
namespace {

constexpr double srtt_unknown_ms = 50;

milliseconds to_ms(double ms) { return milliseconds{static_cast<std::int64_t>(ms)}; }

}  // namespace

milliseconds tunnel_fsm::probe_interval() const {
  if (options_.probe_interval) return *options_.probe_interval;
  return to_ms(std::clamp(4 * srtt_ms_.value_or(srtt_unknown_ms), 50.0, 2000.0));
}

milliseconds tunnel_fsm::probe_deadline() const {
  if (options_.probe_deadline) return *options_.probe_deadline;
  const double srtt = srtt_ms_.value_or(srtt_unknown_ms);
  const double spread = rttvar_ms_.value_or(srtt / 2);
  const double interval = static_cast<double>(probe_interval().count());
  return to_ms(std::clamp(std::max(srtt + 8 * spread + 2 * interval, 3 * srtt), 250.0, 15'000.0));
}

milliseconds tunnel_fsm::connect_deadline() const {
  // Beside a suspect session a lost SYN is said again soon.
  const double least = state_ == tunnel_state::suspect ? 60.0 : 250.0;
  const double first = srtt_ms_ ? std::clamp(4 * *srtt_ms_, least, 10'000.0) : 1000.0;
  if (state_ == tunnel_state::suspect) return to_ms(first);
  const auto doublings = std::min(failures_ / 8, srtt_ms_ ? 2u : 4u);
  return to_ms(std::min(first * static_cast<double>(1u << doublings), 10'000.0));
}

milliseconds tunnel_fsm::banner_deadline() const {
  return to_ms(std::clamp(20 * srtt_ms_.value_or(srtt_unknown_ms), 2000.0, 10'000.0));
}

milliseconds tunnel_fsm::open_deadline() const {
  return to_ms(std::max(2000.0, 10 * srtt_ms_.value_or(srtt_unknown_ms)));
}

milliseconds tunnel_fsm::answer_wait() const {
  return to_ms(std::clamp(4 * srtt_ms_.value_or(srtt_unknown_ms), 100.0, 2000.0));
}

/// RFC 6298, section 2: alpha 1/8, beta 1/4.
void tunnel_fsm::measure(std::chrono::microseconds round_trip) {
  const double ms = static_cast<double>(round_trip.count()) / 1000;
  if (!srtt_ms_) {
    srtt_ms_ = ms;
    rttvar_ms_ = ms / 2;
    return;
  }
  rttvar_ms_ = *rttvar_ms_ * 3 / 4 + std::abs(*srtt_ms_ - ms) / 4;
  srtt_ms_ = *srtt_ms_ * 7 / 8 + ms / 8;
}

/// Full jitter; the first wait is none, and a host that is down for long is asked less often.
milliseconds tunnel_fsm::next_wait(time_point now) {
  const auto n = failures_++;
  if (n == 0) return milliseconds{0};
  const auto down = now - down_since_;
  const auto cap = down > std::chrono::minutes{10}   ? milliseconds{30'000}
                   : down > std::chrono::seconds{60} ? milliseconds{5000}
                                                     : options_.backoff_max;
  const auto longest =
      std::min<std::int64_t>(cap.count(), options_.backoff_min.count() << std::min(n - 1, 20u));
  return milliseconds{random_.below(static_cast<std::uint64_t>(longest) + 1)};
}

}  // namespace ntrace::tunnel
