// What of a forge's HTTP request is a push.
#include "actors/dashboard/webhook.hpp"

#include <gtest/gtest.h>

#include "config/digest.hpp"
#include "config/limits.hpp"

using namespace ntrace;
using namespace ntrace::dashboard;
using nlohmann::json;

namespace {

const std::string sha(40, 'a');

webhook_request delivery() {
  const json payload{{"after", sha}, {"repository", {{"name", "r"}, {"owner", {{"name", "o"}}}}}};
  return {"github", "push", "72d3162e-cc78-11e3", "", "application/json", payload.dump()};
}

}  // namespace

TEST(webhook, makes_a_push_whose_key_is_the_delivery) {
  const auto args = read_webhook(delivery(), "");
  ASSERT_TRUE(args);
  EXPECT_EQ((*args)[0]["after"], sha);
  EXPECT_EQ((*args)[1], (json{{"key", "github:72d3162e-cc78-11e3"}}));
}

TEST(webhook, reads_the_payload_of_a_form) {
  auto r = delivery();
  r.content_type = "application/x-www-form-urlencoded; charset=utf-8";
  const auto text =
      R"({"after":")" + sha + R"(","repository":{"name":"a b%","owner":{"name":"é"}}})";
  std::string escaped;
  for (const char c : text) {
    char code[4];
    std::snprintf(code, sizeof code, "%%%02X", static_cast<unsigned char>(c));
    escaped += c == ' ' ? "+" : std::isalnum(static_cast<unsigned char>(c)) ? std::string{c} : code;
  }
  for (const auto& form : {"payload=" + escaped, "a=b&payload=" + escaped + "&payload=x&c"}) {
    r.body = form;
    const auto args = read_webhook(r, "");
    ASSERT_TRUE(args) << form;
    EXPECT_EQ((*args)[0]["repository"]["name"], "a b%");
    EXPECT_EQ((*args)[0]["repository"]["owner"]["name"], "é");
  }
  for (const char* form :
       {"", "payload", "payload=", "payload=%", "payload=%zz", "xpayload=1", "&&"}) {
    r.body = form;
    EXPECT_FALSE(read_webhook(r, "")) << form;
  }
}

TEST(webhook, refuses_another_provider_and_what_is_no_payload_by_the_old_words) {
  auto other = delivery();
  other.provider = "gitlab";
  EXPECT_EQ(read_webhook(other, "").error().status, 400);
  EXPECT_EQ(read_webhook(other, "").error().body, "payload:providernotsupported");
  for (const char* body : {"", "{", "[]", "1", "\"x\""}) {
    auto r = delivery();
    r.body = body;
    ASSERT_FALSE(read_webhook(r, "")) << body;
    EXPECT_EQ(read_webhook(r, "").error().body, "payload:invalid") << body;
  }
}

TEST(webhook, refuses_what_a_web_page_sends) {
  auto r = delivery();
  r.is_from_page = true;
  EXPECT_EQ(read_webhook(r, "").error().status, 403);
  r.event = "ping";
  EXPECT_EQ(read_webhook(r, "").error().status, 403);
}

TEST(webhook, says_ok_to_what_is_no_commit) {
  auto ping = delivery();
  ping.event = "ping";
  ASSERT_FALSE(read_webhook(ping, ""));
  EXPECT_EQ(read_webhook(ping, "").error().status, 200);
  auto deleted = delivery();
  deleted.body = json{{"after", std::string(40, '0')}}.dump();
  EXPECT_EQ(read_webhook(deleted, "").error().status, 200);
}

TEST(webhook, takes_only_what_is_signed_with_its_secret) {
  auto r = delivery();
  for (const auto& wrong : {std::string{}, "sha256=" + hmac_sha256("other", r.body),
                            "sha256=" + hmac_sha256("secret", r.body) + "0"}) {
    r.signature = wrong;
    ASSERT_FALSE(read_webhook(r, "secret")) << wrong;
    EXPECT_EQ(read_webhook(r, "secret").error().status, 401);
  }
  r.signature = "sha256=" + hmac_sha256("secret", r.body);
  EXPECT_TRUE(read_webhook(r, "secret"));
}

/// What is stored of a payload is written by a function that recurses.
TEST(webhook, refuses_a_payload_that_is_nested_too_deep) {
  const auto nested = [](int depth) {
    auto r = delivery();
    const auto n = static_cast<std::size_t>(depth - 1);
    r.body.insert(1, "\"x\":" + std::string(n, '[') + std::string(n, ']') + ",");
    return r;
  };
  EXPECT_TRUE(read_webhook(nested(limits::json_depth_max), ""));
  ASSERT_FALSE(read_webhook(nested(limits::json_depth_max + 1), ""));
  EXPECT_EQ(read_webhook(nested(2'000'000), "").error().body, "payload:invalid");
}

TEST(webhook, tells_apart_what_never_will_do_and_what_may_do_later) {
  EXPECT_EQ(refused_webhook({ec::bad_argument, "after must be", {}}).body, "payload:invalid");
  EXPECT_EQ(refused_webhook({ec::overloaded, "the queue is full", {}}).status, 503);
  const auto other = refused_webhook({ec::key_conflict, "the key belongs to run R", {}});
  EXPECT_EQ(other.status, 409) << "delivered again it would be refused again";
  EXPECT_EQ(other.body, "key_conflict: the key belongs to run R");
}
