// The supervisor's machine on its own, and the actor over it in virtual time.
#include <gtest/gtest.h>
#include <caf/actor_system.hpp>
#include <caf/event_based_actor.hpp>

#include "config/overload.hpp"
#include "supervision/caf_types.hpp"
#include "supervision/supervisor_actor.hpp"
#include "supervision/tree.hpp"
#include "tests/support/ok.hpp"
#include "tests/support/seeded.hpp"
#include "tests/support/virtual_system.hpp"

using namespace ntrace;
using namespace ntrace::supervision;
using namespace std::chrono_literals;

namespace {

const exit_reason crash{exit_kind::failed, "boom"};
const exit_reason normal{exit_kind::normal, ""};

/// Performs the machine's effects at once and keeps their story.
struct puppet {
  supervisor_fsm fsm;
  time_point now{};
  std::vector<std::string> story;
  std::set<std::string> failing;
  bool stops_obediently = true;

  explicit puppet(supervisor_flags flags, std::vector<child_spec> children = {}) : fsm{flags} {
    for (auto& c : children) test::ok(fsm.add_child(now, c));
  }
  std::uint64_t incarnation(const std::string& id) {
    for (const auto& c : fsm.children())
      if (c.spec.id == id) return c.incarnation;
    return 0;
  }
  void perform(effects todo) {
    for (const auto& e : todo) {
      std::visit(
          overload{
              [&](const start_child& s) {
                const bool fails = failing.count(s.id) != 0;
                story.push_back((fails ? "fail " : "start ") + s.id);
                perform(fsm.on_started(
                    now, s.id,
                    fails ? result<void>{fail(ec::child_failed, "no")} : result<void>{}));
              },
              [&](const stop_child& s) {
                story.push_back("stop " + s.id);
                if (stops_obediently)
                  perform(fsm.on_exit(now, s.id, incarnation(s.id), {exit_kind::shutdown, ""}));
              },
              [&](const kill_child& k) {
                story.push_back("kill " + k.id);
                perform(fsm.on_exit(now, k.id, incarnation(k.id), {exit_kind::killed, "killed"}));
              },
              [&](const wake&) {}, [&](const report_started&) { story.push_back("up"); },
              [&](const drop_child& d) { story.push_back("drop " + d.id); },
              [&](const end& x) {
                story.push_back(x.reason.kind == exit_kind::failed ? "end failed" : "end");
              }},
          e);
    }
  }
  std::string take() {
    std::string out;
    for (const auto& s : story) out += (out.empty() ? "" : ", ") + s;
    story.clear();
    return out;
  }
  puppet& start() {
    perform(fsm.on_start(now));
    return *this;
  }
  puppet& die(const std::string& id, const exit_reason& why = crash) {
    perform(fsm.on_exit(now, id, incarnation(id), why));
    return *this;
  }
  child_state state(const std::string& id) {
    for (const auto& c : fsm.children())
      if (c.spec.id == id) return c.state;
    return child_state::stopped;
  }
};

child_spec permanent(const char* id) {
  return {id, restart_type::permanent, {}, child_kind::worker};
}
child_spec transient(const char* id) {
  return {id, restart_type::transient, {}, child_kind::worker};
}
child_spec temporary(const char* id) {
  return {id, restart_type::temporary, {}, child_kind::worker};
}
constexpr supervisor_flags one_for_one{strategy::one_for_one, 3, 5s};

}  // namespace

TEST(supervisor_fsm, starts_in_order_and_stops_in_reverse) {
  puppet uut{one_for_one, {permanent("1"), permanent("2"), permanent("3")}};
  EXPECT_EQ(uut.start().take(), "start 1, start 2, start 3, up");
  uut.perform(uut.fsm.on_stop(uut.now, {exit_kind::shutdown, ""}));
  EXPECT_EQ(uut.take(), "stop 3, stop 2, stop 1, end");
}

TEST(supervisor_fsm, stops_what_it_started_when_a_start_fails) {
  puppet uut{one_for_one, {permanent("1"), permanent("2"), permanent("3")}};
  uut.failing = {"2"};
  EXPECT_EQ(uut.start().take(), "start 1, fail 2, stop 1, end failed");
}

TEST(supervisor_fsm, restarts_by_type_and_reason) {
  puppet uut{one_for_one, {permanent("p"), transient("t"), temporary("x")}};
  uut.start().take();
  EXPECT_EQ(uut.die("p", normal).take(), "start p");
  EXPECT_EQ(uut.die("t", normal).take(), "");
  EXPECT_EQ(uut.die("x").take(), "drop x");
  EXPECT_EQ(uut.fsm.children().size(), 2u);
  puppet other{one_for_one, {transient("t")}};
  other.start().take();
  EXPECT_EQ(other.die("t").take(), "start t");
}

TEST(supervisor_fsm, restarts_all_when_one_for_all_loses_one) {
  puppet uut{{strategy::one_for_all, 3, 5s}, {permanent("1"), permanent("2"), temporary("3")}};
  uut.start().take();
  EXPECT_EQ(uut.die("2").take(), "stop 3, drop 3, stop 1, start 1, start 2");
}

TEST(supervisor_fsm, restarts_the_rest_when_rest_for_one_loses_one) {
  puppet uut{{strategy::rest_for_one, 3, 5s},
             {permanent("1"), permanent("2"), permanent("3"), permanent("4")}};
  uut.start().take();
  EXPECT_EQ(uut.die("2").take(), "stop 4, stop 3, start 2, start 3, start 4");
  EXPECT_EQ(uut.incarnation("1"), 1u);
  EXPECT_EQ(uut.die("4").take(), "start 4");
}

TEST(supervisor_fsm, gives_up_at_one_restart_more_than_its_intensity) {
  puppet uut{one_for_one, {permanent("1"), permanent("2")}};
  uut.start().take();
  for (int i = 0; i < 3; ++i) EXPECT_EQ(uut.die("1").take(), "start 1");
  EXPECT_EQ(uut.die("1").take(), "stop 2, end");
}

TEST(supervisor_fsm, counts_a_restart_that_is_exactly_a_period_old) {
  const auto fourth_after = [](milliseconds wait) {
    puppet uut{one_for_one, {permanent("1")}};
    uut.start().take();
    for (int i = 0; i < 3; ++i) uut.die("1");
    uut.take();
    uut.now += wait;
    return uut.die("1").take();
  };
  EXPECT_EQ(fourth_after(5000ms), "end");
  EXPECT_EQ(fourth_after(5001ms), "start 1");
}

TEST(supervisor_fsm, tries_a_failed_restart_again_and_counts_it) {
  puppet uut{{strategy::one_for_one, 5, 5s}, {permanent("1")}};
  uut.start().take();
  uut.failing = {"1"};
  EXPECT_EQ(uut.die("1").take(), "fail 1");
  EXPECT_EQ(uut.state("1"), child_state::restarting);
  uut.failing.clear();
  uut.perform(uut.fsm.on_tick(uut.now));
  EXPECT_EQ(uut.take(), "start 1");
  EXPECT_EQ(uut.fsm.budget_left(uut.now), 3u);
}

TEST(supervisor_fsm, gives_up_when_restarts_fail_for_ever) {
  puppet uut{one_for_one, {permanent("1")}};
  uut.start().take();
  uut.failing = {"1"};
  uut.die("1");
  for (int i = 0; i < 10; ++i) uut.perform(uut.fsm.on_tick(uut.now));
  EXPECT_EQ(uut.take(), "fail 1, fail 1, fail 1, end");
}

TEST(supervisor_fsm, kills_a_child_that_ignores_its_deadline) {
  puppet uut{one_for_one,
             {permanent("1"), {"2", restart_type::permanent, {100ms}, child_kind::worker}}};
  uut.start().take();
  uut.stops_obediently = false;
  uut.perform(uut.fsm.on_stop(uut.now, {exit_kind::shutdown, ""}));
  EXPECT_EQ(uut.take(), "stop 2");
  uut.now += 99ms;
  uut.perform(uut.fsm.on_tick(uut.now));
  EXPECT_EQ(uut.take(), "");
  uut.now += 1ms;
  uut.stops_obediently = true;
  uut.perform(uut.fsm.on_tick(uut.now));
  EXPECT_EQ(uut.take(), "kill 2, stop 1, end");
}

TEST(supervisor_fsm, drops_an_exit_of_an_older_incarnation) {
  puppet uut{one_for_one, {permanent("1")}};
  uut.start().die("1").take();
  uut.perform(uut.fsm.on_exit(uut.now, "1", 1, crash));
  EXPECT_EQ(uut.take(), "");
  EXPECT_EQ(uut.state("1"), child_state::running);
}

TEST(supervisor_fsm, refuses_a_second_child_of_the_same_id) {
  puppet uut{one_for_one, {permanent("1")}};
  EXPECT_EQ(test::code_of(uut.fsm.add_child(uut.now, permanent("1"))), ec::bad_argument);
  EXPECT_EQ(test::code_of(uut.fsm.add_child(uut.now, permanent(""))), ec::bad_argument);
}

TEST(supervisor_fsm, keeps_its_promises_under_random_ends) {
  test::seeded s;
  for (int round = 0; round < 300; ++round) {
    const auto how = static_cast<strategy>(s.random.below(4));
    puppet uut{{how, 1000, 5s}, {permanent("1"), transient("2"), permanent("3"), temporary("4")}};
    uut.start();
    for (int i = 0; i < 20; ++i) {
      uut.die(std::to_string(1 + s.random.below(4)), s.random.below(3) == 0 ? normal : crash);
      uut.now += milliseconds{s.random.below(100)};
      for (const auto& c : uut.fsm.children())
        ASSERT_TRUE(c.spec.restart != restart_type::permanent || c.state == child_state::running)
            << c.spec.id << " after " << uut.take();
    }
    uut.take();
    uut.perform(uut.fsm.on_stop(uut.now, {exit_kind::shutdown, ""}));
    ASSERT_EQ(uut.story.back(), "end");
    ASSERT_EQ(std::count(uut.story.begin(), uut.story.end(), "end"), 1);
  }
}

namespace {

using ping = caf::atom_constant<caf::atom("ping")>;
using burst = caf::atom_constant<caf::atom("burst")>;

/// Answers pings with its number, and throws when told to.
start_function counting(std::shared_ptr<int> starts) {
  return [starts](caf::local_actor* by) -> result<caf::actor> {
    const int number = ++*starts;
    return by->system().spawn([number](caf::event_based_actor* self) -> caf::behavior {
      guard(self, "counting");
      return {[number](ping) { return number; },
              [](burst) -> caf::result<int> { throw std::runtime_error("burst as told"); }};
    });
  };
}

int asked(test::virtual_system& world, const caf::actor& who) {
  caf::scoped_actor self{world.system};
  auto pending = self->request(who, caf::infinite, ping::value);
  world.settle();
  int out = -1;
  pending.receive([&](int n) { out = n; }, [](const caf::error&) {});
  return out;
}

}  // namespace

TEST(supervisor_actor, restarts_a_child_that_threw_behind_the_same_facade) {
  test::virtual_system world;
  auto starts = std::make_shared<int>(0);
  const auto front = spawn_facade(world.system);
  const auto root = spawn_supervisor(world.system, "root", one_for_one,
                                     {{permanent("c"), counting(starts), front}});
  EXPECT_EQ(asked(world, front), 1);

  caf::anon_send(front, burst::value);
  world.settle();

  EXPECT_EQ(asked(world, front), 2);
  caf::scoped_actor self{world.system};
  auto pending = self->request(root, caf::infinite, tree_atom::value);
  world.settle();
  std::string text;
  pending.receive([&](const std::string& t) { text = t; }, [](const caf::error&) {});
  const auto tree = nlohmann::json::parse(text);
  EXPECT_EQ(tree["children"][0]["incarnation"], 2);
  EXPECT_NE(tree["children"][0]["last_reason"].get<std::string>().find("burst as told"),
            std::string::npos);
  EXPECT_EQ(print_tree(tree, "root"), "root  one_for_one\n└─ c  permanent\n");
  caf::anon_send(root, stop_atom::value);
  end_facade(front);
  world.settle();
}

TEST(supervisor_actor, tells_who_waits_when_a_child_does_not_start) {
  test::virtual_system world;
  const auto root = spawn_supervisor(
      world.system, "root", one_for_one,
      {{permanent("bad"),
        [](caf::local_actor*) -> result<caf::actor> { throw std::runtime_error("no disk"); },
        nullptr}});
  caf::scoped_actor self{world.system};
  auto pending = self->request(root, caf::infinite, wait_atom::value);
  world.settle();
  std::string why;
  pending.receive([] {}, [&](const caf::error& e) { why = to_string(from_caf(e)); });
  EXPECT_FALSE(why.empty());
}

TEST(facade, holds_messages_until_there_is_a_target_and_refuses_beyond_its_bound) {
  test::virtual_system world;
  const auto uut = spawn_facade(world.system);
  caf::scoped_actor self{world.system};
  auto early = self->request(uut, caf::infinite, ping::value);
  for (std::size_t i = 1; i < facade_queue_max; ++i) caf::anon_send(uut, ping::value);
  auto late = self->request(uut, caf::infinite, ping::value);
  world.settle();
  ec refused = ec::none;
  late.receive([](int) {}, [&](const caf::error& e) { refused = from_caf(e).code; });
  EXPECT_EQ(refused, ec::overloaded);

  auto starts = std::make_shared<int>(0);
  const auto target = test::ok(counting(starts)(self.ptr()));
  point_facade(uut, target);
  world.settle();

  int answer = 0;
  early.receive([&](int n) { answer = n; }, [](const caf::error&) {});
  EXPECT_EQ(answer, 1);
  end_facade(uut);
  caf::anon_send_exit(target, caf::exit_reason::user_shutdown);
  world.settle();
}
