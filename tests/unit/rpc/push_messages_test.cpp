// What counts as a push, and the data of chunks on the wire.
#include <gtest/gtest.h>

#include "actors/rpc/messages/push_messages.hpp"
#include "actors/rpc/messages/stream_data.hpp"
#include "config/limits.hpp"
#include "tests/support/ok.hpp"
#include "tests/support/seeded.hpp"

using namespace ntrace;
using namespace ntrace::rpc;
using nlohmann::json;

namespace {
const std::string sha(40, 'a');
}

TEST(parse_push, takes_the_seeds_form_with_and_without_options) {
  const auto plain = test::ok(parse_push(json::array({"o", "r", std::string(40, 'A')})));
  EXPECT_EQ(plain.sha, sha);
  EXPECT_EQ(plain.payload, "");
  const auto full = test::ok(parse_push(json::array(
      {"o", "r", std::string(64, '0'), {{"key", "k"}, {"source", "dir"}, {"priority", -5}}})));
  EXPECT_EQ(full.key + full.source, "kdir");
  EXPECT_EQ(full.priority, -5);
}

TEST(parse_push, takes_a_webhooks_payload) {
  const json payload{{"after", sha},
                     {"uuid", "u-1"},
                     {"repository", {{"name", "nano"}, {"owner", {{"login", "dscape"}}}}}};
  const auto push = test::ok(parse_push(json::array({payload})));
  EXPECT_EQ(push.owner + "/" + push.repo, "dscape/nano");
  EXPECT_EQ(push.key, "u-1");
  EXPECT_EQ(json::parse(push.payload), payload);
  const auto keyed = test::ok(parse_push(json::array({payload, json{{"key", "delivery"}}})));
  EXPECT_EQ(keyed.key, "delivery");
  EXPECT_EQ(keyed.payload, push.payload);
  EXPECT_FALSE(parse_push(json::array({payload, json{{"keys", "delivery"}}})));
}

TEST(parse_push, names_the_field_that_is_wrong) {
  const auto field = [](const json& args) {
    const auto got = parse_push(args);
    return got                         ? std::string{"none"}
           : got.error().facts.empty() ? "?"
                                       : got.error().facts[0].second;
  };
  EXPECT_EQ(field(json::array()), "arguments");
  EXPECT_EQ(field(json::array({"o", "r"})), "arguments");
  EXPECT_EQ(field(json::array({1, "r", sha})), "owner");
  EXPECT_EQ(field(json::array({"..", "r", sha})), "owner");
  EXPECT_EQ(field(json::array({"o/x", "r", sha})), "owner");
  EXPECT_EQ(field(json::array({"o", std::string(101, 'r'), sha})), "repo");
  EXPECT_EQ(field(json::array({"o", "", sha})), "repo");
  EXPECT_EQ(field(json::array({"o", "r", sha.substr(1)})), "sha");
  EXPECT_EQ(field(json::array({"o", "r", std::string(40, 'g')})), "sha");
  EXPECT_EQ(field(json::array({"o", "r", nullptr})), "sha");
  EXPECT_EQ(field(json::array({"o", "r", sha, {{"key", ""}}})), "key");
  EXPECT_EQ(field(json::array({"o", "r", sha, {{"key", "a\nb"}}})), "key");
  EXPECT_EQ(field(json::array({"o", "r", sha, {{"priority", 1.5}}})), "priority");
  EXPECT_EQ(field(json::array({"o", "r", sha, {{"colour", 1}}})), "option colour");
  EXPECT_EQ(field(json::array({json{{"after", sha}}})), "repository");
  EXPECT_EQ(field(json::array({json{{"repository", {{"name", "r"}, {"owner", {{"name", "o"}}}}}}})),
            "after");
}

TEST(chunk_data, survives_the_wire_whatever_the_bytes) {
  test::seeded s;
  for (const std::size_t size : {0u, 1u, 100u, 4096u, 4097u, 262144u}) {
    std::string data;
    for (std::size_t i = 0; i < size; ++i) data.push_back(static_cast<char>(s.random.below(256)));
    for (const auto& original : {data, std::string(size, 'a')}) {
      json args = json::object();
      put_chunk_data(args, original);
      const auto line = args.dump();
      ASSERT_LT(line.size(), limits::line_bytes_max);
      EXPECT_EQ(test::ok(chunk_data(json::parse(line))), original);
    }
  }
}

TEST(chunk_data, refuses_what_is_no_chunk_or_unpacks_too_far) {
  EXPECT_EQ(test::code_of(chunk_data(json::object())), ec::bad_argument);
  EXPECT_EQ(test::code_of(chunk_data({{"data", 7}})), ec::bad_argument);
  EXPECT_EQ(test::code_of(chunk_data({{"data", std::string(limits::chunk_bytes_max + 1, 'x')}})),
            ec::bad_argument);
  EXPECT_EQ(test::code_of(chunk_data({{"zstd", "!!!!"}})), ec::bad_argument);
  EXPECT_EQ(test::code_of(chunk_data({{"zstd", "AAAA"}})), ec::bad_argument);
  json bomb = json::object();
  put_chunk_data(bomb, std::string(64u << 20, '\0'));
  EXPECT_EQ(test::code_of(chunk_data(bomb)), ec::bad_argument);
}

TEST(push_answer, is_the_receipt_as_json) {
  const auto text = to_text({"01J9ZQ0000000000000000000A", domain::run_state::queued, true, 7});
  EXPECT_EQ(json::parse(text), (json{{"run", "01J9ZQ0000000000000000000A"},
                                     {"state", "queued"},
                                     {"duplicate", true},
                                     {"journal_seq", 7}}));
}
