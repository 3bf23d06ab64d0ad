// The JSON ports and the webhook beside a web page that a user of the machine opens.
#include <gtest/gtest.h>

#include "tests/support/program_parts.hpp"

using namespace ntrace;
using namespace ntrace::test;
using namespace std::chrono_literals;

TEST(ports, obey_no_web_page_in_a_real_browser) {
  if (::access("/usr/bin/chromium", X_OK) != 0 || node_modules().empty()) {
    if (std::getenv("CI")) FAIL() << "no chromium or no node modules";
    GTEST_SKIP() << "no chromium or no node modules";
  }
  const scratch dir;
  const auto webhook = std::to_string(free_port());
  server uut{dir, {"up"}, {"--zone-allow-degraded", "true", "--webhook", "127.0.0.1:" + webhook}};
  const auto port = [](const std::string& at) { return at.substr(at.find(':') + 1); };

  const auto seen = node("rpc_browser.js", {webhook, port(uut.dispatcher), port(uut.runner)}, 120s);

  ASSERT_EQ(seen.exit_code, 0) << seen.out << seen.err;
  for (const bool is_runner : {false, true}) {
    const auto status = ok(uut.call("status", json::array(), is_runner));
    EXPECT_FALSE(status.at("draining").get<bool>()) << (is_runner ? "runner" : "dispatcher");
  }
  const auto tried = json::parse(seen.out);
  EXPECT_EQ(tried.size(), 2u) << seen.out;
  for (const auto& [at, ways] : tried.items())
    for (const auto& [way, end] : ways.items()) EXPECT_NE(end, "answered") << at << " " << way;
  // Each way but those that Chromium itself refuses came to the port, more than once when it
  // retries.
  const auto gauges = ok(uut.call("status", json::array()))["gauges"];
  EXPECT_GE(gauges.value("rpc_refused_foreign", 0), 2 * 12) << seen.out;
  EXPECT_GE(gauges.value("webhook_refused", 0), 5);
  EXPECT_EQ(ok(uut.call("runs", json::array())).size(), 0u) << "a page has pushed";
  EXPECT_NE(uut.log().find("rpc.foreign_refused"), std::string::npos);
  EXPECT_EQ(uut.stop(), 0);
}
