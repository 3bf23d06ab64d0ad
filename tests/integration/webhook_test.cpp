// The program's webhook, asked with curl as a forge does.
#include <gtest/gtest.h>

#include "tests/support/program.hpp"

using namespace ntrace;
using namespace std::chrono_literals;
using nlohmann::json;
using test::ok;

namespace {

const std::string sha(40, 'a');
const auto payload =
    json{{"after", sha}, {"repository", {{"name", "r"}, {"owner", {{"name", "o"}}}}}}.dump();

/// "BODY STATUS" of a POST.
std::string post(int port, const std::string& path, const std::string& body,
                 const std::vector<std::string>& headers = {}) {
  subprocess_spec spec;
  spec.argv = {"/usr/bin/curl",
               "-s",
               "-m",
               "10",
               "-w",
               " %{http_code}",
               "--data-binary",
               body,
               "-H",
               "Content-Type: application/json"};
  for (const auto& h : headers) spec.argv.insert(spec.argv.end(), {"-H", h});
  spec.argv.push_back("http://127.0.0.1:" + std::to_string(port) + path);
  spec.deadline = 20s;
  return ok(run_subprocess(spec)).out;
}

}  // namespace

TEST(webhook_program, gives_each_delivery_one_run_however_often_it_comes) {
  const test::scratch dir;
  const int port = test::free_port();
  test::server uut{dir, {"dispatcher"}, {"--webhook", "127.0.0.1:" + std::to_string(port)}};
  EXPECT_EQ(post(port, "/github", payload, {"X-GitHub-Delivery: d1"}), "OK 200");
  EXPECT_EQ(post(port, "/github", payload, {"X-GitHub-Delivery: d1"}), "OK 200");
  EXPECT_EQ(post(port, "/github", payload, {"X-GitHub-Delivery: d2"}), "OK 200");
  EXPECT_EQ(ok(uut.call("runs", json::array())).size(), 2u);
  EXPECT_EQ(post(port, "/github", "{}"), "payload:invalid 400");
  EXPECT_EQ(
      post(port, "/github", "{\"x\":" + std::string(50'000, '[') + std::string(50'000, ']') + "}"),
      "payload:invalid 400");
  EXPECT_EQ(post(port, "/a/b", payload), "payload:providernotsupported 400");
  EXPECT_EQ(post(port, "/bitbucket", payload), "payload:providernotsupported 400");
  EXPECT_EQ(post(port, "/github", payload, {"X-GitHub-Event: ping"}), "OK 200");
  EXPECT_EQ(ok(uut.call("runs", json::array())).size(), 2u);
  const auto gauges = ok(uut.call("status", json::array()))["gauges"];
  EXPECT_EQ(gauges.value("webhook_requests", 0), 8);
  EXPECT_EQ(gauges.value("webhook_refused", 0), 4);
  EXPECT_EQ(uut.stop(), 0);
}

TEST(webhook_program, refuses_a_delivery_whose_id_was_used_for_another_push) {
  const test::scratch dir;
  const int port = test::free_port();
  test::server uut{dir, {"dispatcher"}, {"--webhook", "127.0.0.1:" + std::to_string(port)}};
  const std::vector<std::string> delivery{"X-GitHub-Delivery: d1"};
  const auto of = [](const std::string& repo, const std::string& commit) {
    return json{{"after", commit}, {"repository", {{"name", repo}, {"owner", {{"name", "o"}}}}}}
        .dump();
  };
  ASSERT_EQ(post(port, "/github", of("r", sha), delivery), "OK 200");
  const auto run = ok(uut.call("runs", json::array())).at(0).value("run", "");
  for (const auto& other : {of("s", sha), of("r", std::string(40, 'b'))}) {
    const auto said = post(port, "/github", other, delivery);
    EXPECT_TRUE(said.ends_with(" 409")) << said;
    EXPECT_NE(said.find("belongs to run " + run), std::string::npos) << said;
  }
  EXPECT_EQ(post(port, "/github", of("r", std::string(40, 'A')), delivery), "OK 200")
      << "a commit in capitals is the same";
  EXPECT_EQ(ok(uut.call("runs", json::array())).size(), 1u);
  const auto gauges = ok(uut.call("status", json::array()))["gauges"];
  EXPECT_EQ(gauges.value("webhook_refused", 0), 2);
  EXPECT_NE(uut.log().find("webhook.refused"), std::string::npos) << uut.log();
  EXPECT_EQ(uut.stop(), 0);
}

TEST(webhook_program, takes_nothing_from_a_web_page) {
  const test::scratch dir;
  const int port = test::free_port();
  test::server uut{dir, {"dispatcher"}, {"--webhook", "127.0.0.1:" + std::to_string(port)}};
  for (const char* header : {"Origin: http://evil.example", "Origin: null", "Sec-Fetch-Site: none"})
    EXPECT_EQ(post(port, "/github", payload, {header}), "origin:refused 403") << header;
  EXPECT_EQ(ok(uut.call("runs", json::array())).size(), 0u);
  EXPECT_EQ(uut.stop(), 0);
}

TEST(webhook_program, takes_only_signed_requests_when_it_has_a_secret) {
  const test::scratch dir;
  dir.secret("secret", "Jefe\n");
  const int port = test::free_port();
  test::server uut{
      dir,
      {"dispatcher"},
      {"--webhook", "127.0.0.1:" + std::to_string(port), "--webhook-secret-file", dir / "secret"}};
  EXPECT_EQ(post(port, "/github", payload), "signature:invalid 401");
  // The signature of RFC 4231, test case 2: right, and what is signed is no payload.
  EXPECT_EQ(post(port, "/github", "what do ya want for nothing?",
                 {"X-Hub-Signature-256: "
                  "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"}),
            "payload:invalid 400");
  EXPECT_EQ(uut.stop(), 0);
}

TEST(webhook_program, refuses_a_secret_that_others_can_read) {
  const test::scratch dir;
  std::filesystem::permissions(dir.file("secret", "Jefe\n"), std::filesystem::perms{0644});
  const auto at = [] { return "127.0.0.1:" + std::to_string(test::free_port()); };
  const auto refused =
      test::run_ntrace({"dispatcher", "--data", dir / "data", "--dispatcher", at(), "--webhook",
                        at(), "--webhook-secret-file", dir / "secret"});
  EXPECT_EQ(refused.exit_code, 2) << refused.err;
  EXPECT_NE(refused.err.find("chmod 640"), std::string::npos) << refused.err;
}

TEST(webhook_program, refuses_to_be_reached_from_outside_without_a_secret) {
  const test::scratch dir;
  const auto refused =
      test::run_ntrace({"dispatcher", "--data", dir / "data", "--dispatcher",
                        "127.0.0.1:" + std::to_string(test::free_port()), "--webhook",
                        "0.0.0.0:" + std::to_string(test::free_port())});
  EXPECT_EQ(refused.exit_code, 2) << refused.err;
  EXPECT_NE(refused.err.find("webhook-secret-file"), std::string::npos) << refused.err;
}
