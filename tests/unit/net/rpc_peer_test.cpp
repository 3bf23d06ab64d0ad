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
  uut.on_written(start + 30s, 5);  // Some of it was read: the count starts again.
  EXPECT_TRUE(uut.on_tick(start + 30s + limits::unread_deadline).empty());
  EXPECT_TRUE(closes(uut.on_tick(start + 31s + limits::unread_deadline)));
}

TEST(rpc_peer, is_closed_after_a_line_that_is_too_long_was_answered) {
  rpc_peer_fsm uut;
  const auto seen = uut.on_bytes(start, "[" + std::string(limits::line_bytes_max, 'x'));
  EXPECT_EQ(only<write_bytes>(seen).size(), 1u);
  EXPECT_FALSE(closes(seen));
  EXPECT_TRUE(closes(uut.on_written(start, 0)));
}

/// What a browser, a proxy or another program says first, with a line of ours behind it.
const std::string_view foreign_beginnings[] = {"POST / HTTP/1.1\r\nHost: 127.0.0.1:9181\r\n\r\n",
                                               "GET /\r\n",
                                               "OPTIONS * HTTP/1.1\r\n\r\n",
                                               "WHATEVER / HTTP/1.1\r\n\r\n",
                                               "!#$%&'*+-.^_`|~ / HTTP/1.1\r\n\r\n",
                                               "post / http/1.1\n\n",
                                               "CONNECT h:1 HTTP/1.1\r\n\r\n",
                                               "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
                                               "HTTP/1.1 200 OK\r\n\r\n",
                                               "\r\n\r\nPOST / HTTP/1.1\r\n\r\n",
                                               " \t\n POST / HTTP/1.1\r\n\r\n",
                                               "\x16\x03\x01\x02",
                                               "\x80\x2e\x01",
                                               "PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n",
                                               "SSH-2.0-x\r\n",
                                               "EHLO x\r\n",
                                               "\x05\x01",
                                               "{}\n",
                                               "\"[\"\n",
                                               "nonsense\n",
                                               "]\n",
                                               "\xef\xbb\xbf"};

TEST(rpc_peer, is_refused_when_it_begins_with_another_protocol_and_nothing_behind_that_is_served) {
  for (const auto foreign : foreign_beginnings) {
    rpc_peer_fsm uut;
    const auto seen = uut.on_bytes(start, std::string{foreign} + "[\"drain\",[],1]\n");
    EXPECT_TRUE(only<serve_request>(seen).empty()) << foreign;
    EXPECT_EQ(only<refuse_foreign>(seen).size(), 1u) << foreign;
    EXPECT_EQ(only<stop_reading>(seen).size(), 1u) << foreign;
    ASSERT_EQ(only<write_bytes>(seen).size(), 1u) << foreign;
    EXPECT_TRUE(uut.on_bytes(start, "[\"drain\",[],2]\n").empty()) << foreign;
    EXPECT_TRUE(closes(uut.on_written(start, 0))) << foreign;
  }
}

TEST(rpc_peer, is_refused_when_the_foreign_bytes_come_one_by_one) {
  for (const auto foreign : foreign_beginnings) {
    rpc_peer_fsm uut;
    std::size_t refused = 0;
    for (const char c : std::string{foreign} + "\n[\"drain\",[],1]\n") {
      const auto seen = uut.on_bytes(start, {&c, 1});
      EXPECT_TRUE(only<serve_request>(seen).empty()) << foreign;
      refused += only<refuse_foreign>(seen).size();
    }
    EXPECT_EQ(refused, 1u) << foreign;
  }
}

TEST(rpc_peer, is_told_nothing_of_others_once_it_is_refused) {
  rpc_peer_fsm uut;
  uut.on_bytes(start, "GET / HTTP/1.1\r\n");
  EXPECT_TRUE(uut.on_notify(start, "offer", json::array()).empty());
  EXPECT_TRUE(closes(uut.on_tick(start + 1s + limits::unread_deadline)));
}

TEST(rpc_peer, is_served_behind_blanks_and_later_has_each_wrong_line_answered) {
  rpc_peer_fsm uut;
  EXPECT_TRUE(uut.on_bytes(start, " \r\n\t\n ").empty());
  EXPECT_EQ(only<serve_request>(uut.on_bytes(start, "[\"a\",[],1]\n")).size(), 1u);
  const auto wrong = uut.on_bytes(start, "POST / HTTP/1.1\n[\"b\",[],2]\n");
  EXPECT_EQ(only<write_bytes>(wrong).size(), 1u);
  EXPECT_EQ(only<serve_request>(wrong).size(), 1u);
}

TEST(rpc_peer, is_served_on_after_a_first_line_that_only_begins_like_one_of_ours) {
  rpc_peer_fsm uut;
  const auto seen = uut.on_bytes(start, "[nonsense\n[\"a\",[],1]\n");
  EXPECT_EQ(only<write_bytes>(seen).size(), 1u);
  EXPECT_EQ(only<serve_request>(seen).size(), 1u);
}
