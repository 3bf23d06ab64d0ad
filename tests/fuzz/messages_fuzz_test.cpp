// What a runner and its dispatcher say to each other, damaged: nothing throws, a fault names its
// field, and what is taken is written and read again as the same.
#include "actors/rpc/messages/runner_messages.hpp"

#include <algorithm>
#include <limits>

#include "actors/rpc/messages/client_messages.hpp"
#include "actors/rpc/messages/consumer_messages.hpp"
#include "config/json_parse.hpp"
#include "tests/fuzz/fuzz.hpp"

using namespace ntrace;
using nlohmann::json;
using test::fuzz;

namespace {

template <class Message>
using parser = result<Message> (*)(const json&);

std::string text_of(const json& value) {
  return value.dump(-1, ' ', false, json::error_handler_t::replace);
}

bool names_field(const error& e) {
  return std::any_of(e.facts.begin(), e.facts.end(),
                     [](const auto& fact) { return fact.first == "field"; });
}

template <class Message>
void check(const json& value, parser<Message> parse) {
  const auto got = parse(value);
  if (!got) {
    ASSERT_EQ(got.error().code, ec::bad_argument);
    ASSERT_TRUE(names_field(got.error())) << got.error().message;
    return;
  }
  const auto written = rpc::to_json(*got);
  const auto again = parse(parse_or_discard(text_of(written)));
  ASSERT_TRUE(again) << again.error().message;
  ASSERT_EQ(rpc::to_json(*again), written);
}

/// A value of any type and size in place of a member, or a member that is gone.
json with_other_member(json value, random_source& random) {
  if (!value.is_object() || value.empty()) return value;
  auto at = value.begin();
  std::advance(at, random.below(value.size()));
  if (at->is_array() && !at->empty() && random.below(2) == 0) {
    auto& one = (*at)[random.below(at->size())];
    one = with_other_member(one, random);
    return value;
  }
  const json others[] = {nullptr,
                         true,
                         0,
                         -1,
                         std::numeric_limits<std::uint64_t>::max(),
                         std::numeric_limits<std::int64_t>::min(),
                         1.5,
                         1e300,
                         "",
                         "passed",
                         std::string(random.below(80'000), 'x'),
                         std::string(random.below(300), '\n'),
                         json::array(),
                         json::array({1, "a", json::object()}),
                         json::object(),
                         json{{"host", 1}, {"cause", "no_route"}},
                         value};
  const auto n = random.below(std::size(others) + 1);
  if (n == std::size(others))
    value.erase(at);
  else
    *at = others[n];
  return value;
}

template <class Message>
void fuzz_message(const std::vector<Message>& samples, parser<Message> parse) {
  std::vector<std::string> texts;
  for (const auto& one : samples) {
    const auto written = rpc::to_json(one);
    const auto read = parse(written);
    ASSERT_TRUE(read) << read.error().message;
    ASSERT_EQ(rpc::to_json(*read), written) << "a sound message is read as it was written";
    texts.push_back(text_of(written));
  }
  fuzz("none", texts, [parse](const std::string& input) { check(parse_or_discard(input), parse); });
  test::seeded s;
  for (std::size_t i = 0; i < test::rounds(); ++i) {
    auto value = rpc::to_json(samples[s.random.below(samples.size())]);
    for (auto n = 1 + s.random.below(3); n > 0; --n)
      value = with_other_member(std::move(value), s.random);
    SCOPED_TRACE(text_of(value).substr(0, 1000));
    check(value, parse);
    if (::testing::Test::HasFailure()) return;
  }
}

}  // namespace

TEST(fuzz_messages, runner_report) {
  fuzz_message<rpc::runner_report>(
      {{1, "r", 2, 1, "2 enrolled, 1 busy", {{7, "R", "z", {}}}},
       {1, "r", 2, 2, "", {{8, "Q", "", domain::verdict::timed_out}, {9, "S", "z", {}}}}},
      rpc::parse_runner_report);
}

TEST(fuzz_messages, hello_answer) {
  fuzz_message<rpc::hello_answer>({{}, {2, milliseconds{20}, milliseconds{86'400'000}, 9}},
                                  rpc::parse_hello_answer);
}

TEST(fuzz_messages, offer) {
  fuzz_message<rpc::offer>(
      {{"R", 1, 7, "o", "r", std::string(40, 'a'), "git+https://git.example/o/r"}},
      rpc::parse_offer);
}

TEST(fuzz_messages, about_token) { fuzz_message<rpc::about_token>({{7}}, rpc::parse_about_token); }

TEST(fuzz_messages, refuse) { fuzz_message<rpc::refuse>({{7, "draining"}}, rpc::parse_refuse); }

TEST(fuzz_messages, started) { fuzz_message<rpc::started>({{7, "z"}}, rpc::parse_started); }

TEST(fuzz_messages, append) {
  using domain::stream;
  fuzz_message<rpc::append>({{7, 1, stream::out, "text\n", {}},
                             {7, 2, stream::err, std::string{"\xff\x00", 2}, {}},
                             {7, 3, stream::result, std::string(5000, 'x'), {}},
                             {7, 4, stream::events, R"({"level":"info"})", {}}},
                            rpc::parse_append);
}

TEST(fuzz_messages, finish) {
  using domain::verdict;
  const auto receipt = domain::document{json{{"steps", {{"run", 7}}}}};
  const outage away{"registry.example", outage_cause::no_route, "no way", milliseconds{500}};
  fuzz_message<rpc::finish>({{7, verdict::passed, "", receipt, {}, 3},
                             {7, verdict::infrastructure, "lost", domain::empty_object(), {}, {}},
                             {7, verdict::infrastructure, "away", receipt, away, 0}},
                            rpc::parse_finish);
}

TEST(fuzz_messages, heartbeat_answer) {
  fuzz_message<rpc::heartbeat_answer>({{milliseconds{6000}, {}}, {milliseconds{6000}, {1, 2}}},
                                      rpc::parse_heartbeat_answer);
}

TEST(fuzz_messages, append_answer) {
  fuzz_message<rpc::append_answer>({{9}}, rpc::parse_append_answer);
}

/// What people's commands and consumers of the old protocol send, as text.
TEST(fuzz_messages, arguments_of_clients_and_consumers) {
  const auto is_refused_well = [](const auto& got) {
    ASSERT_TRUE(got || got.error().code == ec::bad_argument);
    ASSERT_TRUE(got || names_field(got.error())) << got.error().message;
  };
  fuzz("none",
       {R"([{"repo":"o/r","state":"done","since_ms":-5,"before":"a","after":"b","limit":7}])",
        R"(["01J9ZQ0000000000000000000A",{"after":9,"stream":"stdout","wait_ms":1e9}])",
        R"([{"run":"01J9ZQ0000000000000000000A"},{"outage_tries":3}])",
        R"([{"id":"d","run_id":"m","when":1,"repo":"o/r","stream":"control",)"
        R"("commit":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",)"
        R"("data":{"event":"end","stream":"events"}}])"},
       [&](const std::string& input) {
         const auto args = parse_or_discard(input);
         if (!args.is_array()) return;
         is_refused_well(rpc::parse_runs(args));
         is_refused_well(rpc::parse_run(args));
         is_refused_well(rpc::parse_logs(args));
         is_refused_well(rpc::parse_result_doc(args));
       });
}
