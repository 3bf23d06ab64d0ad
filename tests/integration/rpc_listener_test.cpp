// A port of the line protocol with real sockets.
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <future>
#include <mutex>

#include "config/gauges.hpp"
#include "config/limits.hpp"
#include "net/rpc_listener.hpp"
#include "tests/support/eventually.hpp"
#include "tests/support/ok.hpp"

using namespace ntrace;
using namespace ntrace::net;
using namespace std::chrono_literals;
using test::eventually;
using test::ok;

namespace {

/// Answers `echo` with its arguments, `big` with so many bytes, `fail` by an exception, and `keep`
/// when it is told to.
struct service : rpc_service {
  rpc_listener* to = nullptr;
  std::mutex guard;
  std::vector<peer_id> gone;
  std::vector<std::size_t> rounds;  ///< Calls of each that had some.
  std::vector<std::pair<peer_id, rpc_request>> kept;
  std::promise<error> failed;
  std::size_t calls = 0;

  void on_request(peer_id peer, const std::string& address, rpc_request request) override {
    EXPECT_EQ(address, "127.0.0.1");
    ++calls;
    if (request.method == "fail") throw std::runtime_error{"as told"};
    if (request.method == "keep") {
      const std::lock_guard lock{guard};
      return kept.emplace_back(peer, std::move(request)), void();
    }
    if (request.method == "big")
      return to->answer(peer, request,
                        to_text(json(std::string(request.args.at(0).get<std::size_t>(), 'x'))));
    to->answer(peer, request, to_text(request.args));
  }
  void on_gone(peer_id peer) override {
    const std::lock_guard lock{guard};
    gone.push_back(peer);
  }
  void on_round() override {
    if (calls == 0) return;
    const std::lock_guard lock{guard};
    rounds.push_back(std::exchange(calls, 0));
  }
  void on_failed(const error& why) override { failed.set_value(why); }

  template <class F>
  auto locked(F f) {
    const std::lock_guard lock{guard};
    return f();
  }
};

struct listener_world {
  service serves;
  std::unique_ptr<rpc_listener> uut = ok(rpc_listener::open({"127.0.0.1", 0}));

  listener_world() {
    serves.to = uut.get();
    uut->serve(serves);
  }
  unique_fd connect() const { return ok(connect_tcp({"127.0.0.1", uut->port()}, 5s)); }
  /// A peer whose call is not answered yet.
  unique_fd connect_and_keep();
};

bool say(const unique_fd& to, std::string_view text) { return send_all(to.get(), text, 10s); }

unique_fd listener_world::connect_and_keep() {
  auto out = connect();
  EXPECT_TRUE(say(out, "[\"keep\",[],1]\n"));
  eventually(10s, [&] { return serves.locked([&] { return !serves.kept.empty(); }); });
  return out;
}

/// What comes until `bytes` are there or the peer closes.
std::string hear(const unique_fd& from, std::size_t bytes) {
  std::string out;
  char buffer[1 << 16];
  while (out.size() < bytes && wait_ready(from.get(), false, 10s)) {
    const auto got = ::recv(from.get(), buffer, std::min(sizeof buffer, bytes - out.size()), 0);
    if (got <= 0) break;
    out.append(buffer, static_cast<std::size_t>(got));
  }
  return out;
}
std::string hear_line(const unique_fd& from) {
  std::string out;
  while (!out.ends_with('\n')) {
    const auto one = hear(from, 1);
    if (one.empty()) return out + "(closed)";
    out += one;
  }
  return out;
}

/// While one lives the process gets no new descriptors.
class few_descriptors {
public:
  few_descriptors() {
    ::getrlimit(RLIMIT_NOFILE, &before_);
    const rlimit few{3, before_.rlim_max};  // Not fewer: poll(2) takes no more files than that.
    ::setrlimit(RLIMIT_NOFILE, &few);
  }
  ~few_descriptors() { ::setrlimit(RLIMIT_NOFILE, &before_); }
  few_descriptors(const few_descriptors&) = delete;
  few_descriptors& operator=(const few_descriptors&) = delete;

private:
  rlimit before_{};
};

}  // namespace

TEST(rpc_listener, answers_many_connections_each_its_own) {
  listener_world w;
  std::vector<unique_fd> all;
  for (int i = 0; i < 100; ++i) all.push_back(w.connect());
  for (int i = 0; i < 100; ++i)
    ASSERT_TRUE(
        say(all[static_cast<std::size_t>(i)], "[\"echo\",[" + std::to_string(i) + "],7]\n"));
  for (int i = 0; i < 100; ++i)
    EXPECT_EQ(hear_line(all[static_cast<std::size_t>(i)]),
              "[[null,[" + std::to_string(i) + "]],7]\n");
}

TEST(rpc_listener, gives_calls_that_came_together_in_one_round) {
  listener_world w;
  const auto peer = w.connect();
  ASSERT_TRUE(say(peer, "[\"echo\",[],1]\n[\"echo\",[],2]\n[\"echo\",[],3]\n"));
  for (int i = 0; i < 3; ++i) hear_line(peer);
  EXPECT_TRUE(eventually(10s, [&] {
    return w.serves.locked([&] { return w.serves.rounds == std::vector<std::size_t>{3}; });
  }));
}

TEST(rpc_listener, takes_later_who_came_while_it_had_no_descriptors_left) {
  listener_world w;
  const auto early = w.connect();
  ASSERT_TRUE(say(early, "[\"echo\",[0],1]\n"));
  EXPECT_EQ(hear_line(early), "[[null,[0]],1]\n");
  auto& failures = gauges::value("rpc_accept_failures");
  const auto before = failures.load();
  const unique_fd late{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  const auto at = numeric_address({"127.0.0.1", w.uut->port()}).value();
  {
    const few_descriptors none;
    ASSERT_EQ(::connect(late.get(), reinterpret_cast<const sockaddr*>(&at), sizeof at), 0);
    ASSERT_TRUE(eventually(10s, [&] { return failures > before; }));
    ASSERT_TRUE(say(early, "[\"echo\",[1],1]\n"));
    EXPECT_EQ(hear_line(early), "[[null,[1]],1]\n") << "a peer that is in is served";
    EXPECT_EQ(failures, before + 1) << "it does not ask in a circle";
  }
  ASSERT_TRUE(say(late, "[\"echo\",[2],1]\n"));
  EXPECT_EQ(hear_line(late), "[[null,[2]],1]\n");
}

TEST(rpc_listener, answers_a_peer_that_half_closed_and_then_closes) {
  listener_world w;
  const auto peer = w.connect();
  ASSERT_TRUE(say(peer, "[\"keep\",[],1]\n"));
  ::shutdown(peer.get(), SHUT_WR);
  ASSERT_TRUE(eventually(10s, [&] {
    return w.serves.locked([&] { return w.serves.gone.size() == 1 && w.serves.kept.size() == 1; });
  }));
  w.uut->tasks()->post([&] {
    const auto& [id, request] = w.serves.kept.at(0);
    w.uut->answer(id, request, "\"late\"");
  });
  EXPECT_EQ(hear_line(peer), "[[null,\"late\"],1]\n");
  EXPECT_EQ(hear_line(peer), "(closed)");
}

TEST(rpc_listener, forgets_a_peer_that_broke_off_and_its_late_answer) {
  listener_world w;
  {
    const auto peer = w.connect_and_keep();
    const linger at_once{1, 0};
    ::setsockopt(peer.get(), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
  }
  EXPECT_TRUE(eventually(10s, [&] { return gauges::value("rpc_connections") == 0; }));
  std::promise<void> done;
  w.uut->tasks()->post([&] {
    w.uut->answer(w.serves.kept.at(0).first, w.serves.kept.at(0).second, "1");
    done.set_value();
  });
  EXPECT_EQ(done.get_future().wait_for(10s), std::future_status::ready);
}

TEST(rpc_listener, reads_no_more_of_a_peer_that_does_not_read_and_goes_on_when_it_does) {
  listener_world w;
  const auto slow = w.connect(), other = w.connect();
  constexpr std::size_t bytes = 1u << 20, calls = 64;
  std::string all;
  for (std::size_t i = 0; i < calls; ++i)
    all += "[\"big\",[" + std::to_string(bytes) + "]," + std::to_string(i) + "]\n";
  ASSERT_TRUE(say(slow, all.substr(0, all.size() / 2)));
  ASSERT_TRUE(say(other, "[\"echo\",[],1]\n"));
  EXPECT_EQ(hear_line(other), "[[null,[]],1]\n") << "others are served meanwhile";
  ASSERT_TRUE(say(slow, all.substr(all.size() / 2)));
  std::size_t answer_bytes = 0;
  for (std::size_t i = 0; i < calls; ++i)
    answer_bytes += bytes + std::string{"[[null,\"\"],]\n"}.size() + std::to_string(i).size();
  const auto heard = hear(slow, answer_bytes);
  EXPECT_EQ(heard.size(), answer_bytes);
  EXPECT_TRUE(heard.ends_with("x\"],63]\n"));
}

TEST(rpc_listener, calls_a_peer_and_takes_no_notice_of_one_that_is_gone) {
  listener_world w;
  const auto peer = w.connect_and_keep();
  w.uut->tasks()->post([&] {
    w.uut->notify(w.serves.kept.at(0).first + 1, "offer", json::array());
    w.uut->notify(w.serves.kept.at(0).first, "offer", json::array({1}));
  });
  EXPECT_EQ(hear_line(peer), "[\"offer\",[1],-1]\n");
}

TEST(rpc_listener, refuses_more_connections_than_its_bound) {
  listener_world w;
  const auto before = gauges::value("rpc_connections_refused").load();
  // Both halves of them are this process's.
  rlimit descriptors{};
  ::getrlimit(RLIMIT_NOFILE, &descriptors);
  descriptors.rlim_cur = std::min<rlim_t>(descriptors.rlim_max, 3 * limits::connections_max);
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &descriptors), 0);
  std::vector<unique_fd> all;
  for (std::size_t i = 0; i < limits::connections_max; ++i) all.push_back(w.connect());
  ASSERT_TRUE(eventually(10s, [&] {
    return gauges::value("rpc_connections") == static_cast<std::int64_t>(limits::connections_max);
  }));
  const auto late = w.connect();
  EXPECT_EQ(hear_line(late), "(closed)");
  EXPECT_EQ(gauges::value("rpc_connections_refused"), before + 1);
  all.pop_back();
  ASSERT_TRUE(eventually(10s, [&] {
    return gauges::value("rpc_connections") < static_cast<std::int64_t>(limits::connections_max);
  }));
  const auto next = w.connect();
  ASSERT_TRUE(say(next, "[\"echo\",[],1]\n"));
  EXPECT_EQ(hear_line(next), "[[null,[]],1]\n");
}

TEST(rpc_listener, tells_its_owner_of_an_exception_instead_of_ending_the_process) {
  listener_world w;
  const auto peer = w.connect();
  ASSERT_TRUE(say(peer, "[\"fail\",[],1]\n"));
  auto failed = w.serves.failed.get_future();
  ASSERT_EQ(failed.wait_for(10s), std::future_status::ready);
  EXPECT_NE(failed.get().message.find("as told"), std::string::npos);
  w.uut.reset();
  EXPECT_EQ(hear_line(peer), "(closed)");
}

TEST(rpc_listener, closes_its_port_and_connections_when_it_ends_and_drops_later_work) {
  listener_world w;
  const auto peer = w.connect();
  ASSERT_TRUE(say(peer, "[\"echo\",[],1]\n"));
  hear_line(peer);
  const auto tasks = w.uut->tasks();
  const auto port = w.uut->port();
  w.uut.reset();
  EXPECT_EQ(hear_line(peer), "(closed)");
  EXPECT_EQ(gauges::value("rpc_connections"), 0);
  EXPECT_FALSE(tasks->post([] { ADD_FAILURE(); }));
  EXPECT_EQ(test::code_of(connect_tcp({"127.0.0.1", port}, 1s)), ec::unreachable);
}

TEST(rpc_listener, names_who_holds_its_port) {
  listener_world w;
  const auto taken = rpc_listener::open({"127.0.0.1", w.uut->port()});
  ASSERT_EQ(test::code_of(taken), ec::unreachable);
  EXPECT_NE(taken.error().message.find(std::to_string(w.uut->port())), std::string::npos);
}

TEST(rpc_listener, listens_on_a_name_too) {
  const auto uut = ok(rpc_listener::open({"localhost", 0}));
  EXPECT_NE(uut->port(), 0);
}

TEST(rpc_listener, closes_a_connection_that_speaks_http_and_serves_nothing_of_it) {
  listener_world w;
  auto& refused = gauges::value("rpc_refused_foreign");
  const auto before = refused.load();
  const auto peer = w.connect();
  ASSERT_TRUE(say(peer, "POST / HTTP/1.1\r\nHost: h\r\n\r\n[\"keep\",[],1]\n"));
  EXPECT_NE(hear_line(peer).find("bad_request"), std::string::npos);
  EXPECT_EQ(hear_line(peer), "(closed)");
  EXPECT_EQ(refused, before + 1);
  EXPECT_TRUE(w.serves.locked([&] { return w.serves.kept.empty(); }));
}

TEST(rpc_listener, closes_one_that_speaks_http_though_it_goes_on_sending) {
  listener_world w;
  const auto peer = w.connect();
  const auto before = gauges::value("rpc_refused_foreign").load();
  const std::string block(1u << 20, 'x');
  ASSERT_TRUE(say(peer, "POST / HTTP/1.1\r\n"));
  EXPECT_TRUE(eventually(10s, [&] { return !say(peer, block); })) << "it is read without end";
  // Its first byte, and not the length of its line, has ended it.
  EXPECT_EQ(gauges::value("rpc_refused_foreign"), before + 1);
}
