// The cases of supervision/README.md that need real actors: nesting, addresses, reasons. Virtual
// time, real CAF mailboxes and monitors.
#include "config/assert.hpp"
#include "tests/support/seeded.hpp"
#include "tests/support/till.hpp"

using namespace ntrace;
using namespace ntrace::test;

TEST(caf_types, keep_code_message_and_facts_of_an_error) {
  const error before{ec::gap, "chunk 3 does not follow 1", {{"expected", "2"}, {"run", "R"}}};
  const auto after = from_caf(to_caf(before));
  EXPECT_EQ(after.code, before.code);
  EXPECT_EQ(after.message, before.message);
  EXPECT_EQ(after.facts, before.facts);
  EXPECT_TRUE(from_caf(to_caf(error{ec::io, "no facts", {}})).facts.empty());
}

TEST(supervisor_A2, tells_the_parent_which_grandchild_did_not_start) {
  world w;
  const auto r = std::make_shared<record>();
  const auto root =
      spawn_supervisor(w.system, "root", one_for_one(),
                       {worker(permanent("first"), r),
                        nested("inner", restart_type::permanent, one_for_one(),
                               {{permanent("bad"), [](caf::local_actor*) -> result<caf::actor> {
                                   return fail(ec::io, "no disk");
                                 }}})});
  const auto up = w.ask<caf::ok_atom>(root, wait_atom::value);
  ASSERT_FALSE(up);
  EXPECT_NE(up.error().message.find("child inner did not start"), std::string::npos);
  EXPECT_NE(up.error().message.find("child bad did not start: io: no disk"), std::string::npos)
      << up.error().message;
}

TEST(supervisor_A7, keeps_the_text_of_a_start_function_that_throws) {
  world w;
  const auto root = spawn_supervisor(
      w.system, "root", one_for_one(),
      {{permanent("bad"),
        [](caf::local_actor*) -> result<caf::actor> { throw std::runtime_error("no disk"); }}});
  w.self->monitor(root);
  w.settle();
  std::string why;
  w.self->receive([&](const caf::down_msg& d) { why = to_string(exit_reason_of(d.reason)); });
  EXPECT_EQ(why,
            "child bad did not start: child_failed: the start function threw "
            "std::runtime_error: no disk");
}

TEST(assertion, ends_the_actor_whose_code_asserted_and_its_supervisor_starts_another) {
  world w;
  const auto begun = std::make_shared<int>(0);
  const auto root = spawn_supervisor(
      w.system, "root", one_for_one(),
      {{permanent("asserts"), [begun](caf::local_actor* by) {
          return result<caf::actor>{
              by->system().spawn([begun](caf::event_based_actor* self) -> caf::behavior {
                guard(self, "asserts");
                const int number = ++*begun;
                if (number == 1) self->send(self, caf::tick_atom::value);
                return {[number](caf::tick_atom) { NTRACE_ASSERT(number != 1, "not the first"); }};
              })};
        }}});
  w.settle();
  EXPECT_EQ(*begun, 2);
  EXPECT_TRUE(w.ask<caf::ok_atom>(root, wait_atom::value));
}

TEST(supervisor_A8, fails_a_child_that_never_reports_ready) {
  world w;
  auto spec = permanent("slow");
  spec.start_deadline = 100ms;
  child slow = worker(spec, std::make_shared<record>());
  slow.reports_ready = true;
  slow.start = [](caf::local_actor* by) -> result<caf::actor> {
    return by->system().spawn([](caf::event_based_actor* self) -> caf::behavior {
      return {[self](wait_atom) -> caf::result<caf::ok_atom> {
        self->attach_functor([p = self->make_response_promise()](const caf::error& e) {
          auto late = p;
          late.deliver(e);
        });
        return caf::delegated<caf::ok_atom>{};
      }};
    });
  };
  const auto root = spawn_supervisor(w.system, "root", one_for_one(), {slow});
  auto pending = w.self->request(root, caf::infinite, wait_atom::value);
  w.run_for(100ms);
  const auto up = w.take<caf::ok_atom>(pending);
  ASSERT_FALSE(up);
  EXPECT_NE(up.error().message.find("timed_out"), std::string::npos) << up.error().message;
}

TEST(supervisor_C7, counts_an_inner_supervisor_that_trips_once_and_restarts_it) {
  world w;
  const auto r = std::make_shared<record>();
  const auto front = w.front();
  const auto root = spawn_supervisor(w.system, "root", one_for_one(3),
                                     {nested("inner", restart_type::permanent, one_for_one(1),
                                             {worker(permanent("c"), r, front)})});
  w.settle();
  for (int i = 0; i < 2; ++i) {
    caf::anon_send(front, burst::value, 0);
    w.settle();
  }
  EXPECT_EQ(w.ask<int>(front, ping::value, 1), 301);
  const auto tree = w.tree(root);
  EXPECT_EQ(tree["budget_left"], 2);
  EXPECT_EQ(tree["children"][0]["restarts"], 1);
  EXPECT_NE(tree["children"][0]["last_reason"].get<std::string>().find("restart intensity"),
            std::string::npos);
  w.stop(root);
}

TEST(supervisor_C8, leaves_a_transient_inner_supervisor_that_tripped) {
  world w;
  const auto r = std::make_shared<record>();
  const auto front = w.front();
  const auto root = spawn_supervisor(w.system, "root", one_for_one(3),
                                     {nested("inner", restart_type::transient, one_for_one(0),
                                             {worker(permanent("c"), r, front)})});
  w.settle();
  caf::anon_send(front, burst::value, 0);
  w.settle();
  const auto tree = w.tree(root);
  EXPECT_EQ(tree["children"][0]["state"], "stopped");
  EXPECT_EQ(tree["budget_left"], 3);
  w.stop(root);
}

TEST(supervisor_E8, stops_the_leaves_of_a_deep_tree_first) {
  world w;
  std::vector<std::string> order;
  const auto leaf = [&](const char* name) {
    return child{
        permanent(name), [&order, name](caf::local_actor* by) -> result<caf::actor> {
          return by->system().spawn([&order, name](caf::event_based_actor* self) {
            self->attach_functor([&order, name](const caf::error&) { order.emplace_back(name); });
            return caf::behavior{[](ping) {}};
          });
        }};
  };
  const auto root = spawn_supervisor(
      w.system, "root", one_for_one(),
      {leaf("a"),
       nested("middle", restart_type::permanent, one_for_one(),
              {leaf("b"),
               nested("inner", restart_type::permanent, one_for_one(), {leaf("c"), leaf("d")}),
               leaf("e")})});
  root->attach_functor([&order](const caf::error&) { order.emplace_back("root"); });
  w.settle();
  w.stop(root);
  EXPECT_EQ(order, (std::vector<std::string>{"e", "d", "c", "b", "a", "root"}));
}

TEST(supervisor_E9, takes_its_children_along_when_it_is_killed) {
  world w;
  bool ended = false;
  const auto root =
      spawn_supervisor(w.system, "root", one_for_one(),
                       {{permanent("c"), [&](caf::local_actor* by) -> result<caf::actor> {
                           return by->system().spawn([&](caf::event_based_actor* self) {
                             self->attach_functor([&](const caf::error&) { ended = true; });
                             return caf::behavior{[](ping) {}};
                           });
                         }}});
  w.settle();
  caf::anon_send_exit(root, caf::exit_reason::kill);
  w.settle();
  EXPECT_TRUE(ended);
}

TEST(supervisor_F1, gives_the_address_of_the_child_that_runs) {
  world w;
  const auto r = std::make_shared<record>();
  const auto root = spawn_supervisor(w.system, "root", one_for_one(), {worker(permanent("c"), r)});
  w.settle();
  auto pending = w.self->request(root, caf::infinite, add_child_atom::value,
                                 worker(permanent("c"), std::make_shared<record>()));
  w.settle();
  caf::actor running;
  pending.receive([](const std::string&) {}, [&](const caf::error& e) { running = address_in(e); });
  ASSERT_TRUE(running);
  EXPECT_EQ(w.ask<int>(running, ping::value, 1), 101);
  EXPECT_EQ(r->starts, 1);
  w.stop(root);
}

TEST(supervisor_F4, keeps_the_facade_valid_over_terminate_and_restart) {
  world w;
  const auto r = std::make_shared<record>();
  const auto root = spawn_supervisor(w.system, "root", one_for_one(), {worker(permanent("c"), r)});
  w.settle();
  const auto front = ok(w.ask<caf::actor>(root, ref_atom::value, "c"));
  EXPECT_EQ(w.ask<int>(front, ping::value, 1), 101);
  EXPECT_EQ(ok(w.ask<std::string>(root, terminate_atom::value, "c")), "c");
  auto pending = w.self->request(front, caf::infinite, ping::value, 2);
  w.settle();
  EXPECT_EQ(ok(w.ask<std::string>(root, restart_atom::value, "c")), "c");
  EXPECT_EQ(w.take<int>(pending), 202);
  EXPECT_EQ(code_of(w.ask<caf::actor>(root, ref_atom::value, "x")), ec::not_found);
  w.stop(root);
}

TEST(supervisor_F4, keeps_the_facade_of_a_grandchild_valid_over_its_supervisors_restart) {
  world w;
  const auto r = std::make_shared<record>();
  const auto root = spawn_supervisor(
      w.system, "root", one_for_one(),
      {nested("inner", restart_type::permanent, one_for_one(), {worker(permanent("c"), r)})});
  w.settle();
  const auto inner = ok(w.ask<caf::actor>(root, ref_atom::value, "inner"));
  const auto front = ok(w.ask<caf::actor>(inner, ref_atom::value, "c"));
  EXPECT_EQ(ok(w.ask<std::string>(root, act_atom::value, "kill", "inner")), "inner");
  w.settle();
  EXPECT_EQ(w.ask<int>(front, ping::value, 1), 201);
  w.stop(root);
}

TEST(supervisor_F9, tells_which_children_there_are_and_counts_them) {
  world w;
  const auto root = spawn_supervisor(w.system, "root", one_for_one(),
                                     {worker(permanent("a"), std::make_shared<record>()),
                                      worker(transient("b"), std::make_shared<record>())});
  w.settle();
  EXPECT_TRUE(w.ask<std::string>(root, terminate_atom::value, "b"));
  const auto which = ok(w.ask<which_children>(root, which_atom::value));
  ASSERT_EQ(which.children.size(), 2u);
  EXPECT_TRUE(which.children[0].second);
  EXPECT_FALSE(which.children[1].second);
  EXPECT_EQ(ok(w.ask<child_counts>(root, count_atom::value)), (child_counts{2, 1, 0, 2}));
  EXPECT_EQ(ok(w.ask<child_spec>(root, spec_atom::value, "b")).restart, restart_type::transient);
  w.stop(root);
}

TEST(supervisor_F10, terminates_a_dynamic_child_by_its_address) {
  world w;
  const auto r = std::make_shared<record>();
  const auto root = spawn_supervisor(w.system, "root", dynamic(), {}, permanent("w"));
  const auto id = ok(w.ask<std::string>(root, add_child_atom::value, worker({}, r)));
  EXPECT_EQ(id, "w_1");
  const auto address = ok(w.ask<which_children>(root, which_atom::value)).children.at(0).second;
  EXPECT_EQ(ok(w.ask<std::string>(root, terminate_atom::value, address)), "w_1");
  EXPECT_EQ(ok(w.ask<child_counts>(root, count_atom::value)).specs, 0u);
  EXPECT_EQ(code_of(w.ask<std::string>(root, terminate_atom::value, address)), ec::not_found);
  w.stop(root);
}

TEST(supervisor_B11, restarts_each_dynamic_child_with_its_own_start_function) {
  world w;
  const auto root = spawn_supervisor(w.system, "root", dynamic(), {}, permanent("w"));
  std::vector<record_ptr> records;
  std::vector<caf::actor> fronts;
  for (int i = 0; i < 5; ++i) {
    records.push_back(std::make_shared<record>());
    const auto id = ok(w.ask<std::string>(root, add_child_atom::value, worker({}, records.back())));
    fronts.push_back(ok(w.ask<caf::actor>(root, ref_atom::value, id)));
  }
  caf::anon_send(fronts[2], burst::value, 0);
  w.settle();
  for (std::size_t i = 0; i < 5; ++i) EXPECT_EQ(records[i]->starts, i == 2 ? 2 : 1);
  EXPECT_EQ(w.ask<int>(fronts[2], ping::value, 7), 207);
  w.stop(root);
}

TEST(supervisor_F13, answers_nothing_to_one_way_calls_and_outlives_stray_errors) {
  world w;
  const auto r = std::make_shared<record>();
  const auto root = spawn_supervisor(w.system, "root", one_for_one(), {});
  w.self->send(root, add_child_atom::value, worker(permanent("c"), r));
  w.self->send(root, to_caf(error{ec::io, "stray", {}}));
  w.settle();
  EXPECT_FALSE(w.self->has_next_message());
  EXPECT_EQ(ok(w.ask<child_counts>(root, count_atom::value)).active, 1u);
  w.stop(root);
}

TEST(supervisor_H8, keeps_type_text_and_message_of_an_exception_in_the_tree) {
  world w;
  const auto r = std::make_shared<record>();
  const auto root = spawn_supervisor(w.system, "root", one_for_one(), {worker(permanent("c"), r)});
  w.settle();
  const auto front = ok(w.ask<caf::actor>(root, ref_atom::value, "c"));
  caf::anon_send(front, burst::value, 5);
  w.run_for(70ms);
  const auto c = w.tree(root)["children"][0];
  EXPECT_EQ(c["last_reason"],
            "till: std::runtime_error: burst as told while handling (burst, @i32)");
  EXPECT_EQ(c["last_exit_ms_ago"], 70);
  EXPECT_EQ(c["incarnation"], 2);
  EXPECT_EQ(c["restarts"], 1);
  EXPECT_EQ(c["uptime_ms"], 70);
  EXPECT_EQ(c["state"], "running");
  EXPECT_EQ(c["mailbox_size"], 0);
  w.stop(root);
}

TEST(supervisor_H10, agrees_with_its_machine_on_every_step) {
  seeded s;
  for (int round = 0; round < 60; ++round) {
    world w;
    supervisor_flags flags{static_cast<strategy>(s.random.below(3)), 12, 5s};
    puppet model{flags};
    std::vector<child> children;
    std::vector<child_spec> specs;
    for (int i = 0; i < 4; ++i) {
      child_spec spec;
      spec.id = std::to_string(i);
      spec.restart = static_cast<restart_type>(s.random.below(3));
      if (s.random.below(2) == 0) spec.backoff = {50ms, 200ms};
      specs.push_back(spec);
      children.push_back(worker(spec, std::make_shared<record>()));
    }
    const auto root = spawn_supervisor(w.system, "root", flags, children);
    w.settle();
    model.start(specs);
    for (int i = 0; i < 20 && !model.fsm.is_ending(); ++i) {
      const auto which = ok(w.ask<which_children>(root, which_atom::value));
      std::string seen, expected;
      for (const auto& [c, address] : which.children)
        seen += c.spec.id + " " + std::string{to_string(c.state)} + " " +
                std::to_string(c.incarnation) + (address ? " up; " : "; ");
      for (const auto& c : model.fsm.children())
        expected += c.spec.id + " " + std::string{to_string(c.state)} + " " +
                    std::to_string(c.incarnation) +
                    (model.alive.count(c.spec.id) != 0 ? " up; " : "; ");
      ASSERT_EQ(seen, expected) << "step " << i;
      const auto id = std::to_string(s.random.below(4));
      const auto call = s.random.below(5);
      if (call == 0) {
        EXPECT_EQ(code_of(w.ask<std::string>(root, terminate_atom::value, id)),
                  model.terminate(id));
      } else if (call == 1) {
        EXPECT_EQ(code_of(w.ask<std::string>(root, restart_atom::value, id)), model.restart(id));
      } else if (model.alive.count(id) != 0) {
        const bool fails = s.random.below(3) > 0;
        for (const auto& [c, address] : which.children)
          if (c.spec.id == id)
            caf::anon_send_exit(address,
                                fails ? caf::exit_reason::kill : caf::exit_reason::user_shutdown);
        w.settle();
        model.die(
            id, fails ? exit_reason{exit_kind::killed, ""} : exit_reason{exit_kind::shutdown, ""});
      }
      const milliseconds step{s.random.below(300)};
      w.run_for(step);
      model.pass(step);
    }
    w.stop(root);
  }
}

TEST(tree, prints_one_child_a_line) {
  world w;
  const auto r = std::make_shared<record>();
  const auto root = spawn_supervisor(
      w.system, "root", one_for_one(),
      {worker(permanent("a"), r), nested("inner", restart_type::permanent, rest_for_one(),
                                         {worker(transient("b"), r), worker(temporary("c"), r)})});
  w.settle();
  EXPECT_EQ(print_tree(w.tree(root), "root"),
            "root  one_for_one\n"
            "├─ a  permanent\n"
            "└─ inner  rest_for_one\n"
            "   ├─ b  transient\n"
            "   └─ c  temporary\n");
  w.stop(root);
}
