// When the tunnel's session is dialled, suspected and given up, in virtual time.
#include <gtest/gtest.h>

#include <set>

#include "actors/tunnel/tunnel_fsm.hpp"
#include "config/overload.hpp"
#include "tests/support/only.hpp"
#include "tests/support/seeded.hpp"

using namespace ntrace;
using ntrace::test::only;
using namespace ntrace::test;
using namespace ntrace::tunnel;
using namespace std::chrono_literals;

namespace {

const time_point start{};

tunnel_options plain() {
  tunnel_options out;
  out.probe_interval = 50ms;
  out.probe_deadline = 250ms;
  return out;
}

/// Brings the dial `of` up.
tunnel_effects finish_dial(tunnel_fsm& uut, time_point now, generation of) {
  uut.on_connected(now, of, 1ms);
  uut.on_banner(now, of);
  uut.on_authenticated(now, of);
  return uut.on_probe_answered(now, of);
}

tunnel_fsm up_since(time_point now) {
  tunnel_fsm out{plain(), 1};
  out.on_start(now);
  finish_dial(out, now, 1);
  return out;
}

/// Nothing is heard any more: probe at `now` + 1 s, suspect a deadline later.
time_point make_suspect(tunnel_fsm& uut, time_point now) {
  EXPECT_EQ(only<probe>(uut.on_tick(now + 1s)).size(), 1u);
  EXPECT_EQ(uut.state(), tunnel_state::up);
  uut.on_tick(now + 1250ms);
  EXPECT_EQ(uut.state(), tunnel_state::suspect);
  return now + 1250ms;
}

}  // namespace

TEST(tunnel_fsm, is_up_only_when_its_first_probe_was_answered) {
  tunnel_fsm uut{plain(), 1};
  EXPECT_EQ(only<dial>(uut.on_start(start)).size(), 1u);
  uut.on_connected(start, 1, 1ms);
  uut.on_banner(start, 1);
  EXPECT_EQ(only<probe>(uut.on_authenticated(start, 1)).size(), 1u);
  EXPECT_EQ(uut.state(), tunnel_state::dialling);
  EXPECT_EQ(only<switch_to>(uut.on_probe_answered(start, 1)).size(), 1u);
  EXPECT_EQ(uut.state(), tunnel_state::up);
}

TEST(tunnel_fsm, gives_a_session_up_that_authenticated_and_does_not_answer) {
  tunnel_fsm uut{plain(), 1};
  uut.on_start(start);
  uut.on_connected(start, 1, 1ms);
  uut.on_banner(start, 1);
  uut.on_authenticated(start, 1);
  const auto late = uut.on_tick(start + 250ms);
  EXPECT_EQ(only<abandon>(late).at(0).of, 1u);
  EXPECT_EQ(only<dial>(late).at(0).of, 2u) << "the first wait is none";
  EXPECT_EQ(uut.live(), 0u);
}

TEST(tunnel_fsm, dials_at_once_after_a_stable_session_was_lost) {
  auto uut = up_since(start);
  const auto lost = uut.on_session_lost(start + 10s, 1, "socket");
  EXPECT_EQ(only<reset_connections>(lost).size(), 1u);
  EXPECT_EQ(only<wake>(lost).at(0).at, start + 10s);
  EXPECT_EQ(only<dial>(uut.on_tick(start + 10s)).size(), 1u);
}

TEST(tunnel_fsm, waits_longer_each_time_for_a_server_that_accepts_and_drops) {
  auto uut = up_since(start);
  auto now = start;
  milliseconds longest{0};
  for (generation of = 1; of < 40; ++of) {
    const auto lost = uut.on_session_lost(now, of, "dropped");
    const auto wait = only<wake>(lost).at(0).at - now;
    EXPECT_LE(wait, 500ms);
    longest = std::max(longest, std::chrono::duration_cast<milliseconds>(wait));
    now += wait;
    ASSERT_EQ(only<dial>(uut.on_tick(now)).size(), 1u);
    finish_dial(uut, now, of + 1);
  }
  EXPECT_GT(longest, 200ms) << "it never learns";
}

TEST(tunnel_fsm, waits_half_a_minute_after_the_third_damaged_session_in_a_row) {
  auto uut = up_since(start);
  auto now = start;
  const auto lose = [&](generation of, bool is_damaged) {
    now += 10s;
    auto wait = only<wake>(uut.on_session_lost(now, of, "checksum", is_damaged)).at(0).at - now;
    now += wait;
    EXPECT_EQ(only<dial>(uut.on_tick(now)).size(), 1u);
    finish_dial(uut, now, of + 1);
    return wait;
  };
  EXPECT_LE(lose(1, true), 500ms);
  EXPECT_LE(lose(2, true), 500ms);
  EXPECT_LE(lose(3, false), 500ms) << "another end: not in a row";
  EXPECT_LE(lose(4, true), 500ms);
  EXPECT_LE(lose(5, true), 500ms);
  EXPECT_EQ(lose(6, true), 30s);
}

TEST(tunnel_fsm, asks_a_host_less_often_that_is_down_for_minutes_and_hurries_when_there_is_demand) {
  tunnel_fsm uut{plain(), 7};
  uut.on_start(start);
  milliseconds longest{0};
  auto now = start;
  for (generation of = 1; now < start + 20min; ++of) {
    const auto failed = uut.on_dial_failed(now, of, dial_failure::transient, "refused");
    const auto at = only<wake>(failed).at(0).at;
    longest = std::max(longest, std::chrono::duration_cast<milliseconds>(at - now));
    if (at - now > 20s) {
      const auto sooner = only<wake>(uut.on_demand(now));
      ASSERT_EQ(sooner.size(), 1u);
      EXPECT_LE(sooner[0].at - now, 500ms);
      EXPECT_EQ(only<dial>(uut.on_network_changed(now)).size(), 1u);
      uut.on_dial_failed(now, ++of, dial_failure::transient, "refused");
      EXPECT_TRUE(only<dial>(uut.on_network_changed(now)).empty()) << "a link that flaps";
      now += 2s;
      uut.on_tick(now);
      continue;
    }
    now = at;
    ASSERT_EQ(only<dial>(uut.on_tick(now)).size(), 1u);
  }
  EXPECT_GT(longest, 20s);
  EXPECT_LE(longest, 30s);
}

TEST(tunnel_fsm, keeps_a_silent_session_and_dials_another_beside_it) {
  auto uut = up_since(start);
  make_suspect(uut, start);
  EXPECT_EQ(uut.live(), 1u);
  EXPECT_EQ(uut.dials(), 2u);
}

TEST(tunnel_fsm, loses_nothing_when_the_silent_session_answers_first) {
  auto uut = up_since(start);
  const auto now = make_suspect(uut, start);
  const auto healed = uut.on_inbound(now, 1);
  EXPECT_EQ(uut.state(), tunnel_state::up);
  EXPECT_EQ(only<abandon>(healed).at(0).of, 2u);
  EXPECT_TRUE(only<reset_connections>(healed).empty());
}

TEST(tunnel_fsm, resets_the_old_connections_when_the_new_session_answers_first) {
  auto uut = up_since(start);
  make_suspect(uut, start);
  const auto now = start + 4300ms;  // TCP would have healed the old one.
  const auto switched = finish_dial(uut, now, 2);
  EXPECT_EQ(uut.live(), 2u);
  EXPECT_EQ(only<switch_to>(switched).at(0).of, 2u);
  EXPECT_EQ(only<reset_connections>(switched).at(0).of, 1u);
  EXPECT_TRUE(uut.on_inbound(now, 1).empty()) << "an older generation changes nothing";
  EXPECT_EQ(uut.stale_inputs(), 1u);
}

TEST(tunnel_fsm, gives_a_silent_session_up_after_the_grace) {
  auto uut = up_since(start);
  const auto now = make_suspect(uut, start);
  uut.on_dial_failed(now, 2, dial_failure::transient, "refused");
  EXPECT_TRUE(only<reset_connections>(uut.on_tick(now + 29999ms)).empty());
  EXPECT_EQ(only<reset_connections>(uut.on_tick(now + 30s)).size(), 1u);
  EXPECT_EQ(uut.live(), 0u);
}

TEST(tunnel_fsm, probes_fast_only_while_something_is_outstanding) {
  auto uut = up_since(start);
  EXPECT_TRUE(only<probe>(uut.on_tick(start + 50ms)).empty());
  uut.on_outstanding(start + 100ms, true);
  EXPECT_EQ(only<probe>(uut.on_tick(start + 100ms)).size(), 1u);
}

TEST(tunnel_fsm, asks_at_most_three_servers_that_accept_and_say_nothing_and_takes_the_first) {
  tunnel_fsm uut{plain(), 1};
  uut.on_start(start);
  for (int s = 0; s < 10; ++s) {
    for (generation of = 1; of <= uut.dials(); ++of)
      if (of == uut.dials()) uut.on_connected(start + s * 1s, of, 1ms);
    uut.on_tick(start + (s + 1) * 1s);
  }
  EXPECT_EQ(uut.dials(), 3u);
  const auto first = uut.on_banner(start + 20s, 2);
  EXPECT_EQ(only<abandon>(first).size(), 2u);
}

TEST(tunnel_fsm, does_not_dial_again_by_itself_when_only_an_operator_can_help) {
  tunnel_fsm uut{plain(), 1};
  uut.on_start(start);
  const auto parked = uut.on_dial_failed(start, 1, dial_failure::needs_operator, "host key");
  EXPECT_EQ(uut.state(), tunnel_state::parked);
  EXPECT_TRUE(only<wake>(parked).empty());
  EXPECT_TRUE(only<dial>(uut.on_tick(start + 24h)).empty());
  EXPECT_TRUE(only<dial>(uut.on_network_changed(start + 24h)).empty());
  EXPECT_EQ(only<dial>(uut.on_retry(start + 24h)).size(), 1u);
}

TEST(tunnel_fsm, tries_a_refused_key_again_after_some_minutes) {
  tunnel_fsm uut{plain(), 1};
  uut.on_start(start);
  const auto parked = uut.on_dial_failed(start, 1, dial_failure::refused, "key");
  const auto at = only<wake>(parked).at(0).at;
  EXPECT_GE(at, start + 240s);
  EXPECT_LE(at, start + 360s);
  EXPECT_EQ(only<dial>(uut.on_tick(at)).size(), 1u);
}

TEST(tunnel_fsm, asks_before_it_concludes_anything_when_the_machine_slept) {
  auto uut = up_since(start);
  const auto woken = uut.on_tick(start + 60s);
  EXPECT_EQ(uut.state(), tunnel_state::suspect);
  EXPECT_EQ(only<probe>(woken).size(), 1u);
  EXPECT_TRUE(only<reset_connections>(woken).empty());
  uut.on_probe_answered(start + 60s, 1);
  EXPECT_EQ(uut.state(), tunnel_state::up);
}

TEST(tunnel_fsm, drains_until_its_last_connection_ends_or_the_deadline) {
  auto uut = up_since(start);
  uut.on_connections(start, 2);
  EXPECT_TRUE(only<abandon>(uut.on_drain(start)).empty());
  uut.on_connections(start, 1);
  EXPECT_EQ(uut.state(), tunnel_state::draining);
  EXPECT_EQ(only<abandon>(uut.on_connections(start, 0)).size(), 1u);
  EXPECT_EQ(uut.state(), tunnel_state::idle);
  auto late = up_since(start);
  late.on_connections(start, 2);
  late.on_drain(start);
  late.on_tick(start + 30s);
  EXPECT_EQ(late.state(), tunnel_state::idle);
}

namespace {

/// Up as generation 1, with generation 2 beside it as the standby since `start` + 2 s.
tunnel_fsm with_standby() {
  auto options = plain();
  options.standby = true;
  tunnel_fsm out{options, 1};
  out.on_start(start);
  finish_dial(out, start, 1);
  EXPECT_EQ(only<dial>(out.on_tick(start + 2s)).at(0).of, 2u);
  out.on_probe_answered(start + 2s, 1);
  finish_dial(out, start + 2s, 2);
  EXPECT_EQ(out.live(), 1u);
  EXPECT_EQ(out.standby(), 2u);
  return out;
}

}  // namespace

TEST(tunnel_fsm, takes_its_standby_at_once_when_the_live_session_is_lost) {
  auto uut = with_standby();
  const auto seen = uut.on_session_lost(start + 3s, 1, "reset");
  EXPECT_EQ(only<switch_to>(seen).at(0).of, 2u);
  EXPECT_EQ(only<reset_connections>(seen).at(0).of, 1u);
  EXPECT_EQ(uut.state(), tunnel_state::up);
  EXPECT_EQ(only<dial>(uut.on_tick(start + 5s)).size(), 1u) << "the next standby";
}

TEST(tunnel_fsm, asks_its_standby_when_the_live_session_falls_silent) {
  auto uut = with_standby();
  uut.on_tick(start + 3s);  // Both are asked; the standby answers.
  uut.on_probe_answered(start + 3s, 2);
  const auto seen = uut.on_tick(start + 3250ms);
  EXPECT_EQ(uut.state(), tunnel_state::suspect);
  ASSERT_EQ(only<probe>(seen).size(), 1u);
  EXPECT_EQ(only<probe>(seen).at(0).of, 2u);
  EXPECT_EQ(only<switch_to>(uut.on_probe_answered(start + 3251ms, 2)).at(0).of, 2u);
}

TEST(tunnel_fsm, gives_a_standby_up_that_does_not_answer_and_dials_another) {
  auto uut = with_standby();
  uut.on_tick(start + 3s);
  uut.on_probe_answered(start + 3s, 1);
  EXPECT_EQ(only<abandon>(uut.on_tick(start + 3250ms)).at(0).of, 2u);
  EXPECT_EQ(uut.standby(), 0u);
  EXPECT_EQ(uut.state(), tunnel_state::up);
  uut.on_probe_answered(start + 4500ms, 1);
  EXPECT_EQ(only<dial>(uut.on_tick(start + 5500ms)).size(), 1u);
}

/// Random inputs in random order, late, early and of any generation.
TEST(tunnel_fsm, is_never_stuck_and_never_has_two_live_sessions) {
  seeded s;
  for (int round = 0; round < 300; ++round) {
    auto options = plain();
    options.standby = s.random.below(2) == 0;
    tunnel_fsm uut{options, s.random.next()};
    auto now = start;
    std::multiset<time_point> wakes;
    generation live = 0;
    for (int i = 0; i < 200; ++i) {
      now += milliseconds{s.random.below(s.random.below(20) == 0 ? 40'000 : 300)};
      wakes.erase(wakes.begin(), wakes.upper_bound(now));
      const auto of = 1 + s.random.below(uut.dials() + 2);
      const auto input = [&]() -> tunnel_effects {
        switch (s.random.below(14)) {
          case 0:
            return uut.on_start(now);
          case 1:
            return s.random.below(20) == 0 ? uut.on_stop(now) : uut.on_demand(now);
          case 2:
            return uut.on_connected(now, of, 1ms);
          case 3:
            return uut.on_banner(now, of);
          case 4:
            return uut.on_authenticated(now, of);
          case 5:
          case 6:
            return uut.on_probe_answered(now, of);
          case 7:
            return uut.on_dial_failed(now, of, static_cast<dial_failure>(s.random.below(4)), "x");
          case 8:
            return uut.on_session_lost(now, of, "x");
          case 9:
            return uut.on_inbound(now, of);
          case 10:
            return uut.on_outstanding(now, s.random.below(2) == 0);
          case 11:
            return s.random.below(10) == 0 ? uut.on_drain(now) : uut.on_network_changed(now);
          case 12:
            uut.on_retransmissions(now, of, s.random.below(4), now + 1s);
            return uut.on_retry(now);
          default:
            return uut.on_connections(now, s.random.below(3));
        }
      };
      auto seen = input();
      for (auto& one : uut.on_tick(now)) seen.push_back(std::move(one));
      ASSERT_LE(seen.size(), 24u);
      for (const auto& one : seen) {
        std::visit(overload{[&](const abandon& e) {
                              if (live == e.of) live = 0;
                            },
                            [&](const switch_to& e) { live = e.of; },
                            [&](const wake& e) { wakes.insert(e.at); }, [](const auto&) {}},
                   one);
      }
      ASSERT_EQ(live, uut.live());
      const auto state = uut.state();
      const bool is_at_rest = state == tunnel_state::idle || state == tunnel_state::parked;
      ASSERT_TRUE(is_at_rest || !wakes.empty() || uut.dials_under_way() > 0) << to_string(state);
      ASSERT_EQ(state == tunnel_state::up || state == tunnel_state::suspect ||
                    state == tunnel_state::draining,
                live != 0);
      if (state == tunnel_state::backoff || state == tunnel_state::up ||
          state == tunnel_state::suspect || state == tunnel_state::draining) {
        ASSERT_FALSE(wakes.empty()) << to_string(state);
      }
    }
  }
}

TEST(tunnel_fsm, gives_a_probe_more_time_while_what_stands_before_it_is_still_taken) {
  auto uut = up_since(start);
  uut.on_tick(start + 1s);  // The probe; its deadline is 250 ms.
  for (int i = 1; i <= 8; ++i) {
    uut.on_probe_advanced(start + 1s + i * 200ms, 1);
    uut.on_tick(start + 1s + i * 200ms);
    ASSERT_EQ(uut.state(), tunnel_state::up);
  }
  uut.on_tick(start + 2600ms + 250ms);
  EXPECT_EQ(uut.state(), tunnel_state::suspect);
}
