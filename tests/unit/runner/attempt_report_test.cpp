// What an attempt tells of itself, as text: journals and programs of others read it.
#include "actors/runner/attempt_report.hpp"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

using namespace ntrace;
using namespace ntrace::runner;
using namespace std::chrono_literals;
using nlohmann::json;

TEST(attempt_event, says_that_a_step_began) {
  EXPECT_EQ(to_json(attempt_event{step::rollback}).dump(),
            R"({"code":"start","level":"info","message":"rollback started","step":"rollback"})");
  attempt_event run{step::run};
  run.script = "test";
  EXPECT_EQ(to_json(run).dump(),
            R"({"code":"start","level":"info","message":"run started","script":"test",)"
            R"("step":"run"})");
}

TEST(attempt_event, says_how_a_step_ended) {
  attempt_event fetch{step::fetch, 12ms};
  fetch.facts = domain::document{json{{"source_entries", 3}}};
  EXPECT_EQ(to_json(fetch).dump(),
            R"({"code":"finish","duration_ms":12,"facts":{"source_entries":3},"level":"info",)"
            R"("message":"fetch finished","step":"fetch"})");
  const attempt_event install{step::install, 0ms, {ec::install_failed, "npm said no", {}}};
  EXPECT_EQ(to_json(install).dump(),
            R"({"code":"finish","duration_ms":0,"error":{"code":"install_failed",)"
            R"("message":"npm said no"},"level":"error",)"
            R"("message":"install failed: install_failed: npm said no","step":"install"})");
}

TEST(attempt_event, is_a_line_also_when_a_message_is_no_utf_8) {
  const attempt_event bad{step::fetch, 1ms, {ec::io, "a\xff\nb", {}}};
  const auto line = event_text(bad);
  EXPECT_EQ(line.find('\n'), std::string::npos);
  EXPECT_EQ(json::parse(line)["error"]["message"], "a\xef\xbf\xbd\nb");
}

TEST(attempt_receipt, holds_durations_proof_script_and_all_facts) {
  attempt_receipt uut;
  EXPECT_EQ(to_json(uut).dump(), "{}");
  uut.durations = {{step::rollback, 30ms}, {step::run, 7ms}};
  uut.clean = domain::document{json{{"ok", true}}};
  uut.script = "benchmark";
  uut.facts = {domain::document{json{{"exit_code", 1}, {"source", "dir"}}},
               domain::document{json{{"exit_code", 0}}}};
  EXPECT_EQ(to_json(uut).dump(),
            R"({"clean":{"ok":true},"exit_code":0,"script":"benchmark","source":"dir",)"
            R"("steps":{"rollback":30,"run":7}})");
  uut.profile_failed = "perf is missing";
  EXPECT_EQ(to_json(uut).value("profile_failed", ""), "perf is missing");
}
