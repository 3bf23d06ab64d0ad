// What a silent session may still become, mismatches that may be damage, and a name's addresses.
#include <gtest/gtest.h>

#include "actors/tunnel/tunnel_fsm.hpp"
#include "tests/support/only.hpp"

using namespace ntrace;
using ntrace::test::only;
using namespace ntrace::tunnel;
using namespace std::chrono_literals;

namespace {

const time_point start{};

tunnel_effects finish_dial(tunnel_fsm& uut, time_point now, generation of) {
  uut.on_connected(now, of, 1ms);
  uut.on_banner(now, of);
  uut.on_authenticated(now, of);
  return uut.on_probe_answered(now, of);
}

/// Session 1 heard last at `start`, suspect, and session 2 ready beside it since 1.3 s.
tunnel_fsm with_a_ready_session() {
  tunnel_options options;
  options.probe_interval = 50ms;
  options.probe_deadline = 250ms;
  tunnel_fsm out{options, 1};
  out.on_start(start);
  finish_dial(out, start, 1);
  out.on_tick(start + 1s);
  out.on_tick(start + 1250ms);
  EXPECT_EQ(out.state(), tunnel_state::suspect);
  const auto seen = finish_dial(out, start + 1300ms, 2);
  EXPECT_TRUE(only<switch_to>(seen).empty());
  EXPECT_EQ(only<wake>(seen).size(), 1u);
  return out;
}

}  // namespace

TEST(tunnel_heal, keeps_the_connections_of_a_silent_session_while_tcp_may_heal_it) {
  auto uut = with_a_ready_session();
  EXPECT_TRUE(only<reset_connections>(uut.on_tick(start + 4299ms)).empty());
  const auto healed = uut.on_inbound(start + 4299ms, 1);
  EXPECT_EQ(uut.state(), tunnel_state::up);
  EXPECT_EQ(uut.live(), 1u);
  EXPECT_TRUE(only<reset_connections>(healed).empty());
  EXPECT_EQ(only<abandon>(healed).at(0).of, 2u);
  EXPECT_EQ(uut.dials_under_way(), 0u);
}

TEST(tunnel_heal, switches_to_the_ready_session_when_tcp_had_its_time) {
  auto uut = with_a_ready_session();
  const auto seen = uut.on_tick(start + 4300ms);
  EXPECT_EQ(only<switch_to>(seen).at(0).of, 2u);
  EXPECT_EQ(only<reset_connections>(seen).at(0).of, 1u);
  EXPECT_EQ(only<dial>(seen).size(), 0u);
}

TEST(tunnel_heal, switches_at_once_after_a_long_silence) {
  tunnel_fsm uut{{}, 1};
  uut.on_start(start);
  finish_dial(uut, start, 1);
  uut.on_tick(start + 1s);
  uut.on_tick(start + 1s + uut.probe_deadline());
  ASSERT_EQ(uut.state(), tunnel_state::suspect);
  EXPECT_EQ(only<switch_to>(finish_dial(uut, start + 5s, 2)).size(), 1u);
}

TEST(tunnel_heal, takes_the_ready_session_at_once_when_the_silent_one_ends) {
  auto uut = with_a_ready_session();
  const auto seen = uut.on_session_lost(start + 1400ms, 1, "reset");
  EXPECT_EQ(only<switch_to>(seen).at(0).of, 2u);
  EXPECT_EQ(uut.state(), tunnel_state::up);
}

TEST(tunnel_heal, dials_another_when_the_ready_session_ends_first) {
  auto uut = with_a_ready_session();
  uut.on_session_lost(start + 1400ms, 2, "reset");
  EXPECT_EQ(uut.state(), tunnel_state::suspect);
  EXPECT_EQ(uut.live(), 1u);
  EXPECT_EQ(only<dial>(uut.on_tick(start + 2400ms)).size(), 1u);
}

TEST(tunnel_heal, waits_no_longer_when_what_tcp_said_again_got_no_answer) {
  auto uut = with_a_ready_session();
  uut.on_retransmissions(start + 1350ms, 1, 3,
                         start + 2s);  // Of before the path was seen to be whole.
  uut.on_retransmissions(start + 1400ms, 1, 3, start + 2s);
  EXPECT_TRUE(only<switch_to>(uut.on_tick(start + 2s)).empty());
  uut.on_retransmissions(start + 2s, 1, 4, start + 4s);
  EXPECT_TRUE(only<switch_to>(uut.on_tick(start + 2099ms)).empty());
  EXPECT_EQ(only<switch_to>(uut.on_tick(start + 2100ms)).size(), 1u);
}

TEST(tunnel_heal, waits_on_when_the_server_took_what_tcp_said_again) {
  auto uut = with_a_ready_session();
  uut.on_retransmissions(start + 1350ms, 1, 3, start + 2s);
  uut.on_retransmissions(start + 1500ms, 1, 4, start + 3s);
  uut.on_probe_advanced(start + 1510ms, 1);
  EXPECT_TRUE(only<switch_to>(uut.on_tick(start + 3s)).empty());
}

TEST(tunnel_heal, does_not_wait_for_a_retransmission_that_comes_too_late) {
  auto uut = with_a_ready_session();
  uut.on_retransmissions(start + 1310ms, 1, 3, start + 4300ms);
  EXPECT_TRUE(only<switch_to>(uut.on_tick(start + 1310ms)).empty());
  uut.on_retransmissions(start + 1320ms, 1, 3, start + 4301ms);
  EXPECT_EQ(only<switch_to>(uut.on_tick(start + 1320ms)).size(), 1u);
}

TEST(tunnel_heal, asks_for_a_tick_soon_while_it_waits) {
  auto uut = with_a_ready_session();
  const auto seen = uut.on_tick(start + 1400ms);
  ASSERT_FALSE(only<wake>(seen).empty());
  EXPECT_LE(only<wake>(seen).back().at, start + 1450ms);
  EXPECT_TRUE(uut.is_healing());
}

TEST(tunnel_mismatch, is_dialled_again_once_and_parks_when_it_repeats) {
  tunnel_fsm uut{{}, 1};
  uut.on_start(start);
  uut.on_dial_failed(start, 1, dial_failure::mismatch, "no cipher");
  EXPECT_EQ(uut.state(), tunnel_state::backoff) << "it may be a damaged byte";
  EXPECT_EQ(only<dial>(uut.on_tick(start + 1s)).at(0).of, 2u);
  const auto parked = uut.on_dial_failed(start + 1s, 2, dial_failure::mismatch, "no cipher");
  EXPECT_EQ(uut.state(), tunnel_state::parked);
  EXPECT_GE(only<wake>(parked).at(0).at, start + 240s) << "a server may be set up again meanwhile";
}

TEST(tunnel_mismatch, counts_only_in_a_row) {
  tunnel_fsm uut{{}, 1};
  uut.on_start(start);
  auto now = start;
  for (generation of = 1; of <= 8; ++of) {
    uut.on_dial_failed(now, of, of % 2 == 0 ? dial_failure::transient : dial_failure::mismatch,
                       "x");
    ASSERT_EQ(uut.state(), tunnel_state::backoff) << of;
    now += 31s;
    ASSERT_EQ(only<dial>(uut.on_tick(now)).size(), 1u);
  }
}

TEST(tunnel_addresses, begin_with_the_next_one_after_each_failed_dial) {
  tunnel_fsm uut{{}, 1};
  EXPECT_EQ(only<dial>(uut.on_start(start)).at(0).first_address, 0u);
  auto now = start;
  for (unsigned n = 1; n <= 3; ++n) {
    uut.on_dial_failed(now, n, dial_failure::transient, "unreachable");
    now += 31s;
    EXPECT_EQ(only<dial>(uut.on_tick(now)).at(0).first_address, n);
  }
}

TEST(tunnel_addresses, begin_with_the_one_that_worked_after_a_lost_session) {
  tunnel_fsm uut{{}, 1};
  uut.on_start(start);
  uut.on_connected(start, 1, 1ms, 2);
  uut.on_banner(start, 1);
  uut.on_authenticated(start, 1);
  uut.on_probe_answered(start, 1);
  uut.on_session_lost(start + 10s, 1, "reset");
  EXPECT_EQ(only<dial>(uut.on_tick(start + 10s)).at(0).first_address, 2u);
}
