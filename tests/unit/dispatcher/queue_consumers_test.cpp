// Consumers of the old protocol, and the orders of events in which its first dispatcher lost
// pushes (docs/protocol.md, "Orders that lose pushes").
#include "tests/support/queue_world.hpp"

namespace {

using namespace ntrace;
using namespace ntrace::test;

const json start{{"level", "info"}, {"code", "start"}, {"message", "begins"}};

json end_of(const char* stream) { return {{"event", "end"}, {"stream", stream}}; }

/// Says that all streams of `run_id` ended; the last answer.
heard end_all(queue_world& w, const std::string& run_id) {
  heard last;
  for (const char* stream : {"result", "stdout", "stderr", "events"})
    last = w.say(run_id + stream, run_id, "control", end_of(stream));
  return last;
}

TEST(consumer, is_given_a_job_when_there_is_one_and_waits_for_it_otherwise) {
  queue_world w;
  const auto early = w.ask(1);
  EXPECT_EQ(w.answers.count(early), 0u);
  w.push("A");
  const auto job = w.job(early);
  EXPECT_EQ(job["id"], "A");
  EXPECT_EQ(job["uuid"], "A");
  EXPECT_EQ(job["owner"], "o");
  EXPECT_EQ(job["repo"], "r");
  EXPECT_EQ(job["commit"], sha);
  EXPECT_EQ(job["payload"]["after"], job["commit"]);
  EXPECT_EQ(job["payload"]["repository"]["name"], "r");
  w.push("B");
  EXPECT_TRUE(w.offers.empty());
  EXPECT_EQ(w.job(w.ask(1))["id"], "B");
}

TEST(consumer, ends_its_run_when_all_four_streams_have_ended) {
  queue_world w;
  w.push("A");
  ASSERT_EQ(w.job(w.ask(1))["id"], "A");
  EXPECT_TRUE(w.say("d1", "mine", "events", start));
  EXPECT_EQ(w.state_written("A"), "running");
  EXPECT_TRUE(w.say("d2", "mine", "stdout", "hello"));
  EXPECT_TRUE(w.say("d3", "mine", "result", "a;b 3\n"));
  EXPECT_EQ(w.state_written("A"), "running");
  EXPECT_EQ(ok(end_all(w, "mine"))["state"], "done");
  EXPECT_EQ(w.state_written("A"), "done");
  EXPECT_EQ(w.say("late", "mine", "stdout", "x").error().code, ec::stale_lease);
}

TEST(consumer, fails_its_run_for_good_when_an_event_is_an_error) {
  queue_world w;
  w.push("A");
  w.ask(1);
  EXPECT_TRUE(w.say("d1", "mine", "events", json{{"level", "error"}, {"message", "npm failed"}}));
  end_all(w, "mine");
  EXPECT_EQ(w.state_written("A"), "failed");
}

TEST(consumer, keeps_a_long_failure_readable_whatever_its_letters_are) {
  queue_world w;
  w.push("A");
  w.ask(1);
  std::string long_text{"x"};
  for (int i = 0; i < 2000; ++i) long_text += "\xc3\xa9";  // Its 2000th byte is half a letter.
  ASSERT_TRUE(w.say("d1", "mine", "events", json{{"level", "error"}, {"message", long_text}}));
  end_all(w, "mine");
  std::string reason;
  for (const auto& op : w.written)
    if (const auto* set = std::get_if<journal::set_run>(&op)) reason = set->reason;
  EXPECT_EQ(reason.size(), 1999u);
  EXPECT_NO_THROW(reason = json(reason).dump());
  EXPECT_EQ(w.state_written("A"), "failed");
}

TEST(consumer, p1_its_job_reaches_another_within_the_lease_when_it_vanished_unnoticed) {
  queue_world w;
  w.ask(1);
  w.push("A");  // Handed to a connection that nobody is behind.
  const auto other = w.ask(2, "10.0.0.2");
  w.pass(29s);
  EXPECT_TRUE(w.job(other).is_null());
  w.pass(1s);
  EXPECT_EQ(w.job(other)["id"], "A");
  EXPECT_EQ(w.say("d1", "old", "events", start).error().code, ec::stale_lease);
}

TEST(consumer, p2_its_job_is_somebody_elses_at_once_when_it_closes) {
  queue_world w;
  w.push("A");
  w.ask(1);
  const auto other = w.ask(2, "10.0.0.2");
  w.perform(w.fsm.on_session_gone(w.now, 1));
  EXPECT_EQ(w.job(other)["id"], "A");
  // The same when it had begun: only then an attempt is counted.
  w.say("d1", "mine", "events", start, "10.0.0.2");
  const auto third = w.ask(3);
  w.perform(w.fsm.on_session_gone(w.now, 2));
  EXPECT_EQ(w.job(third)["id"], "A");
  EXPECT_EQ(w.say("d2", "mine", "stdout", "x", "10.0.0.2").error().code, ec::stale_lease);
}

TEST(consumer, p3_each_push_ends_once_over_a_thousand_reconnects_with_open_requests) {
  queue_world w;
  std::map<std::string, int> given;
  request_id open = 0;
  for (session_id s = 1; s <= 1000; ++s) {
    open = w.ask(s);
    if (s % 10 == 0) w.push("R" + std::to_string(s));
    w.perform(w.fsm.on_session_gone(w.now, s));
  }
  EXPECT_EQ(to_json(w.fsm.status(w.now))["runners"].size(), 0u);
  for (session_id s = 1001; s <= 1101; ++s) {
    open = w.ask(s);
    const auto job = w.job(open);
    if (job.is_null()) break;
    const auto run = job["id"].get<std::string>();
    ++given[run];
    w.say("d" + run, "mine" + run, "events", start);
    end_all(w, "mine" + run);
    EXPECT_EQ(w.state_written(run), "done");
  }
  EXPECT_EQ(given.size(), 100u);
  for (const auto& [run, times] : given) EXPECT_EQ(times, 1) << run;
  EXPECT_EQ(w.fsm.open_runs(), 0u);
}

TEST(consumer, p6_each_document_is_stored_once_and_in_order_however_often_it_comes) {
  queue_world w;
  w.push("A");
  w.ask(1);
  w.holds = true;  // Slow answers: the consumer asks again before the first came.
  w.say("d1", "mine", "stdout", "1");
  w.say("d1", "mine", "stdout", "1");
  w.say("d2", "mine", "stdout", "2");
  w.say("d1", "mine", "stdout", "1");
  w.release();
  EXPECT_EQ(ok(w.say("d1", "mine", "stdout", "1"))["duplicate"], true);
  std::string kept;
  for (const auto& op : w.written)
    if (const auto* doc = std::get_if<journal::append_doc>(&op)) kept += doc->pieces.at(0);
  EXPECT_EQ(kept, "12");
}

TEST(consumer, p9_its_lease_ends_with_the_dispatcher_and_the_run_goes_to_the_next) {
  queue_world w;
  run_row row{"A", "o", "r", sha, "s", 0, run_state::running, 1, 7, 1, 0, 4, 0, true};
  w.perform(w.fsm.on_recovered(w.now, 0, {row}));
  EXPECT_EQ(w.state_written("A"), "queued");
  EXPECT_EQ(w.job(w.ask(1))["id"], "A");
}

TEST(consumer, p10_a_document_that_is_wrong_is_refused_with_its_field_and_others_are_unharmed) {
  queue_world w;
  w.push("A");
  w.ask(1);
  const json good{{"id", "d"},     {"run_id", "mine"},   {"when", 1},  {"repo", "o/r"},
                  {"commit", sha}, {"stream", "stdout"}, {"data", "x"}};
  const auto send = [&](const json& args) { return w.say_all(args, "10.0.0.1", 5); };
  const json wrong[] = {json(), 1, "", json::array(), json::object(), std::string(300, 'x')};
  for (const auto& [field, value] : good.items()) {
    auto doc = good;
    doc.erase(field);
    EXPECT_EQ(send(json::array({doc})).error().code, ec::bad_argument) << field;
    for (const auto& bad : wrong) {
      if ((field == "data" && bad != json() && bad != "") || (field == "when" && bad == 1))
        continue;
      doc[field] = bad;
      const auto refused = send(json::array({doc}));
      ASSERT_FALSE(refused) << field << bad;
      EXPECT_EQ(refused.error().code, ec::bad_argument) << field << bad;
      EXPECT_NE(refused.error().message.find(field), std::string::npos) << refused.error().message;
    }
  }
  for (const json& args : {json::array(), json::array({1}), json::array({good, good})})
    EXPECT_EQ(send(args).error().code, ec::bad_argument);
  for (const json& data : {json{{"event", "end"}}, json{{"event", "end"}, {"stream", "control"}},
                           json{{"event", "go"}, {"stream", "stdout"}}})
    EXPECT_EQ(w.say("c", "mine", "control", data).error().code, ec::bad_argument) << data;
  EXPECT_TRUE(send(json::array({good})));
  auto other = good;
  other["id"] = "d9";
  other["commit"] = std::string(40, 'b');
  EXPECT_EQ(send(json::array({other})).error().facts.at(0).second, "commit");
}

TEST(consumer, is_known_by_its_host_and_by_the_oldest_job_where_that_does_not_tell) {
  queue_world w;
  w.push("A");
  w.push("B");
  w.ask(1);
  w.ask(2, "10.0.0.2");
  EXPECT_EQ(w.say("d0", "x", "stdout", "x", "10.0.0.3").error().code, ec::stale_lease);
  ASSERT_TRUE(w.say("d1", "second", "stdout", "x", "10.0.0.2"));
  EXPECT_EQ(w.state_written("B"), "running");
  EXPECT_EQ(w.state_written("A"), "queued");
  w.push("C");
  w.ask(1);
  ASSERT_TRUE(w.say("d2", "first", "stdout", "x"));
  EXPECT_EQ(w.state_written("A"), "running");
  EXPECT_EQ(w.state_written("C"), "queued");
  bool is_told = false;
  for (const auto& op : w.written)
    if (const auto* e = std::get_if<journal::event>(&op);
        e && e->what == "accepted" && e->run == "A")
      is_told = e->detail.value("joined", "") == "the oldest of 2 that it may be";
  EXPECT_TRUE(is_told);
}

TEST(consumer, speaks_again_of_its_job_when_the_journal_refused_the_first_word) {
  queue_world w;
  w.push("A");
  w.ask(1);
  w.journal_error = {ec::journal_full, "full", {}};
  EXPECT_EQ(w.say("d1", "mine", "events", start).error().code, ec::journal_full);
  w.journal_error = {};
  EXPECT_TRUE(w.say("d1", "mine", "events", start));
  EXPECT_EQ(w.state_written("A"), "running");
}

TEST(consumer, gets_no_job_when_the_journal_refuses_to_say_so_and_still_asks) {
  queue_world w;
  const auto open = w.ask(1);
  w.holds = true;
  w.push("A");
  w.release();
  ASSERT_EQ(w.job(open)["id"], "A");
  w.journal_error = {ec::journal_full, "full", {}};
  w.perform(w.fsm.on_session_gone(w.now, 1));
  const auto other = w.ask(2);
  EXPECT_EQ(w.answers.count(other), 0u);
  w.journal_error = {};
  w.pass(1s);
  EXPECT_EQ(w.job(other)["id"], "A");
}

TEST(consumer, is_answered_when_it_half_closes_and_gets_no_job) {
  queue_world w;
  const auto open = w.ask(1);
  w.perform(w.fsm.on_session_gone(w.now, 1));
  EXPECT_EQ(w.answers.at(open).error().code, ec::connection_lost);
  w.push("A");
  EXPECT_EQ(w.state_written("A"), "");
}

TEST(consumer, is_answered_when_it_half_closes_while_its_job_is_being_written) {
  queue_world w;
  w.holds = true;
  w.push("A");
  const auto open = w.ask(1);
  w.perform(w.fsm.on_session_gone(w.now, 1));
  w.release();
  ASSERT_EQ(w.answers.count(open), 1u) << "nobody else ever will";
  EXPECT_EQ(w.answers.at(open).error().code, ec::connection_lost);
  EXPECT_EQ(w.job(w.ask(2))["id"], "A");
}

TEST(consumer, gives_back_what_it_has_when_the_port_was_started_again) {
  queue_world w;
  for (const char* run : {"A", "B", "C"}) w.push(run);
  ASSERT_EQ(w.job(w.ask(1))["id"], "A");
  ASSERT_EQ(w.job(w.ask(2))["id"], "B");
  EXPECT_TRUE(w.say("d1", "mine", "events", start));
  ASSERT_EQ(w.job(w.ask(8))["id"], "C");
  const auto waiting = w.ask(3);
  w.perform(w.fsm.on_port_opened(w.now, 8));
  EXPECT_EQ(w.answers.at(waiting).error().code, ec::connection_lost);
  EXPECT_EQ(w.job(w.ask(9))["id"], "A");
  EXPECT_EQ(w.job(w.ask(9))["id"], "B") << "of which nobody had spoken";
  EXPECT_TRUE(w.job(w.ask(9)).is_null()) << "a newer consumer keeps what it has";
}

TEST(queue, offers_nothing_to_a_runner_of_before_the_port_was_started_again) {
  queue_world w;
  w.hello(1);
  w.perform(w.fsm.on_port_opened(w.now, 5));
  w.push("A");
  EXPECT_TRUE(w.offers.empty());
  EXPECT_TRUE(to_json(w.fsm.status(w.now))["runners"].empty()) << to_json(w.fsm.status(w.now));
  w.hello(5);
  EXPECT_EQ(w.offers.size(), 1u);
}

TEST(consumer, may_be_silent_for_long_once_it_began_but_not_for_ever) {
  queue_world w;
  w.push("A");
  w.ask(1);
  w.say("d1", "mine", "events", start);
  w.pass(599s);
  EXPECT_EQ(w.state_written("A"), "running");
  w.pass(2s);
  EXPECT_EQ(w.state_written("A"), "queued");
  EXPECT_TRUE(w.aborted.empty());  // It would not know the call.
}

TEST(consumer, cannot_be_told_of_a_cancel_and_what_it_says_then_is_stale) {
  queue_world w;
  w.push("A");
  w.ask(1);
  w.say("d1", "mine", "events", start);
  w.perform(w.fsm.on_cancel(w.now, w.next++, "A"));
  EXPECT_EQ(w.state_written("A"), "cancelled");
  EXPECT_TRUE(w.aborted.empty());
  EXPECT_EQ(w.say("d2", "mine", "stdout", "x").error().code, ec::stale_lease);
  EXPECT_EQ(ok(w.say("d1", "mine", "events", start))["duplicate"], true);
}

TEST(consumer, is_no_runner_and_a_runner_no_consumer_on_one_connection) {
  queue_world w;
  w.hello(1);
  EXPECT_EQ(w.answers.at(w.ask(1)).error().code, ec::invalid_state);
  w.ask(2);
  EXPECT_EQ(w.answers.at(w.hello(2)).error().code, ec::invalid_state);
}

}  // namespace
