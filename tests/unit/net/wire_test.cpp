// JSON lines and sessions.
#include <gtest/gtest.h>

#include "config/limits.hpp"
#include "net/rpc_session.hpp"
#include "tests/support/ok.hpp"
#include "tests/support/seeded.hpp"

using namespace ntrace;
using namespace ntrace::net;

namespace {

std::string malformed_code(std::string_view line) {
  const auto parsed = parse_line(line);
  const auto* wrong = std::get_if<rpc_malformed>(&parsed);
  return wrong ? std::string{to_string(wrong->why.code)} + " " + wrong->id : "well-formed";
}

std::vector<rpc_request> requests(const std::vector<rpc_session::event>& events) {
  std::vector<rpc_request> out;
  for (const auto& e : events)
    if (const auto* r = std::get_if<rpc_request>(&e)) out.push_back(*r);
  return out;
}

}  // namespace

TEST(parse_line, keeps_the_id_as_it_was_written) {
  for (const char* id : {"1", "-7", "1.50", "1e3", "18446744073709551616", "\"a\"", "\"q\\\"]\"",
                         "\"\\\\\"", "\"\\u00e9\""}) {
    const auto parsed = parse_line(std::string{"[\"push\", [1, \"x\"], "} + id + " ]");
    const auto* request = std::get_if<rpc_request>(&parsed);
    ASSERT_NE(request, nullptr) << id;
    EXPECT_EQ(request->id, id);
    EXPECT_EQ(request->method, "push");
  }
}

TEST(parse_line, takes_an_array_or_null_head_for_a_reply) {
  for (const char* line : {"[[null,5],1]", "[null,1]", "[null,[],1]", "[[],1]"}) {
    const auto parsed = parse_line(line);
    EXPECT_TRUE(std::holds_alternative<rpc_reply>(parsed)) << line;
  }
}

TEST(parse_line, says_what_is_wrong_and_with_which_id) {
  EXPECT_EQ(malformed_code("nonsense"), "bad_request null");
  EXPECT_EQ(malformed_code("{}"), "bad_request null");
  EXPECT_EQ(malformed_code("[]"), "bad_request null");
  EXPECT_EQ(malformed_code("[1]"), "bad_request null");
  EXPECT_EQ(malformed_code("[\"a\",[],1,2]"), "bad_request null");
  EXPECT_EQ(malformed_code("[\"a\",[],{}]"), "bad_request null");
  EXPECT_EQ(malformed_code("[\"a\",[],null]"), "bad_request null");
  EXPECT_EQ(malformed_code("[\"a\",{},7]"), "bad_request 7");
  EXPECT_EQ(malformed_code("[5,[],7]"), "bad_request 7");
  EXPECT_EQ(malformed_code("[\"a\",[\"\xff\"],7]"), "bad_request null");
  const auto parsed = parse_line("[\"a\",,1]");
  EXPECT_NE(std::get<rpc_malformed>(parsed).why.message.find("column 6"), std::string::npos);
}

TEST(parse_line, refuses_nesting_of_65_and_takes_64) {
  const auto nested = [](int depth) {
    return "[\"a\",[" + std::string(static_cast<std::size_t>(depth - 2), '[') +
           std::string(static_cast<std::size_t>(depth - 2), ']') + "],1]";
  };
  EXPECT_EQ(malformed_code(nested(64)), "well-formed");
  EXPECT_EQ(malformed_code(nested(65)), "bad_request null");
  EXPECT_EQ(malformed_code(std::string(1'000'000, '[')), "bad_request null");
}

TEST(rpc_session, gives_the_same_requests_however_the_bytes_are_cut) {
  test::seeded s;
  const std::string text = "[\"a\",[1],1]\r\n\n[\"b\",[\"x\\ny\"],\"2\"]\n   \n[\"c\",[],3]\n";
  for (int round = 0; round < 200; ++round) {
    rpc_session uut;
    std::vector<rpc_request> got;
    for (std::size_t at = 0; at < text.size();) {
      const auto n = 1 + s.random.below(9);
      for (auto& r : requests(uut.on_bytes(std::string_view{text}.substr(at, n)))) got.push_back(r);
      at += n;
    }
    ASSERT_EQ(got.size(), 3u);
    EXPECT_EQ(got[0].method + got[1].method + got[2].method, "abc");
    EXPECT_FALSE(uut.has_output());
  }
}

TEST(rpc_session, goes_on_after_a_malformed_line) {
  rpc_session uut;
  const auto got = requests(uut.on_bytes("what?\n[\"a\",[],1]\n"));
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(uut.take_output().find("[[{\"code\":\"bad_request\""), 0u);
  EXPECT_FALSE(uut.is_broken());
}

TEST(rpc_session, breaks_on_a_line_of_one_byte_more_than_the_limit) {
  rpc_session fits, breaks;
  const auto padded = [](std::size_t size) {
    return "[\"a\",[\"" + std::string(size - 12, 'x') + "\"],1]";
  };
  EXPECT_EQ(requests(fits.on_bytes(padded(limits::line_bytes_max) + "\n")).size(), 1u);
  EXPECT_TRUE(requests(breaks.on_bytes(padded(limits::line_bytes_max + 1))).empty());
  EXPECT_TRUE(breaks.is_broken());
  EXPECT_NE(breaks.take_output().find("line_too_long"), std::string::npos);
  EXPECT_TRUE(breaks.on_bytes("\n[\"a\",[],1]\n").empty());
}

TEST(rpc_session, refuses_an_id_that_is_in_use_and_takes_it_again_after_the_answer) {
  rpc_session uut;
  const auto first = requests(uut.on_bytes("[\"a\",[],1]\n[\"b\",[],1]\n"));
  ASSERT_EQ(first.size(), 1u);
  EXPECT_NE(uut.take_output().find("in use"), std::string::npos);
  uut.answer(first[0], R"({"fine":true})");
  EXPECT_EQ(uut.take_output(), "[[null,{\"fine\":true}],1]\n");
  EXPECT_EQ(requests(uut.on_bytes("[\"c\",[],1]\n")).size(), 1u);
}

TEST(rpc_session, answers_nothing_to_the_id_minus_one) {
  rpc_session uut;
  const auto got = requests(uut.on_bytes("[\"a\",[],-1]\n[\"a\",[],-1]\n"));
  ASSERT_EQ(got.size(), 2u);
  EXPECT_FALSE(got[0].wants_reply);
  uut.answer(got[0], fail(ec::defect, "x"));
  EXPECT_FALSE(uut.has_output());
  EXPECT_EQ(uut.requests_in_flight(), 0u);
}

TEST(rpc_session, asks_for_a_pause_above_1024_requests_or_8_mib_unsent) {
  rpc_session uut;
  std::string many;
  for (int i = 0; i < 1025; ++i) many += "[\"a\",[]," + std::to_string(i) + "]\n";
  EXPECT_FALSE(uut.wants_pause(0));
  uut.on_bytes(many);
  EXPECT_TRUE(uut.wants_pause(0));
  rpc_session idle;
  EXPECT_FALSE(idle.wants_pause(limits::unsent_bytes_max));
  EXPECT_TRUE(idle.wants_pause(limits::unsent_bytes_max + 1));
}

TEST(rpc_session, matches_replies_to_calls_and_counts_strays) {
  rpc_session uut;
  const auto call = uut.call("hello", json::array());
  const auto events =
      uut.on_bytes("[[null,1],99]\n[[{\"message\":\"no\",\"code\":\"stale_lease\"}]," +
                   std::to_string(call) + "]\n[[null,1]," + std::to_string(call) + "]\n");
  ASSERT_EQ(events.size(), 1u);
  const auto& answer = std::get<rpc_answer>(events[0]);
  EXPECT_EQ(answer.call, call);
  EXPECT_EQ(answer.value.error().code, ec::stale_lease);
  EXPECT_EQ(uut.stray_replies(), 2u);
}
