// The façade's cases of supervision/README.md, over real CAF mailboxes in virtual time.
#include "supervision/facade_view.hpp"
#include "tests/support/till.hpp"

using namespace ntrace;
using namespace ntrace::test;

TEST(facade_H3, gives_requests_in_flight_to_the_next_incarnation_in_order_with_their_ids) {
  world w;
  const auto r = std::make_shared<record>();
  const auto front = w.front();
  const auto root =
      spawn_supervisor(w.system, "root", one_for_one(), {worker(permanent("c"), r, front)});
  r->holds = true;
  auto first = w.self->request(front, caf::infinite, ping::value, 1);
  auto second = w.self->request(front, caf::infinite, ping::value, 2);
  auto third = w.self->request(front, caf::infinite, ping::value, 3);
  w.settle();
  const auto before = r->seen;
  r->holds = false;
  caf::anon_send(front, burst::value, 0);
  w.settle();
  EXPECT_EQ(w.take<int>(first), 201);
  EXPECT_EQ(w.take<int>(second), 202);
  EXPECT_EQ(w.take<int>(third), 203);
  ASSERT_EQ(r->seen.size(), 6u);
  EXPECT_EQ(std::vector(r->seen.begin() + 3, r->seen.end()), before);
  w.stop(root);
}

TEST(facade_H3, answers_requests_in_flight_with_the_reason_when_they_must_not_be_repeated) {
  world w;
  const auto r = std::make_shared<record>();
  facade_options once;
  once.resend = false;
  const auto front = w.front(once);
  const auto root =
      spawn_supervisor(w.system, "root", one_for_one(), {worker(permanent("c"), r, front)});
  w.settle();
  const auto answer = w.ask<int>(front, burst::value, 0);
  ASSERT_EQ(code_of(answer), ec::child_failed);
  EXPECT_NE(answer.error().message.find("burst as told"), std::string::npos);
  EXPECT_EQ(w.ask<int>(front, ping::value, 1), 201);
  w.stop(root);
}

TEST(facade, shows_the_oldest_request_that_is_not_answered_and_since_when) {
  world w;
  const auto r = std::make_shared<record>();
  facade_options once;  // The content is moved on to the child then, and must not be needed.
  once.resend = false;
  const auto front = w.front(once);
  const auto root =
      spawn_supervisor(w.system, "root", one_for_one(), {worker(permanent("c"), r, front)});
  w.settle();
  EXPECT_EQ(doing_of_facade(front).what, "");
  r->holds = true;
  [[maybe_unused]] const auto first = w.self->request(front, caf::infinite, ping::value, 1);
  w.settle();
  w.run_for(milliseconds{70});
  [[maybe_unused]] const auto second =
      w.self->request(front, caf::infinite, std::string{"another"});
  w.settle();
  const auto seen = doing_of_facade(front);
  EXPECT_EQ(seen.what, caf::to_string(ping::value));
  EXPECT_EQ(seen.since, milliseconds{70});
  w.stop(root);
}

TEST(facade_H4, refuses_one_message_more_than_its_bound_at_once) {
  world w;
  facade_options small;
  small.count_max = 10;
  const auto front = w.front(small);
  std::vector<decltype(w.self->request(front, caf::infinite, ping::value, 0))> pending;
  for (int i = 0; i < 10; ++i)
    pending.push_back(w.self->request(front, caf::infinite, ping::value, i));
  EXPECT_EQ(code_of(w.ask<int>(front, ping::value, 10)), ec::overloaded);
  const auto target = ok(till(std::make_shared<record>())(w.self.ptr()));
  point_facade(front, target);
  w.settle();
  for (int i = 0; i < 10; ++i)
    EXPECT_EQ(w.take<int>(pending[static_cast<std::size_t>(i)]), 100 + i);
  EXPECT_EQ(held_by_facade(front), 0u);
  w.stop(target);
}

TEST(facade_H4, refuses_a_message_above_its_bound_of_bytes) {
  world w;
  facade_options small;
  small.bytes_max = 1000;
  const auto front = w.front(small);
  EXPECT_EQ(code_of(w.ask<int>(front, std::string(1001, 'x'))), ec::overloaded);
}

TEST(facade_H5, answers_timed_out_when_the_senders_deadline_passes_and_delivers_nothing_later) {
  world w;
  const auto r = std::make_shared<record>();
  const auto front = w.front();
  auto pending = w.self->request(
      front, caf::infinite,
      within{w.scheduler().clock().now() + 100ms, caf::make_message(ping::value, 1)});
  w.run_for(99ms);
  EXPECT_EQ(held_by_facade(front), 1u);
  w.run_for(1ms);
  EXPECT_EQ(code_of(w.take<int>(pending)), ec::timed_out);
  const auto target = ok(till(r)(w.self.ptr()));
  point_facade(front, target);
  w.settle();
  EXPECT_TRUE(r->seen.empty());
  w.stop(target);
}

TEST(facade_H5, lets_no_message_wait_longer_than_its_bound) {
  world w;
  const auto front = w.front();
  auto pending = w.self->request(front, caf::infinite, ping::value, 1);
  w.run_for(30s);
  EXPECT_EQ(code_of(w.take<int>(pending)), ec::timed_out);
}

TEST(facade_H6, tells_who_waits_that_the_child_is_gone_for_good) {
  world w;
  const auto r = std::make_shared<record>();
  r->holds = true;
  const auto root = spawn_supervisor(w.system, "root", one_for_one(), {worker(temporary("c"), r)});
  w.settle();
  const auto front = ok(w.ask<caf::actor>(root, ref_atom::value, "c"));
  auto pending = w.self->request(front, caf::infinite, ping::value, 1);
  w.settle();
  caf::anon_send(front, burst::value, 0);
  w.settle();
  EXPECT_EQ(code_of(w.take<int>(pending)), ec::no_such_child);
  EXPECT_EQ(code_of(w.ask<int>(front, ping::value, 2)), ec::no_such_child);
  w.stop(root);
}

TEST(facade_H7, gives_one_answer_when_an_old_incarnation_answers_late) {
  world w;
  const auto r = std::make_shared<record>();
  const auto front = w.front();
  r->holds = true;
  const auto first = ok(till(r)(w.self.ptr()));
  point_facade(front, first);
  auto pending = w.self->request(front, caf::infinite, ping::value, 1);
  w.settle();
  clear_facade(front);
  const auto second = ok(till(r)(w.self.ptr()));
  point_facade(front, second);
  w.settle();
  ASSERT_EQ(r->kept.size(), 2u);
  r->kept[0].deliver(11);  // The old one's answer comes after its end was seen.
  r->kept[1].deliver(22);
  r->kept.clear();
  w.settle();
  EXPECT_EQ(w.take<int>(pending), 11);
  EXPECT_FALSE(w.self->has_next_message());
  w.stop(first);
  w.stop(second);
}

TEST(facade_H11, passes_atoms_and_answers_without_content) {
  world w;
  const auto front = w.front();
  const auto target = w.system.spawn([](caf::event_based_actor*) {
    return caf::behavior{[](ping) {}, [](burst) -> caf::result<caf::unit_t> { return caf::unit; }};
  });
  point_facade(front, target);
  auto first = w.self->request(front, caf::infinite, ping::value);
  auto second = w.self->request(front, caf::infinite, burst::value);
  w.settle();
  int answers = 0;
  first.receive([&] { ++answers; }, [](const caf::error&) {});
  second.receive([&] { ++answers; }, [](const caf::error&) {});
  EXPECT_EQ(answers, 2);
  w.stop(target);
}
