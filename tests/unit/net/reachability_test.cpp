// The table that tells outages from answers.
#include "net/reachability.hpp"

#include <curl/curl.h>
#include <gtest/gtest.h>
#include <netdb.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <cerrno>

#include "tests/support/free_port.hpp"
#include "tests/support/ok.hpp"

using namespace ntrace;
using namespace ntrace::net;
using namespace std::chrono_literals;

TEST(reachability, takes_each_failed_lookup_for_an_outage) {
  EXPECT_EQ(cause_of_lookup(EAI_NONAME, ENOENT), outage_cause::name_unknown);
  EXPECT_EQ(cause_of_lookup(EAI_NODATA, 0), outage_cause::name_unknown);
  EXPECT_EQ(cause_of_lookup(EAI_AGAIN, 0), outage_cause::no_resolver);
  EXPECT_EQ(cause_of_lookup(EAI_FAIL, 0), outage_cause::no_resolver);
  EXPECT_EQ(cause_of_lookup(EAI_SYSTEM, ENETUNREACH), outage_cause::no_resolver);
}

TEST(reachability, takes_a_shortage_of_this_machine_for_no_outage) {
  for (const int code : {EMFILE, ENFILE, ENOBUFS, ENOMEM, EADDRNOTAVAIL}) {
    EXPECT_EQ(cause_of_socket(code), std::nullopt) << code;
    EXPECT_EQ(cause_of_lookup(EAI_SYSTEM, code), std::nullopt) << code;
    EXPECT_EQ(cause_of_lookup(EAI_NONAME, code), std::nullopt) << code;
    EXPECT_EQ(cause_of_transfer({CURLE_COULDNT_CONNECT, code, false}), std::nullopt) << code;
  }
  EXPECT_EQ(cause_of_lookup(EAI_MEMORY, 0), std::nullopt);
  EXPECT_EQ(lookup_error("a.example", EAI_MEMORY, 0).code, ec::io);
}

TEST(reachability, dials_without_an_outage_when_no_descriptor_is_left) {
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  const rlimit none{0, before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);
  const auto by_number = dial({"127.0.0.1", 1}, 1000ms, nullptr);
  const auto by_name = dial({"localhost", 1}, 1000ms, nullptr);
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
  for (const auto& one : {&by_number, &by_name}) {
    ASSERT_FALSE(*one);
    EXPECT_EQ(one->error().code, ec::io) << one->error().message;
    EXPECT_EQ(outage_of(one->error()), std::nullopt);
  }
}

TEST(reachability, tells_the_causes_of_a_failed_connection_apart) {
  EXPECT_EQ(cause_of_socket(ECONNREFUSED), outage_cause::refused);
  EXPECT_EQ(cause_of_socket(ENETUNREACH), outage_cause::no_route);
  EXPECT_EQ(cause_of_socket(EHOSTUNREACH), outage_cause::no_route);
  EXPECT_EQ(cause_of_socket(ENETDOWN), outage_cause::no_route);
  EXPECT_EQ(cause_of_socket(ETIMEDOUT), outage_cause::silent);
  EXPECT_EQ(cause_of_socket(ECONNRESET), outage_cause::connection_lost);
}

TEST(reachability, tells_transfers_that_broke_from_those_that_cannot_work) {
  const auto cause = [](CURLcode code, int socket_error = 0, bool is_slow = false) {
    return cause_of_transfer({static_cast<int>(code), socket_error, is_slow});
  };
  EXPECT_EQ(cause(CURLE_COULDNT_RESOLVE_HOST), outage_cause::name_unknown);
  EXPECT_EQ(cause(CURLE_COULDNT_CONNECT, ECONNREFUSED), outage_cause::refused);
  EXPECT_EQ(cause(CURLE_COULDNT_CONNECT), outage_cause::no_route);
  EXPECT_EQ(cause(CURLE_OPERATION_TIMEDOUT), outage_cause::silent);
  EXPECT_EQ(cause(CURLE_OPERATION_TIMEDOUT, 0, true), std::nullopt);
  for (const auto code : {CURLE_GOT_NOTHING, CURLE_RECV_ERROR, CURLE_SEND_ERROR, CURLE_PARTIAL_FILE,
                          CURLE_HTTP2_STREAM, CURLE_SSL_CONNECT_ERROR})
    EXPECT_EQ(cause(code), outage_cause::connection_lost) << code;
  EXPECT_EQ(cause(CURLE_PEER_FAILED_VERIFICATION), outage_cause::untrusted);
  for (const auto code : {CURLE_URL_MALFORMAT, CURLE_UNSUPPORTED_PROTOCOL, CURLE_TOO_MANY_REDIRECTS,
                          CURLE_SSL_CACERT_BADFILE, CURLE_OUT_OF_MEMORY})
    EXPECT_EQ(cause(code), std::nullopt) << code;
}

TEST(reachability, tells_answers_of_http_apart) {
  const auto said = [](long status, milliseconds after = 0ms, bool is_used_up = false) {
    return error_of({status, after, is_used_up}, "forge.example", "GET x");
  };
  EXPECT_EQ(said(200).code, ec::none);
  for (const long status : {500, 502, 503, 504, 521, 408, 425})
    EXPECT_EQ(outage_of(said(status))->cause, outage_cause::server_error) << status;
  EXPECT_EQ(outage_of(said(429, 7s))->cause, outage_cause::busy);
  EXPECT_EQ(outage_of(said(429, 7s))->retry_after, 7s);
  EXPECT_EQ(outage_of(said(503, 9s))->retry_after, 9s);
  EXPECT_EQ(outage_of(said(403, 0ms, true))->cause, outage_cause::busy);
  EXPECT_EQ(outage_of(said(403, 3s))->cause, outage_cause::busy);
  for (const long status : {401, 403, 407, 451}) {
    EXPECT_EQ(said(status).code, ec::forbidden) << status;
    EXPECT_EQ(outage_of(said(status)), std::nullopt) << status;
  }
  for (const long status : {404, 410}) EXPECT_EQ(said(status).code, ec::not_found) << status;
  for (const long status : {400, 402, 405, 406, 409, 414, 418, 422, 431}) {
    EXPECT_EQ(said(status).code, ec::bad_argument) << status;
    EXPECT_EQ(outage_of(said(status, 3s)), std::nullopt) << status;
  }
  EXPECT_EQ(said(304).code, ec::source_failed);
  EXPECT_NE(said(401).message.find("make the repository readable"), std::string::npos);
}

namespace {

/// A listener whose queue is full: what connects to it hears nothing.
class black_hole {
public:
  black_hole() {
    for (int i = 0; i < 4; ++i) {
      queued_.emplace_back(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
      const auto at = address();
      ::connect(queued_.back().get(), at.get(), at.size);
    }
  }
  socket_address address() const {
    socket_address out;
    out.size = sizeof out.value;
    ::getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&out.value), &out.size);
    return out;
  }

private:
  unique_fd listener_ = test::ok(listen_tcp({"127.0.0.1", 0}, 0));
  std::vector<unique_fd> queued_;
};

}  // namespace

TEST(reachability, reaches_the_address_that_answers_behind_those_that_do_not) {
  const black_hole first, second;
  const auto good = test::ok(listen_tcp({"127.0.0.1", 0}, 4));
  socket_address third;
  third.size = sizeof third.value;
  ::getsockname(good.get(), reinterpret_cast<sockaddr*>(&third.value), &third.size);
  const host_port to{"many.example", 443};
  EXPECT_TRUE(dial_one(to, {first.address(), second.address(), third}, 1500ms, nullptr));
  const auto silent = dial_one(to, {first.address(), second.address()}, 200ms, nullptr);
  ASSERT_FALSE(silent);
  EXPECT_EQ(outage_of(silent.error())->cause, outage_cause::silent);
}

TEST(reachability, names_the_host_and_the_cause_of_a_refused_connection) {
  const auto port = test::free_port();
  const auto got = dial({"127.0.0.1", port}, 1000ms, nullptr);
  ASSERT_FALSE(got);
  const auto why = outage_of(got.error());
  ASSERT_TRUE(why);
  EXPECT_EQ(why->host, "127.0.0.1");
  EXPECT_EQ(why->cause, outage_cause::refused);
}

TEST(outage_error, keeps_all_that_it_tells) {
  const outage met{"forge.example:8443", outage_cause::busy, "GET x answered 429", 5s};
  EXPECT_EQ(outage_of(to_error(met)), met);
  EXPECT_EQ(exit_code(to_error(met).code), 3);
  EXPECT_EQ(outage_of({ec::unreachable, "no dispatcher", {}}), std::nullopt);
  auto other = to_error(met);
  other.code = ec::not_found;
  EXPECT_EQ(outage_of(other), std::nullopt);
}

TEST(outage_error, has_a_word_for_each_cause) {
  for (int i = 0; i <= static_cast<int>(outage_cause::last); ++i) {
    const auto cause = static_cast<outage_cause>(i);
    EXPECT_EQ(outage_cause_from(to_string(cause)), cause);
    EXPECT_FALSE(phrase_of(cause).empty());
  }
}
