// However a child or its supervisor ends: nobody waits for ever, nothing is mistaken for what came
// later, nothing that is thrown ends the process, and nothing of it stays in memory.
#include <malloc.h>

#include "tests/support/till.hpp"

using namespace ntrace;
using namespace ntrace::test;

namespace {

/// Ends of a supervisor that its parent, if it has one, takes for a failure.
enum class ending { killed, stopped, gave_up };

void end_it(world& w, const caf::actor& supervisor, const caf::actor& child, ending how) {
  if (how == ending::killed) caf::anon_send_exit(supervisor, caf::exit_reason::kill);
  if (how == ending::stopped) caf::anon_send_exit(supervisor, caf::exit_reason::user_shutdown);
  if (how == ending::gave_up) caf::anon_send(child, burst::value, 0);
  w.settle();
}

child keeper(const record_ptr& r, bool resends, caf::actor front = nullptr) {
  r->holds = true;
  auto out = worker(permanent("c"), r, std::move(front));
  out.held.resend = resends;
  return out;
}

struct throwing_at_exit : caf::event_based_actor {
  throwing_at_exit(caf::actor_config& cfg, int* exits)
      : caf::event_based_actor(cfg), exits_{exits} {
    guard(this, "thrower");
  }
  void on_exit() override {
    ++*exits_;
    throw std::runtime_error("no way to leave");
  }
  caf::behavior make_behavior() override {
    return {[](ping, int n) { return n; },
            [](burst, int) -> caf::result<int> { throw std::runtime_error("burst as told"); }};
  }
  int* exits_;
};

/// Throws in a function that is attached to it; before its supervisor watches it, or after (ping).
start_function throws_when_it_ended(bool is_guarded) {
  return [is_guarded](caf::local_actor* by) -> result<caf::actor> {
    return by->system().spawn([is_guarded](caf::event_based_actor* self) -> caf::behavior {
      if (is_guarded) guard(self, "thrower");
      const auto thrower = [](const caf::error&) { throw std::runtime_error("too late"); };
      self->attach_functor(thrower);
      return {[=](ping, int n) {
                self->attach_functor(thrower);
                return n;
              },
              [](burst, int) -> caf::result<int> { throw std::runtime_error("burst as told"); }};
    });
  };
}

std::string last_reason(world& w, const caf::actor& root) {
  return w.tree(root)["children"][0]["last_reason"].get<std::string>();
}

std::size_t allocated_bytes() { return mallinfo2().uordblks; }

}  // namespace

TEST(facade_V1, ends_with_its_dynamic_child_when_their_supervisor_is_restarted) {
  for (const auto how : {ending::killed, ending::stopped, ending::gave_up}) {
    world w;
    const auto r = std::make_shared<record>();
    const auto root = spawn_supervisor(
        w.system, "root", one_for_one(),
        {{{"inner", restart_type::permanent, shutdown_policy::infinity(), child_kind::supervisor},
          supervisor_start("inner", dynamic(0), {}, permanent("w"))}});
    w.settle();
    const auto inner = ok(w.ask<caf::actor>(root, ref_atom::value, "inner"));
    const auto add = [&] {
      return ok(w.ask<std::string>(inner, add_child_atom::value, worker(permanent(""), r)));
    };
    ASSERT_EQ(add(), "w_1");
    const auto old = ok(w.ask<caf::actor>(inner, ref_atom::value, "w_1"));
    ASSERT_EQ(w.ask<int>(old, ping::value, 1), 101);
    const auto which = ok(w.ask<which_children>(root, which_atom::value));
    end_it(w, which.children[0].second, old, how);
    ASSERT_EQ(add(), "w_1");
    EXPECT_EQ(code_of(w.ask<int>(old, ping::value, 2)), ec::no_such_child);
    const auto next = ok(w.ask<caf::actor>(inner, ref_atom::value, "w_1"));
    EXPECT_EQ(w.ask<int>(next, ping::value, 3), 203);
    w.stop(root);
  }
}

TEST(facade_V1, ends_with_a_child_that_was_added_to_a_supervisor_which_is_restarted_without_it) {
  world w;
  const auto r = std::make_shared<record>();
  const auto front = w.front();
  const auto root = spawn_supervisor(
      w.system, "root", one_for_one(),
      {nested("inner", restart_type::permanent, one_for_one(), {worker(permanent("stays"), r)})});
  w.settle();
  const auto inner = ok(w.ask<caf::actor>(root, ref_atom::value, "inner"));
  EXPECT_EQ(
      ok(w.ask<std::string>(inner, add_child_atom::value, worker(permanent("added"), r, front))),
      "added");
  const auto stays = ok(w.ask<caf::actor>(inner, ref_atom::value, "stays"));
  EXPECT_EQ(ok(w.ask<std::string>(root, act_atom::value, "kill", "inner")), "inner");
  w.settle();
  EXPECT_EQ(code_of(w.ask<int>(front, ping::value, 1)), ec::no_such_child);
  EXPECT_EQ(w.ask<int>(stays, ping::value, 1), 301);
  w.stop(root);
}

TEST(facade_V2, answers_once_who_waits_when_the_root_ends_in_whatever_way) {
  for (const auto how : {ending::killed, ending::stopped, ending::gave_up})
    for (const bool resends : {false, true})
      for (const bool is_deep : {false, true})
        for (const bool has_own_front : {false, true}) {
          SCOPED_TRACE(testing::Message()
                       << "end " << static_cast<int>(how) << " resends " << resends << " deep "
                       << is_deep << " own front " << has_own_front);
          world w;
          const auto r = std::make_shared<record>();
          facade_options held;
          held.resend = resends;
          const auto own = has_own_front ? w.front(held) : nullptr;
          const auto c = keeper(r, resends, own);
          const auto root = spawn_supervisor(
              w.system, "root", one_for_one(0),
              {is_deep ? nested("inner", restart_type::permanent, one_for_one(0), {c}) : c});
          w.settle();
          auto above = root;
          if (is_deep) above = ok(w.ask<caf::actor>(root, ref_atom::value, "inner"));
          const auto front = ok(w.ask<caf::actor>(above, ref_atom::value, "c"));
          auto pending = w.self->request(front, caf::infinite, ping::value, 1);
          w.settle();
          ASSERT_EQ(held_by_facade(front), 1u);
          end_it(w, root, front, how);
          const auto answer = w.take<int>(pending);
          ASSERT_FALSE(answer);
          EXPECT_TRUE(answer.error().code == ec::no_such_child ||
                      (!resends && answer.error().code == ec::child_failed))
              << to_string(answer.error());
          EXPECT_FALSE(w.self->has_next_message());
          EXPECT_EQ(code_of(w.ask<int>(front, ping::value, 2)), ec::no_such_child);
        }
}

TEST(facade_V2, gives_a_successor_no_request_that_must_not_be_repeated) {
  world w;
  const auto r = std::make_shared<record>();
  const auto root = spawn_supervisor(
      w.system, "root", one_for_one(),
      {nested("inner", restart_type::permanent, one_for_one(), {keeper(r, false)})});
  w.settle();
  const auto inner = ok(w.ask<caf::actor>(root, ref_atom::value, "inner"));
  const auto front = ok(w.ask<caf::actor>(inner, ref_atom::value, "c"));
  auto pending = w.self->request(front, caf::infinite, ping::value, 1);
  w.settle();
  EXPECT_EQ(ok(w.ask<std::string>(root, act_atom::value, "kill", "inner")), "inner");
  w.settle();
  EXPECT_EQ(code_of(w.take<int>(pending)), ec::child_failed);
  EXPECT_EQ(r->seen.size(), 1u);
  r->holds = false;
  EXPECT_EQ(w.ask<int>(front, ping::value, 2), 202);
  w.stop(root);
}

TEST(facade_V2,
     gives_requests_that_may_be_repeated_to_the_successor_of_a_killed_supervisors_child) {
  world w;
  const auto r = std::make_shared<record>();
  const auto root = spawn_supervisor(
      w.system, "root", one_for_one(),
      {nested("inner", restart_type::permanent, one_for_one(), {keeper(r, true)})});
  w.settle();
  const auto inner = ok(w.ask<caf::actor>(root, ref_atom::value, "inner"));
  const auto front = ok(w.ask<caf::actor>(inner, ref_atom::value, "c"));
  auto pending = w.self->request(front, caf::infinite, ping::value, 1);
  w.settle();
  r->holds = false;
  EXPECT_EQ(ok(w.ask<std::string>(root, act_atom::value, "kill", "inner")), "inner");
  w.settle();
  EXPECT_EQ(w.take<int>(pending), 201);
  w.stop(root);
}

TEST(facade_V2, lets_go_of_an_incarnation_whose_end_it_was_not_told) {
  world w;
  const auto r = std::make_shared<record>();
  r->holds = true;
  facade_options once;
  once.resend = false;
  const auto front = w.front(once);
  const auto first = ok(till(r)(w.self.ptr()));
  const auto second = ok(till(r)(w.self.ptr()));
  point_facade(front, first);
  auto pending = w.self->request(front, caf::infinite, ping::value, 1);
  w.settle();
  point_facade(front, second);
  w.settle();
  EXPECT_EQ(code_of(w.take<int>(pending)), ec::child_failed);
  EXPECT_EQ(r->seen.size(), 1u);
  w.stop(first);
  w.stop(second);
}

TEST(supervisor_V2, answers_its_own_callers_when_it_is_killed) {
  world w;
  auto slow = worker(permanent("slow"), std::make_shared<record>());
  slow.reports_ready = true;  // A till does not know (wait): its start takes for ever.
  slow.start = [](caf::local_actor* by) -> result<caf::actor> {
    return by->system().spawn([](caf::event_based_actor* self) -> caf::behavior {
      return {[self](wait_atom) -> caf::result<caf::ok_atom> {
        [[maybe_unused]] const auto never = self->make_response_promise();
        return caf::delegated<caf::ok_atom>{};
      }};
    });
  };
  const auto root = spawn_supervisor(w.system, "root", one_for_one(), {slow});
  auto up = w.self->request(root, caf::infinite, wait_atom::value);
  auto call = w.self->request(root, caf::infinite, terminate_atom::value, "slow");
  w.settle();
  caf::anon_send_exit(root, caf::exit_reason::kill);
  w.settle();
  EXPECT_EQ(code_of(w.take<caf::ok_atom>(up)), ec::child_failed);
  EXPECT_EQ(code_of(w.take<std::string>(call)), ec::child_failed);
}

TEST(supervisor_V3, restarts_a_child_whose_on_exit_throws_and_keeps_the_text) {
  for (const bool by_itself : {false, true}) {
    world w;
    int exits = 0;
    const auto root =
        spawn_supervisor(w.system, "root", one_for_one(),
                         {{permanent("c"), [&](caf::local_actor* by) -> result<caf::actor> {
                             return caf::actor{by->system().spawn<throwing_at_exit>(&exits)};
                           }}});
    w.settle();
    const auto front = ok(w.ask<caf::actor>(root, ref_atom::value, "c"));
    if (by_itself)
      caf::anon_send(front, burst::value, 0);
    else
      caf::anon_send_exit(ok(w.ask<which_children>(root, which_atom::value)).children[0].second,
                          caf::exit_reason::user_shutdown);
    w.settle();
    EXPECT_GE(exits, 1);
    EXPECT_EQ(w.ask<int>(front, ping::value, 5), 5);
    EXPECT_NE(last_reason(w, root).find(by_itself ? "burst as told" : "no way to leave"),
              std::string::npos)
        << last_reason(w, root);
    w.stop(root);
  }
}

TEST(supervisor_V3, hears_of_the_end_of_a_child_whose_attached_function_throws) {
  for (const bool is_guarded : {false, true}) {
    world w;
    const auto root = spawn_supervisor(w.system, "root", one_for_one(),
                                       {{permanent("c"), throws_when_it_ended(is_guarded)}});
    w.settle();
    const auto front = ok(w.ask<caf::actor>(root, ref_atom::value, "c"));
    ASSERT_EQ(w.ask<int>(front, ping::value, 1), 1);  // It attaches a second one.
    caf::anon_send_exit(ok(w.ask<which_children>(root, which_atom::value)).children[0].second,
                        caf::exit_reason::user_shutdown);
    w.settle();
    EXPECT_EQ(w.tree(root)["children"][0]["incarnation"], 2);
    EXPECT_NE(last_reason(w, root).find(is_guarded ? "too late" : "threw an exception"),
              std::string::npos)
        << last_reason(w, root);
    w.stop(root);
  }
}

TEST(supervisor_V3, survives_a_child_that_throws_and_whose_attached_function_throws_too) {
  world w;
  const auto root = spawn_supervisor(w.system, "root", one_for_one(),
                                     {{permanent("c"), throws_when_it_ended(true)}});
  w.settle();
  const auto front = ok(w.ask<caf::actor>(root, ref_atom::value, "c"));
  ASSERT_EQ(w.ask<int>(front, ping::value, 1), 1);
  caf::anon_send(front, burst::value, 0);
  w.settle();
  EXPECT_EQ(w.ask<int>(front, ping::value, 2), 2);
  EXPECT_NE(last_reason(w, root).find("burst as told"), std::string::npos) << last_reason(w, root);
  w.stop(root);
}

TEST(supervisor_V4, keeps_nothing_of_starts_that_died_before_they_were_ready) {
  world w;
  auto mayfly = worker(permanent("mayfly"), nullptr);
  mayfly.reports_ready = true;
  mayfly.start = [](caf::local_actor* by) -> result<caf::actor> {
    return by->system().spawn([](caf::event_based_actor* self) -> caf::behavior {
      return {[self](wait_atom) -> caf::result<caf::ok_atom> {
        [[maybe_unused]] const auto never = self->make_response_promise();
        self->quit(caf::exit_reason::unhandled_exception);
        return caf::delegated<caf::ok_atom>{};
      }};
    });
  };
  const auto root = spawn_supervisor(w.system, "root", one_for_one(), {});
  w.settle();
  const auto die = [&](int times) {
    for (int i = 0; i < times; ++i)
      EXPECT_EQ(code_of(w.ask<std::string>(root, add_child_atom::value, mayfly)), ec::child_failed);
  };
  die(500);
  const auto before = allocated_bytes();
  die(5000);
  EXPECT_LT(allocated_bytes(), before + 5000 * 40);
  w.stop(root);
}

TEST(supervisor_V4, keeps_nothing_of_dynamic_children_that_were_lost_with_their_supervisor) {
  world w;
  const auto r = std::make_shared<record>();
  const auto root = spawn_supervisor(
      w.system, "root", one_for_one(1000),
      {{{"inner", restart_type::permanent, shutdown_policy::infinity(), child_kind::supervisor},
        supervisor_start("inner", dynamic(), {}, permanent("w"))}});
  w.settle();
  const auto inner = ok(w.ask<caf::actor>(root, ref_atom::value, "inner"));
  const auto lose = [&](int rounds) {
    for (int i = 0; i < rounds; ++i) {
      for (int n = 0; n < 50; ++n) {
        auto one = worker(permanent("w-" + std::to_string(i) + "-" + std::to_string(n)), r);
        const auto id = ok(w.ask<std::string>(inner, add_child_atom::value, one));
        EXPECT_TRUE(w.ask<caf::actor>(inner, ref_atom::value, id));
      }
      EXPECT_EQ(ok(w.ask<std::string>(root, act_atom::value, "kill", "inner")), "inner");
      w.settle();
    }
  };
  lose(4);
  const auto before = allocated_bytes();
  lose(40);
  EXPECT_LT(allocated_bytes(), before + 40 * 50 * 100);
  w.stop(root);
}

TEST(supervisor_V4, keeps_nothing_that_the_handlers_of_a_failed_actor_hold) {
  world w;
  const auto kept = std::make_shared<record>();
  const std::weak_ptr<record> seen = kept;
  const auto failed = w.system.spawn([kept](caf::event_based_actor* self) -> caf::behavior {
    guard(self, "holder");
    return {[kept](burst, int) -> caf::result<int> { throw std::runtime_error("burst as told"); }};
  });
  w.settle();
  caf::anon_send(failed, burst::value, 0);
  w.settle();
  ASSERT_EQ(seen.use_count(), 1);  // Ours: the actor's address, which is held too, holds nothing.
}

namespace {
struct nested_message {
  std::vector<std::string> lines;
  std::optional<nlohmann::json> value;
  std::shared_ptr<std::string> shared;
};
}  // namespace
NTRACE_LOCAL_MESSAGE(nested_message)

TEST(facade_bound, counts_the_bytes_of_a_message_of_any_type) {
  const std::string text(10'000, 'x');
  const auto bytes = [](const auto& value) { return bytes_beyond(caf::make_message(value)); };
  const auto is_about = [](std::size_t seen, std::size_t expected) {
    return seen >= expected && seen < expected + 500;
  };
  EXPECT_LT(bytes(std::int64_t{7}), 20u);
  EXPECT_PRED2(is_about, bytes(text), 10'000u);
  EXPECT_PRED2(is_about, bytes(std::vector<std::string>{text, text}), 20'000u);
  EXPECT_PRED2(is_about, bytes(std::vector<std::int32_t>(5'000)), 20'000u);
  EXPECT_PRED2(is_about, bytes(std::map<std::string, std::string>{{text, text}}), 20'000u);
  EXPECT_PRED2(is_about, bytes(caf::make_message(text, text)), 20'000u);
  EXPECT_PRED2(is_about, bytes(within{time_point{}, caf::make_message(text)}), 10'000u);
  EXPECT_PRED2(is_about, bytes(nested_message{{text}, {}, {}}), 10'000u);
  EXPECT_PRED2(is_about, bytes(nested_message{{}, nlohmann::json{{"a", {text, text}}}, {}}),
               20'000u);
  EXPECT_PRED2(is_about, bytes(nested_message{{}, {}, std::make_shared<std::string>(text)}),
               10'000u);
}

TEST(facade_bound, refuses_a_message_whose_bytes_lie_deep_in_it) {
  world w;
  facade_options small;
  small.bytes_max = 1000;
  const auto front = w.front(small);
  EXPECT_EQ(code_of(w.ask<int>(front, nested_message{{std::string(2000, 'x')}, {}, {}})),
            ec::overloaded);
  EXPECT_EQ(code_of(w.ask<int>(front, std::vector<std::string>(1, std::string(2000, 'x')))),
            ec::overloaded);
}
