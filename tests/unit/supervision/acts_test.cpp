// What an operator does to a child.
#include <set>

#include "tests/support/till.hpp"

using namespace ntrace;
using namespace ntrace::test;
using namespace std::chrono_literals;

TEST(supervisor_acts, restart_takes_along_what_a_failure_would) {
  struct row {
    strategy how;
    std::vector<int> after_restart, after_start;  // starts of a, b, c
  };
  for (const auto& [how, after_restart, after_start] :
       {row{strategy::one_for_one, {1, 2, 1}, {1, 3, 1}},
        row{strategy::rest_for_one, {1, 2, 2}, {1, 3, 3}},
        row{strategy::one_for_all, {2, 2, 2}, {3, 3, 3}}}) {
    world w;
    std::vector<record_ptr> all;
    std::vector<child> children;
    for (const auto* id : {"a", "b", "c", "left"})
      children.push_back(worker(permanent(id), all.emplace_back(std::make_shared<record>())));
    const auto root = spawn_supervisor(w.system, "root", {how, 1, milliseconds{60'000}},
                                       children);  // Acts count as no restarts.
    w.settle();
    const auto starts = [&] { return std::vector{all[0]->starts, all[1]->starts, all[2]->starts}; };
    const auto act = [&](const char* verb, const char* id) {
      return w.ask<std::string>(root, act_atom::value, verb, id);
    };
    EXPECT_EQ(ok(act("stop", "left")), "left");
    EXPECT_EQ(ok(act("restart", "b")), "b");
    EXPECT_EQ(starts(), after_restart);
    EXPECT_EQ(ok(act("stop", "b")), "b");
    EXPECT_EQ(ok(act("start", "b")), "b");
    EXPECT_EQ(starts(), after_start);
    EXPECT_EQ(all[3]->starts, 1) << "what an operator stopped stays down";
    EXPECT_EQ(code_of(act("start", "b")), ec::child_running);
    for (const auto* verb : {"restart", "start", "stop", "kill"})
      EXPECT_EQ(code_of(act(verb, "x")), ec::not_found);
    EXPECT_EQ(code_of(act("kill", "left")), ec::not_found);
    EXPECT_EQ(code_of(act("bless", "b")), ec::bad_argument);
    w.stop(root);
  }
}

TEST(supervisor_acts, restart_keeps_the_order_when_the_child_waits_for_its_own_restart) {
  world w;
  const auto r = std::make_shared<record>();
  std::vector<std::string> order;
  std::set<std::string> broken;
  const auto one = [&](const std::string& id) {
    auto spec = permanent(id);
    spec.backoff = {1h, 2h};
    return child{spec, [&, id, r](caf::local_actor* by) -> result<caf::actor> {
                   if (broken.count(id) != 0) return fail(ec::io, id + " cannot start");
                   order.push_back(id);
                   return till(r)(by);
                 }};
  };
  const auto root =
      spawn_supervisor(w.system, "root", {strategy::rest_for_one, 5, milliseconds{60'000}},
                       {one("a"), one("b"), one("c"), one("d")});
  w.settle();
  const auto act = [&](const char* verb, const char* id) {
    order.clear();
    return w.ask<std::string>(root, act_atom::value, verb, id);
  };
  EXPECT_EQ(ok(act("kill", "b")), "b");  // Its backoff: c and d wait for it.
  w.settle();
  ASSERT_EQ(order, std::vector<std::string>{});
  EXPECT_EQ(ok(act("restart", "b")), "b");
  EXPECT_EQ(order, (std::vector<std::string>{"b", "c", "d"}));
  broken = {"c"};
  EXPECT_FALSE(act("restart", "b"));
  EXPECT_EQ(order, (std::vector<std::string>{"b", "d"})) << "c keeps nobody down";
  broken.clear();
  EXPECT_EQ(ok(act("start", "c")), "c");
  EXPECT_EQ(order, (std::vector<std::string>{"c", "d"}));
  w.stop(root);
}
