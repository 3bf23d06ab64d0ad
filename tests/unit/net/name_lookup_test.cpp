// Names are looked up once for all that ask, and again when the resolver is busy.
#include <gtest/gtest.h>
#include <netdb.h>
#include <netinet/in.h>

#include <atomic>
#include <cerrno>
#include <future>
#include <thread>

#include "net/name_lookup.hpp"
#include "tests/support/ok.hpp"

using namespace ntrace;
using namespace ntrace::net;
using namespace std::chrono_literals;
using test::code_of;
using test::ok;

namespace {

/// Answers with these codes, one after the other, and the last for ever.
struct resolver_of {
  explicit resolver_of(std::vector<int> all) : codes{std::move(all)} {}
  std::vector<int> codes;
  std::atomic<std::size_t> asked{0};
  cancellation stop;

  name_lookup lookup(milliseconds kept_for = 10s) {
    return name_lookup{kept_for, [this](const host_port&, int, socket_addresses& out) {
                         out.resize(1);
                         return codes.at(std::min(asked++, codes.size() - 1));
                       }};
  }
};

}  // namespace

TEST(name_lookup, asks_once_for_all_that_ask_at_once) {
  std::atomic<int> asked = 0, others = 0;
  std::promise<void> is_asked, answer;
  name_lookup uut{10s, [&](const host_port&, int, socket_addresses& out) {
                    if (++asked == 1) is_asked.set_value();
                    answer.get_future().wait();
                    out.resize(1);
                    return 0;
                  }};
  const cancellation stop;
  const auto find = [&] { return ok(uut.find("registry.example", 443, stop)).size(); };
  auto first = std::async(std::launch::async, find);
  is_asked.get_future().wait();
  std::vector<std::future<std::size_t>> more;
  for (int i = 0; i < 8; ++i)
    more.push_back(std::async(std::launch::async, [&] {
      ++others;
      return find();
    }));
  while (others < 8) std::this_thread::yield();
  answer.set_value();
  EXPECT_EQ(first.get(), 1u);
  for (auto& one : more) EXPECT_EQ(one.get(), 1u);
  EXPECT_EQ(asked, 1);
}

TEST(name_lookup, asks_again_when_the_resolver_is_busy) {
  resolver_of busy{{EAI_AGAIN, EAI_AGAIN, 0}};
  auto uut = busy.lookup();
  EXPECT_EQ(ok(uut.find("a", 1, busy.stop)).size(), 1u);
  EXPECT_EQ(busy.asked, 3u);
}

TEST(name_lookup, asks_a_busy_resolver_four_times_and_no_more) {
  resolver_of busy{{EAI_AGAIN}};
  auto uut = busy.lookup();
  const auto why = uut.find("a.example", 1, busy.stop);
  EXPECT_EQ(code_of(why), ec::unreachable);
  EXPECT_NE(why.error().message.find("a.example"), std::string::npos);
  EXPECT_EQ(busy.asked, 4u);
}

TEST(name_lookup, takes_a_shortage_of_this_machine_for_no_outage) {
  name_lookup uut{10s, [](const host_port&, int, socket_addresses&) {
                    errno = EMFILE;
                    return EAI_NONAME;
                  }};
  const cancellation stop;
  EXPECT_EQ(code_of(uut.find("a.example", 1, stop)), ec::io);
}

TEST(name_lookup, asks_no_more_once_it_is_stopped) {
  resolver_of busy{{EAI_AGAIN}};
  auto uut = busy.lookup();
  busy.stop.raise();
  EXPECT_EQ(code_of(uut.find("a", 1, busy.stop)), ec::unreachable);
  EXPECT_EQ(busy.asked, 1u);
}

TEST(name_lookup, takes_no_for_an_answer_and_does_not_keep_it) {
  resolver_of names{{EAI_NONAME, 0}};
  auto uut = names.lookup();
  EXPECT_EQ(code_of(uut.find("a", 1, names.stop)), ec::unreachable);
  EXPECT_EQ(names.asked, 1u);
  ok(uut.find("a", 1, names.stop));
  EXPECT_EQ(names.asked, 2u);
}

TEST(name_lookup, keeps_what_it_found_for_so_long_and_of_each_name_and_port) {
  resolver_of names{{0}};
  auto kept = names.lookup();
  ok(kept.find("a", 1, names.stop));
  ok(kept.find("a", 1, names.stop));
  EXPECT_EQ(names.asked, 1u);
  ok(kept.find("a", 2, names.stop));
  ok(kept.find("b", 1, names.stop));
  EXPECT_EQ(names.asked, 3u);
  auto forgotten = names.lookup(0ms);
  ok(forgotten.find("a", 1, names.stop));
  ok(forgotten.find("a", 1, names.stop));
  EXPECT_EQ(names.asked, 5u);
}

TEST(name_lookup, finds_this_machine_by_the_system) {
  name_lookup uut;
  const auto found = ok(uut.find("127.0.0.1", 443, cancellation{}));
  ASSERT_EQ(found.size(), 1u);
  ASSERT_EQ(found[0].get()->sa_family, AF_INET);
  EXPECT_EQ(ntohs(reinterpret_cast<const sockaddr_in*>(found[0].get())->sin_port), 443);
}
