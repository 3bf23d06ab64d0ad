// Plain HTTP through the proxy of the install step: one request, its answer, and nothing behind.
#include <nlohmann/json.hpp>

#include "config/subprocess.hpp"
#include "tests/support/egress_world.hpp"
#include "tests/support/free_port.hpp"
#include "tests/support/scratch.hpp"

using namespace ntrace;
using namespace ntrace::net;
using namespace std::chrono_literals;
using namespace ntrace::test;

namespace {

/// Answers the first request head of a connection with `answer`, and notes all that it reads.
class noting_server {
public:
  explicit noting_server(std::string answer)
      : answer_{std::move(answer)}, server_{[this](int fd) { serve(fd); }} {}
  std::string at() const { return "localhost:" + std::to_string(server_.port()); }
  int accepted() const { return server_.accepted(); }
  /// All that came, of every connection.
  std::string seen() {
    const std::lock_guard lock{guard_};
    return seen_;
  }

private:
  void serve(int fd) {
    std::string own;
    char block[4096];
    bool has_answered = false;
    while (wait_ready(fd, false, 20s)) {
      const auto n = ::recv(fd, block, sizeof block, MSG_DONTWAIT);
      if (n < 0 && errno == EAGAIN) continue;
      if (n <= 0) return;
      own.append(block, static_cast<std::size_t>(n));
      const std::lock_guard lock{guard_};
      seen_.append(block, static_cast<std::size_t>(n));
      // It keeps the connection open, as a server may that was asked for keep-alive.
      if (!has_answered && own.find("\r\n\r\n") != std::string::npos && own.find("END") != own.npos)
        has_answered = send_all(fd, answer_, 5s);
    }
  }
  std::string answer_;
  std::mutex guard_;
  std::string seen_;
  upstream server_;
};

const std::string short_answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const std::string passed_answer =
    "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";

std::string get_from(const std::string& at, const std::string& path = "/END") {
  return "GET http://" + at + path + " HTTP/1.1\r\nHost: " + at + "\r\n\r\n";
}

}  // namespace

TEST_F(egress_test, forwards_a_request_in_absolute_form) {
  upstream server{[](int fd) {
    const auto head = read_some(fd, 4);
    // What was asked comes back as the body, as far as it came at once.
    char more[4096];
    const auto n = std::max<ssize_t>(::recv(fd, more, sizeof more, MSG_DONTWAIT), 0);
    const auto body = head + std::string{more, static_cast<std::size_t>(n)};
    send_all(fd,
             "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: " +
                 std::to_string(body.size()) + "\r\n\r\n" + body,
             5s);
  }};
  const auto at = "localhost:" + std::to_string(server.port());
  start({at});
  const auto fd =
      say("GET http://" + at + "/left-pad HTTP/1.1\r\nHost: " + at +
          "\r\n"
          "Proxy-Connection: keep-alive\r\nProxy-Authorization: Basic c2VjcmV0\r\n\r\n");
  const auto answer = read_to_end(fd.get());
  EXPECT_NE(answer.find("GET /left-pad HTTP/1.1\r\n"), std::string::npos) << answer;
  EXPECT_NE(answer.find("host: " + at), std::string::npos) << answer;
  EXPECT_EQ(answer.find("roxy-"), std::string::npos) << "hop-by-hop";
}

TEST_F(egress_test, passes_one_request_and_nothing_behind_it) {
  noting_server first{short_answer}, second{short_answer};
  start({first.at(), second.at()});
  const auto post = [&](const std::string& fields) {
    return "POST http://" + first.at() + "/x HTTP/1.1\r\nHost: " + first.at() + "\r\n" + fields +
           "\r\n";
  };
  int connections = 0;
  for (const auto& one : {get_from(first.at()), post("Content-Length: 5\r\n") + "abEND",
                          post("Transfer-Encoding: chunked\r\n") + "5\r\nabEND\r\n0\r\n\r\n"}) {
    const auto fd = say(one + get_from(second.at(), "/smuggled/END"));
    EXPECT_EQ(read_to_end(fd.get()), passed_answer) << one;
    EXPECT_EQ(first.accepted(), ++connections) << "each on a connection of its own";
  }
  proxy_.reset();
  EXPECT_EQ(first.seen().find("smuggled"), std::string::npos) << first.seen();
  EXPECT_EQ(second.accepted(), 0);
}

TEST_F(egress_test, passes_nothing_that_comes_after_the_request_either) {
  noting_server first{"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok"};  // Never whole.
  start({first.at()});
  const auto fd = say(get_from(first.at()));
  const auto got = read_some(fd.get(), passed_answer.size());
  ASSERT_TRUE(got.ends_with("ok")) << got;
  ASSERT_TRUE(send_all(fd.get(), get_from(first.at(), "/smuggled"), 5s));
  proxy_.reset();
  EXPECT_EQ(first.seen().find("smuggled"), std::string::npos) << first.seen();
}

TEST_F(egress_test, ends_the_connection_with_the_answer_though_both_sides_would_keep_it) {
  for (const auto& [answer, passed] : std::vector<std::pair<std::string, std::string>>{
           {short_answer + "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nforged-it", passed_answer},
           {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nLink: x\r\n\r\n" + short_answer,
            passed_answer},
           {"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\nforged-it",
            "HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\nconnection: close\r\n\r\n"},
           {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nforged-it",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nconnection: "
            "close\r\n\r\n2\r\nok\r\n0\r\n\r\n"}}) {
    noting_server server{answer};
    start({server.at()});
    EXPECT_EQ(read_to_end(say(get_from(server.at())).get()), passed);
    proxy_.reset();
  }
}

TEST_F(egress_test, answers_502_for_an_answer_that_it_does_not_pass_on) {
  for (const std::string answer :
       {"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\nforged-it",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 9\r\n\r\nforged-it",
        "SSH-2.0-x\r\n\r\n"}) {
    noting_server server{answer};
    start({server.at()});
    const auto got = read_to_end(say(get_from(server.at())).get());
    EXPECT_TRUE(got.starts_with("HTTP/1.1 502 ")) << got;
    EXPECT_EQ(got.find("forged-it"), std::string::npos) << got;
    proxy_.reset();
  }
}

TEST_F(egress_test, tells_a_client_to_go_on_that_waits_before_it_sends_its_body) {
  noting_server server{short_answer};
  start({server.at()});
  const auto fd = say("POST http://" + server.at() + "/x HTTP/1.1\r\nHost: " + server.at() +
                      "\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n");
  const std::string go_on = "HTTP/1.1 100 Continue\r\n\r\n";
  EXPECT_EQ(read_some(fd.get(), go_on.size()), go_on);
  ASSERT_TRUE(send_all(fd.get(), "END", 5s));
  EXPECT_EQ(read_to_end(fd.get()), passed_answer);
}

TEST_F(egress_test, passes_a_body_of_many_blocks_both_ways) {
  const std::string body(5u << 20, 'b');
  noting_server server{"HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(body.size()) +
                       "\r\n\r\n" + body};
  start({server.at()});
  const auto fd = client();
  std::thread sender{[&] {
    EXPECT_TRUE(send_all(fd.get(),
                         "POST http://" + server.at() + "/x HTTP/1.1\r\nHost: " + server.at() +
                             "\r\nContent-Length: " + std::to_string(body.size() + 3) + "\r\n\r\n" +
                             body + "END",
                         20s));
  }};
  const auto got = read_to_end(fd.get());
  sender.join();
  EXPECT_TRUE(got.ends_with("\r\n\r\n" + body));
  EXPECT_TRUE(server.seen().ends_with(body + "END"));
}

TEST_F(egress_test, ends_a_body_whose_chunks_are_malformed) {
  noting_server server{short_answer};
  start({server.at()});
  const auto fd = say("POST http://" + server.at() + "/x HTTP/1.1\r\nHost: " + server.at() +
                      "\r\nTransfer-Encoding: chunked\r\n\r\n5;x=\r\nabEND\r\n0\r\n\r\n");
  EXPECT_TRUE(read_to_end(fd.get()).starts_with("HTTP/1.1 502 "));
  EXPECT_NE(last_report().reason.find("chunk"), std::string::npos) << last_report().reason;
  proxy_.reset();
  EXPECT_EQ(server.seen().find("abEND"), std::string::npos) << server.seen();
}

TEST_F(egress_test, says_which_rule_a_head_breaks_and_asks_nobody) {
  noting_server server{short_answer};
  start({server.at()});
  for (const auto& [head, reason] : std::vector<std::pair<std::string, std::string>>{
           {"GET http://" + server.at() + "/ HTTP/1.1\r\nHost: evil.example\r\n\r\n", "another"},
           {"GET http://" + server.at() + "/ HTTP/1.1\nHost: a\n\n", "lone LF"},
           {connect_to("localhost", 443) + "early", "before it was answered"}}) {
    const auto got = read_to_end(say(head).get());
    EXPECT_TRUE(got.starts_with("HTTP/1.1 400 ")) << got;
    EXPECT_NE(got.find(reason), std::string::npos) << got;
  }
  EXPECT_EQ(server.accepted(), 0);
}

TEST_F(egress_test, lets_a_real_npm_install_from_a_registry_over_plain_http) {
  const scratch dir;
  const auto registry = std::to_string(free_port());
  start({"localhost:" + registry});
  subprocess_spec spec;
  spec.argv = {"node", NTRACE_TESTS "/integration/npm_through_proxy.js", registry,
               std::to_string(port_), dir.path()};
  spec.deadline = 50s;
  const auto done = ok(run_subprocess(spec));
  const auto seen = nlohmann::json::parse(done.out, nullptr, false);
  ASSERT_TRUE(seen.is_object()) << done.out << done.err;
  EXPECT_EQ(seen["code"], 0) << seen.dump(1);
  EXPECT_EQ(seen["first"], 300000) << seen.dump(1);
  EXPECT_EQ(seen["second"], 300000) << seen.dump(1);
  // The last one may be told of a moment after npm has what it wanted.
  EXPECT_TRUE(eventually(10s,
                         [&] {
                           const std::lock_guard lock{guard_};
                           return reports_.size() == seen["asked"].size();
                         }))
      << "a connection for each request: " << seen.dump(1);
  const std::lock_guard lock{guard_};
  for (const auto& told : reports_) EXPECT_TRUE(told.allowed && told.reason.empty()) << told.reason;
}
