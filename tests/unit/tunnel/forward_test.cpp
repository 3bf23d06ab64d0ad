// What becomes of the connections that a tunnel carries, in virtual time.
#include <gtest/gtest.h>

#include "actors/tunnel/forward_fsm.hpp"
#include "tests/support/only.hpp"

using namespace ntrace;
using ntrace::test::only;
using namespace ntrace::tunnel;
using namespace std::chrono_literals;

namespace {

const time_point start{};

forward_fsm with_open(connection_id of, forward_options options = {}) {
  forward_fsm out{options};
  out.on_session(start, 1);
  out.on_accepted(start, of);
  out.on_opened(start, of);
  return out;
}

}  // namespace

TEST(forward_fsm, holds_connections_without_a_session_and_opens_them_in_order) {
  forward_options options;
  options.opening_max = 2;
  forward_fsm uut{options};
  for (connection_id id = 1; id <= 3; ++id) uut.on_accepted(start, id);
  uut.on_local_bytes(start, 1, "first");
  const auto up = only<open_channel>(uut.on_session(start, 1));
  ASSERT_EQ(up.size(), 2u) << "no more than the bound";
  EXPECT_EQ(up[0].of, 1u);
  EXPECT_EQ(up[1].of, 2u);
  const auto opened = uut.on_opened(start, 1);
  EXPECT_EQ(only<write_channel>(opened).at(0).data, "first");
  EXPECT_EQ(only<open_channel>(opened).at(0).of, 3u);
}

TEST(forward_fsm, resets_what_ran_over_a_lost_session_and_keeps_what_only_waited) {
  auto uut = with_open(1);
  uut.on_local_bytes(start, 1, "half a line");
  uut.on_accepted(start, 2);  // Being opened.
  uut.on_accepted(start, 3);
  const auto lost = only<close_local>(uut.on_session_lost(start, 1));
  ASSERT_EQ(lost.size(), 1u);
  EXPECT_EQ(lost[0].of, 1u);
  EXPECT_TRUE(lost[0].is_reset);
  EXPECT_EQ(uut.held(), 2u);
  const auto up = uut.on_session(start, 2);
  EXPECT_EQ(only<open_channel>(up).at(0).of, 2u);
  EXPECT_TRUE(only<write_channel>(up).empty());
}

TEST(forward_fsm, passes_a_half_close_on_after_the_bytes_and_keeps_the_other_way) {
  auto uut = with_open(1);
  uut.on_local_bytes(start, 1, "ask");
  EXPECT_EQ(only<end_channel>(uut.on_local_end(start, 1)).size(), 1u);
  EXPECT_EQ(only<write_local>(uut.on_channel_bytes(start, 1, "answer")).size(), 1u);
  const auto both = uut.on_channel_end(start, 1);
  EXPECT_EQ(only<end_local>(both).size(), 1u);
  EXPECT_EQ(only<close_channel>(both).size(), 1u);
  EXPECT_FALSE(only<close_local>(both).at(0).is_reset);
  uut.on_channel_closed(start, 1);
  EXPECT_EQ(uut.size(), 0u);
}

TEST(forward_fsm, ends_the_channel_of_a_held_connection_that_half_closed) {
  forward_fsm uut;
  uut.on_accepted(start, 1);
  uut.on_local_bytes(start, 1, "ask");
  uut.on_local_end(start, 1);
  uut.on_session(start, 1);
  const auto opened = uut.on_opened(start, 1);
  ASSERT_EQ(opened.size(), 2u);
  EXPECT_TRUE(std::holds_alternative<write_channel>(opened[0]));
  EXPECT_TRUE(std::holds_alternative<end_channel>(opened[1]));
}

TEST(forward_fsm, bounds_held_connections_by_count_bytes_and_time) {
  forward_options options;
  options.held_connections_max = 2;
  options.held_bytes_max = 4;
  options.held_max = 1s;
  forward_fsm uut{options};
  uut.on_accepted(start, 1);
  uut.on_accepted(start, 2);
  EXPECT_EQ(only<close_local>(uut.on_accepted(start, 3)).at(0).of, 3u) << "the newest";
  EXPECT_EQ(only<stop_local>(uut.on_local_bytes(start, 1, "1234")).size(), 1u);
  EXPECT_TRUE(only<close_local>(uut.on_tick(start + 999ms)).empty());
  EXPECT_EQ(only<close_local>(uut.on_tick(start + 1s)).size(), 2u);
  EXPECT_EQ(uut.buffered_bytes(), 0u);
}

TEST(forward_fsm, stops_reading_a_side_while_the_other_takes_nothing) {
  forward_options options;
  options.channel_buffer_bytes = 10;
  auto uut = with_open(1, options);
  EXPECT_EQ(only<stop_local>(uut.on_local_bytes(start, 1, "0123456789")).size(), 1u);
  EXPECT_TRUE(only<read_local>(uut.on_channel_took(start, 1, 4)).empty());
  EXPECT_EQ(only<read_local>(uut.on_channel_took(start, 1, 1)).size(), 1u);
  EXPECT_EQ(only<stop_channel>(uut.on_channel_bytes(start, 1, "0123456789")).size(), 1u);
  EXPECT_EQ(only<read_channel>(uut.on_local_took(start, 1, 10)).size(), 1u);
  EXPECT_EQ(uut.buffered_bytes(), 5u);
}

TEST(forward_fsm, keeps_the_slot_of_a_pending_open_whose_client_left_and_closes_what_comes) {
  forward_options options;
  options.opening_max = 1;
  forward_fsm uut{options};
  uut.on_session(start, 1);
  uut.on_accepted(start, 1);
  uut.on_local_broken(start, 1);
  EXPECT_TRUE(only<open_channel>(uut.on_accepted(start, 2)).empty());
  const auto opened = uut.on_opened(start, 1);
  EXPECT_EQ(only<close_channel>(opened).at(0).of, 1u);
  EXPECT_EQ(only<open_channel>(opened).at(0).of, 2u);
}

TEST(forward_fsm, takes_a_close_without_an_end_for_a_reset) {
  auto uut = with_open(1);
  EXPECT_TRUE(only<close_local>(uut.on_channel_closed(start, 1)).at(0).is_reset);
}

TEST(forward_fsm, drops_and_counts_a_channel_whose_close_is_never_answered) {
  auto uut = with_open(1);
  uut.on_local_broken(start, 1);
  uut.on_tick(start + 5s);
  EXPECT_EQ(uut.size(), 0u);
  EXPECT_EQ(uut.leaked_channels(), 1u);
}
