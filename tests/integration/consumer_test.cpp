// Consumers of the old protocol against the real dispatcher: over plain sockets, and the npm
// package that the prototype's own programs were made with.
#include <gtest/gtest.h>

#include "tests/support/program_parts.hpp"
#include "tests/support/wire.hpp"

using namespace ntrace;
using namespace ntrace::test;
using namespace std::chrono_literals;

namespace {

json doc_of(const json& job, const std::string& id, const std::string& stream, const json& data) {
  return {{"id", job["id"].get<std::string>() + id},
          {"run_id", "run-" + job["id"].get<std::string>()},
          {"when", 1},
          {"repo", job["owner"].get<std::string>() + "/" + job["repo"].get<std::string>()},
          {"commit", job["commit"]},
          {"stream", stream},
          {"data", data}};
}

/// Says all that a run has to say; the last reply's first element.
json work(wire& tells, const json& job, const std::string& epoch) {
  json last;
  const auto say = [&](const std::string& id, const std::string& stream, const json& data) {
    auto doc = doc_of(job, epoch + id, stream, data);
    doc["run_id"] = epoch + job["id"].get<std::string>();
    tells.ask("result", json::array({doc}), 1);
    last = tells.reply();
  };
  say("start", "events", {{"level", "info"}, {"code", "start"}, {"message", "begins"}});
  say("out", "stdout", "hello");
  for (const char* stream : {"stdout", "stderr", "events", "result"})
    say(std::string{"end"} + stream, "control", {{"event", "end"}, {"stream", stream}});
  return last.is_array() ? last[0] : json{};
}

std::string push(server& uut, int n) {
  const auto hex = std::to_string(1'000'000 + n);
  return ok(
      uut.call("push", json::array({"o", "r", std::string(40 - hex.size(), '0') + hex})))["run"];
}

}  // namespace

TEST(consumer_program, serves_the_prototypes_own_library_unchanged) {
  const scratch dir;
  server uut{dir, {"dispatcher"}};
  const auto port = std::to_string(ok(parse_host_port(uut.dispatcher)).port);
  for (const char* version : {"rpc-stream", "rpc-stream-1"}) {
    const std::vector<std::string> good{push(uut, 1), push(uut, 2)};
    const std::string bad = ok(uut.call(
        "push",
        json::array({json{{"after", sha},
                          {"fails", true},
                          {"repository", {{"name", "r"}, {"owner", {{"login", "o"}}}}}}})))["run"];
    const auto seen = node("rpc_stream_consumer.js", {version, port, "3"});
    ASSERT_EQ(seen.exit_code, 0) << version << seen.out << seen.err << uut.log();
    EXPECT_EQ(json::parse(seen.out).size(), 3u);
    for (const auto& run : good) EXPECT_EQ(uut.wait_for_end(run), "done");
    EXPECT_EQ(uut.wait_for_end(bad), "failed");
    EXPECT_EQ(ok(uut.call("show", json::array({bad})))["reason"], "npm install failed");
    const auto folded =
        run_ntrace({"flame", good[0], "--format", "folded", "--dispatcher", uut.dispatcher});
    EXPECT_EQ(folded.out, "main;f 3\nmain;g 1\n") << folded.err;
    const auto logs = run_ntrace({"logs", good[1], "--dispatcher", uut.dispatcher});
    EXPECT_NE(logs.out.find("out of " + good[1]), std::string::npos) << logs.out;
  }
}

TEST(consumer_program, gives_a_push_back_at_once_when_its_consumer_dies_or_half_closes) {
  const scratch dir;
  server uut{dir, {"dispatcher"}};
  wire patient{uut.dispatcher};
  const auto first = push(uut, 1);
  {
    wire dying{uut.dispatcher};
    dying.ask("next", json::array(), 1);
    EXPECT_EQ(dying.reply()[0][1]["id"], first);
    patient.ask("next", json::array(), 1);
  }
  EXPECT_EQ(patient.reply()[0][1]["id"], first);  // Well before the lease's 30 s.
  const auto second = push(uut, 2);
  wire half{uut.dispatcher};
  half.ask("next", json::array(), 7);
  EXPECT_EQ(half.reply()[0][1]["id"], second);
  patient.ask("next", json::array(), 2);
  half.half_close();
  EXPECT_EQ(patient.reply()[0][1]["id"], second);
  wire nc{uut.dispatcher};
  nc.ask("next", json::array(), 1);
  nc.half_close();
  EXPECT_EQ(nc.reply()[0][0]["code"], "connection_lost");
  EXPECT_TRUE(nc.reply().is_null());
}

TEST(consumer_program, gives_a_push_back_within_the_lease_when_its_consumer_vanished) {
  const scratch dir;
  server uut{dir, {"dispatcher"}, {"--lease-ms", "500"}};
  wire vanished{uut.dispatcher}, other{uut.dispatcher};
  vanished.ask("next", json::array(), 1);
  ASSERT_TRUE(ok(uut.call("status", json::array()))["runners"].size() == 1);
  const auto run = push(uut, 1);
  other.ask("next", json::array(), 1);
  EXPECT_EQ(other.reply()[0][1]["id"], run);
}

TEST(consumer_program, ends_each_of_a_hundred_runs_in_flight_once_when_the_dispatcher_is_killed) {
  const scratch dir;
  std::vector<std::string> runs;
  {
    server first{dir, {"dispatcher"}};
    wire asks{first.dispatcher}, tells{first.dispatcher};
    for (int i = 0; i < 100; ++i) runs.push_back(push(first, i));
    for (int i = 0; i < 100; ++i) asks.ask("next", json::array(), i);
    for (int i = 0; i < 100; ++i) {
      const auto job = asks.reply()[0][1];
      if (i % 2 == 0) {
        tells.ask("result", json::array({doc_of(job, "start", "stdout", "x")}), 1);
        EXPECT_TRUE(tells.reply()[0][0].is_null());
      }
    }
    first.stop(SIGKILL);
  }
  server second{dir, {"dispatcher"}};
  wire asks{second.dispatcher}, tells{second.dispatcher};
  for (int i = 0; i < 100; ++i) asks.ask("next", json::array(), i);
  json one;
  for (int i = 0; i < 100; ++i) {
    one = asks.reply()[0][1];
    EXPECT_EQ(work(tells, one, "again")[1]["state"], "done");
  }
  // What the first dispatcher handed out is nobody's now.
  tells.ask("result", json::array({doc_of(one, "late", "stdout", "x")}), 1);
  EXPECT_EQ(tells.reply()[0][0]["code"], "stale_lease");
  for (const auto& run : runs) {
    const auto told = ok(second.call("why", json::array({run})));
    EXPECT_EQ(told["state"], "done");
    EXPECT_EQ(std::count_if(told["events"].begin(), told["events"].end(),
                            [](const json& e) { return e["event"] == "ended"; }),
              1)
        << told;
  }
}
