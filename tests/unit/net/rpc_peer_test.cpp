// One connection of the line protocol, in virtual time.
#include <gtest/gtest.h>

#include "config/limits.hpp"
#include "net/rpc_peer_fsm.hpp"
#include "tests/support/only.hpp"

using namespace ntrace;
using ntrace::test::only;
using namespace ntrace::net;
using namespace std::chrono_literals;

namespace {

const time_point start{};

bool closes(const peer_effects& all) { return !only<close_connection>(all).empty(); }
bool tells(const peer_effects& all) { return !only<peer_is_gone>(all).empty(); }

rpc_request ask(rpc_peer_fsm& uut) {
  return only<serve_request>(uut.on_bytes(start, "[\"push\",[],1]\n")).at(0).request;
}

}  // namespace

TEST(rpc_peer, is_answered_after_it_half_closed_and_only_then_closed) {
  rpc_peer_fsm uut;
  const auto asked = ask(uut);
  const auto half = uut.on_half_close(start);
  EXPECT_TRUE(tells(half));
  EXPECT_FALSE(closes(half));
  const auto answered = uut.on_answer(start, asked, "\"yes\"");
  ASSERT_EQ(only<write_bytes>(answered).size(), 1u);
  EXPECT_NE(only<write_bytes>(answered)[0].text.find("yes"), std::string::npos);
  EXPECT_FALSE(closes(answered)) << "the answer is not sent yet";
  const auto sent = uut.on_written(start, 0);
  EXPECT_TRUE(closes(sent));
  EXPECT_FALSE(tells(sent)) << "told once";
  EXPECT_TRUE(uut.is_closed());
}

TEST(rpc_peer, is_closed_at_once_when_it_half_closes_and_owes_nothing) {
  rpc_peer_fsm uut;
  EXPECT_TRUE(closes(uut.on_half_close(start)));
}

TEST(rpc_peer, is_told_of_as_gone_when_it_breaks_and_its_answers_go_nowhere) {
  rpc_peer_fsm uut;
  const auto asked = ask(uut);
  const auto broken = uut.on_broken();
  EXPECT_TRUE(tells(broken));
  EXPECT_TRUE(closes(broken));
  EXPECT_TRUE(uut.on_answer(start, asked, "\"late\"").empty());
  EXPECT_TRUE(uut.on_broken().empty());
}

TEST(rpc_peer, is_read_no_more_while_it_does_not_read_its_answers) {
  rpc_peer_fsm uut;
  const auto asked = ask(uut);
  const auto big = uut.on_answer(start, asked, std::string(limits::unsent_bytes_max, '9'));
  EXPECT_EQ(only<stop_reading>(big).size(), 1u);
  EXPECT_TRUE(only<read_again>(uut.on_written(start, limits::unsent_bytes_max + 1)).empty());
  EXPECT_EQ(only<read_again>(uut.on_written(start, 0)).size(), 1u);
}

TEST(rpc_peer, is_given_up_when_it_reads_nothing_for_the_deadline) {
  rpc_peer_fsm uut;
  uut.on_answer(start, ask(uut), "\"yes\"");
  EXPECT_TRUE(uut.on_tick(start + limits::unread_deadline).empty());
  uut.on_written(start + 30s, 5);  // Some of it was read: the count begins anew.
  EXPECT_TRUE(uut.on_tick(start + 30s + limits::unread_deadline).empty());
  EXPECT_TRUE(closes(uut.on_tick(start + 31s + limits::unread_deadline)));
}

TEST(rpc_peer, is_closed_after_a_line_that_is_too_long_was_answered) {
  rpc_peer_fsm uut;
  const auto seen = uut.on_bytes(start, std::string(limits::line_bytes_max + 1, 'x'));
  EXPECT_EQ(only<write_bytes>(seen).size(), 1u);
  EXPECT_FALSE(closes(seen));
  EXPECT_TRUE(closes(uut.on_written(start, 0)));
}
