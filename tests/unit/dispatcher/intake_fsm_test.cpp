// The intake, its gate and the queue behind them, in virtual time.
#include "actors/dispatcher/source_template.hpp"
#include "config/limits.hpp"
#include "tests/support/queue_world.hpp"

using namespace ntrace;
using namespace ntrace::test;
using world = queue_world;

namespace {

run_row row_of(const std::string& id) {
  run_row out;
  out.id = id;
  out.owner = "o";
  out.repo = "r";
  out.sha = sha;
  return out;
}

result<push_request> push_of(const std::string& repo) {
  return push_request{"o", repo, sha, "", "", 0, 0, ""};
}

}  // namespace

TEST(intake_fsm, acknowledges_a_push_only_after_the_commit) {
  world uut;
  uut.holds = true;
  const auto request = uut.push("R1");
  EXPECT_EQ(uut.answers.count(request), 0u);
  uut.release();
  EXPECT_EQ((*uut.answers.at(request))["state"], "queued");
  EXPECT_EQ((*uut.answers.at(request))["run"], "R1");
}

TEST(intake_fsm, takes_pushes_while_its_queue_is_still_being_read_and_no_run_twice) {
  world uut;
  uut.gate.begin_recovery();
  const auto rows = [&](std::vector<std::string> ids) {
    std::vector<run_row> out;
    for (const auto& id : ids) {
      run_row r;
      r.id = id;
      r.owner = "o";
      r.repo = "r";
      r.sha = sha;
      out.push_back(r);
    }
    uut.perform(uut.fsm.on_recovered(uut.now, 0, out));
  };
  rows({"R1"});
  EXPECT_TRUE(uut.answers.at(uut.push("R9")));
  rows({"R2", "R9"});  // The page was read after the push.
  EXPECT_EQ(uut.fsm.open_runs(), 3u);
  uut.fsm.on_recovery_end();
  uut.hello(1, 5);
  EXPECT_EQ(uut.offers.size(), 3u);
  rows({"R9"});
  EXPECT_EQ(uut.fsm.open_runs(), 3u) << "nor one that is being offered";
}

TEST(intake_fsm, takes_so_many_pushes_before_it_knows_the_length_of_its_queue_and_no_more) {
  world uut;
  uut.gate.begin_recovery();
  std::size_t taken = 0;
  while (taken < 70'000 && uut.answers.at(uut.push("R" + std::to_string(taken)))) ++taken;
  EXPECT_EQ(taken, 65'536u);
  uut.fsm.on_recovery_end();
  EXPECT_TRUE(uut.answers.at(uut.push("S")));
}

TEST(intake_fsm, records_a_refused_push_under_the_id_that_its_answer_names) {
  world uut;
  uut.perform(uut.fsm.on_drain(uut.now, uut.next++, true));
  const auto draining = uut.answers.at(uut.push("R1", "key"));
  ASSERT_EQ(draining.error().code, ec::draining);
  EXPECT_EQ(draining.error().facts.at(0), (std::pair<std::string, std::string>{"run", "R1"}));
  const auto& told = std::get<journal::event>(uut.written.back());
  EXPECT_EQ(told.run, "R1");
  EXPECT_EQ(told.what, "push_refused");
  EXPECT_EQ(told.detail["code"], "draining");
  EXPECT_EQ(told.detail["repo"], "r");
  EXPECT_EQ(told.detail["key"], "key");
  const result<push_request> wrong = fail(ec::bad_argument, "sha must be …");
  uut.perform(uut.intake.on_push(uut.now, 900, wrong, "R2", 1));
  uut.perform(uut.intake.on_round());
  EXPECT_EQ(uut.answers.at(900).error().facts.at(0).second, "R2");
  EXPECT_EQ(uut.fsm.open_runs(), 0u);
}

TEST(intake_fsm, names_no_record_of_a_refused_push_that_could_not_be_written) {
  world uut;
  uut.perform(uut.fsm.on_drain(uut.now, uut.next++, true));
  uut.journal_error = {ec::journal_full, "full", {}};
  const auto no = uut.answers.at(uut.push("R1")).error();
  EXPECT_EQ(no.code, ec::draining);
  EXPECT_TRUE(no.facts.empty());
}

TEST(intake_fsm, records_only_so_many_refused_pushes_a_minute) {
  world uut;
  uut.perform(uut.fsm.on_drain(uut.now, uut.next++, true));
  uut.written.clear();
  for (int i = 0; i < 1000; ++i) {
    const auto no = uut.answers.at(uut.push("R" + std::to_string(i)));
    ASSERT_EQ(no.error().code, ec::draining);
  }
  EXPECT_EQ(uut.written.size(), 120u);
  EXPECT_EQ(to_json(uut.fsm.status(uut.now))["refusals_not_recorded"], 880);
  uut.now += 60s;
  uut.push("R1000");
  EXPECT_EQ(uut.written.size(), 121u);
}

TEST(intake_fsm, does_not_acknowledge_when_the_journal_fails) {
  world uut;
  uut.journal_error = {ec::journal_full, "disk full", {}};
  EXPECT_EQ(uut.answers.at(uut.push("R1")).error().code, ec::journal_full);
  uut.hello(1);
  EXPECT_TRUE(uut.offers.empty());
  uut.journal_error = {};
  EXPECT_TRUE(uut.answers.at(uut.push("R2")));
  EXPECT_EQ(uut.offers.at(0)["run"], "R2");
}

TEST(intake_fsm, answers_a_known_key_with_the_first_run) {
  world uut;
  uut.push("R1", "k");
  const auto again = *uut.answers.at(uut.push("R2", "k"));
  EXPECT_EQ(again["run"], "R1");
  EXPECT_EQ(again["duplicate"], true);
  EXPECT_EQ(uut.fsm.open_runs(), 1u);
}

TEST(queue_fsm, has_a_push_once_it_came_through_the_gate_and_not_before) {
  world uut;
  uut.holds = true;
  const auto request = uut.push("R1");
  EXPECT_TRUE(uut.gate.is_empty());
  EXPECT_EQ(uut.fsm.waits_for(uut.now, "R1"), "");
  uut.release();
  EXPECT_TRUE(uut.answers.at(request));
  EXPECT_NE(uut.fsm.waits_for(uut.now, "R1"), "");
}

TEST(intake_fsm, answers_a_request_once) {
  world uut;
  uut.holds = true;
  uut.push("R1");
  journal::committed done;
  done.seq = 7;
  const auto group = uut.held_pushes.at(0).group;
  EXPECT_EQ(uut.intake.on_written(group, {done}).size(), 1u);
  EXPECT_TRUE(uut.intake.on_written(group, {done}).empty());
  EXPECT_EQ(uut.intake.unanswered(), 0u);
}

TEST(intake_fsm, writes_what_came_in_one_round_together_and_answers_each_with_its_own_outcome) {
  world uut;
  for (const char* id : {"R1", "R2", "R3"})
    uut.perform(uut.intake.on_push(uut.now, uut.next++, push_of(id), id, 1));
  auto todo = uut.intake.on_round();
  ASSERT_EQ(todo.size(), 1u);
  const auto& write = std::get<write_pushes>(todo.at(0));
  ASSERT_EQ(write.batches.size(), 3u);
  EXPECT_EQ(std::get<journal::insert_run>(write.batches[1].at(0)).run.id, "R2");
  journal::committed first, again;
  first.seq = 7;
  again.duplicate_of = row_of("R0");
  uut.perform(uut.intake.on_written(write.group, {first, again, fail(ec::journal_full, "full")}));
  EXPECT_EQ((*uut.answers.at(1))["run"], "R1");
  EXPECT_EQ((*uut.answers.at(2))["run"], "R0");
  EXPECT_EQ(uut.answers.at(3).error().code, ec::journal_full);
}

TEST(intake_fsm, lets_few_pushes_wait_for_the_group_under_way_and_many_not) {
  world uut;
  uut.holds = true;
  uut.push("R0");
  EXPECT_EQ(uut.held_pushes.size(), 1u);
  for (std::size_t i = 1; i < intake_fsm::full_group; ++i) uut.push("R" + std::to_string(i));
  EXPECT_EQ(uut.held_pushes.size(), 1u) << "they share the next";
  uut.push("S");
  ASSERT_EQ(uut.held_pushes.size(), 2u);
  EXPECT_EQ(uut.held_pushes[1].batches.size(), intake_fsm::full_group);
  uut.push("T");
  EXPECT_EQ(uut.held_pushes.size(), 2u);
  uut.settle(uut.held_pushes[0]);
  ASSERT_EQ(uut.held_pushes.size(), 3u) << "one is back";
  EXPECT_EQ(uut.held_pushes[2].batches.size(), 1u);
}

TEST(intake_fsm, refuses_more_than_the_journal_may_be_given_at_once) {
  world uut;
  uut.holds = true;
  for (std::size_t i = 0; i < limits::journal_queue_max; ++i)
    ASSERT_EQ(uut.answers.count(uut.push("R" + std::to_string(i))), 0u);
  EXPECT_EQ(test::code_of(uut.answers.at(uut.push("S"))), ec::overloaded);
  EXPECT_EQ(to_json(uut.fsm.status(uut.now))["pushes_refused"], 1);
  EXPECT_EQ(to_json(uut.fsm.status(uut.now))["refusals_not_recorded"], 1);
  uut.release();
  EXPECT_TRUE(uut.answers.at(uut.push("T")));
}

TEST(push_gate, lets_in_so_many_runs_as_the_queue_may_hold_and_one_more_when_one_has_ended) {
  push_gate uut;
  uut.set_open_runs(limits::pushes_queued_max - 2);
  uut.add({row_of("R1"), row_of("R2")});
  EXPECT_EQ(test::code_of(uut.may_push()), ec::overloaded) << "what nobody has taken in counts";
  EXPECT_EQ(uut.take().size(), 2u);
  uut.set_open_runs(limits::pushes_queued_max);
  EXPECT_EQ(test::code_of(uut.may_push()), ec::overloaded);
  uut.set_open_runs(limits::pushes_queued_max - 1);
  EXPECT_TRUE(uut.may_push());
}

TEST(push_gate, wakes_once_for_what_comes_until_it_is_taken) {
  push_gate uut;
  int woken = 0;
  uut.on_first([&] { ++woken; });
  EXPECT_EQ(woken, 0);
  uut.add({});
  EXPECT_EQ(woken, 0);
  uut.add({row_of("R1")});
  uut.add({row_of("R2")});
  EXPECT_EQ(woken, 1);
  EXPECT_EQ(uut.take().size(), 2u);
  EXPECT_TRUE(uut.take().empty());
  uut.add({row_of("R3")});
  EXPECT_EQ(woken, 2);
  uut.on_first([&] { woken += 10; });
  EXPECT_EQ(woken, 12) << "a later caller hears of what is there";
}

TEST(push_gate, forgets_what_the_journal_will_tell_when_the_queue_is_read) {
  push_gate uut;
  uut.add({row_of("R1")});
  uut.begin_recovery();
  EXPECT_TRUE(uut.is_empty());
  uut.add({row_of("R2")});
  EXPECT_EQ(uut.take().at(0).id, "R2");
}

TEST(push_gate, takes_no_pushes_for_good_once_its_process_stops) {
  push_gate uut;
  uut.set_stopping();
  uut.set_draining(false);
  EXPECT_EQ(test::code_of(uut.may_push()), ec::draining);
}

TEST(source_template, fills_each_name_wherever_it_stands) {
  const source_template uut{"{sha}:x/{owner}/{repo}/{owner}{none}"};
  EXPECT_EQ(uut.fill("o", "r", "s"), "s:x/o/r/o{none}");
  EXPECT_EQ(source_template{""}.fill("o", "r", "s"), "");
  EXPECT_EQ(source_template{"{owner}"}.fill("{repo}", "r", "s"), "{repo}") << "values are not read";
}

TEST(source_template, knows_what_it_gives) {
  const source_template uut{"git:{owner}/{repo}#{sha}"};
  EXPECT_TRUE(uut.gives("git:o/r#s", "o", "r", "s"));
  for (const char* other : {"git:o/r#t", "git:o/r#s ", "git:o/r#", "git:o/rr#s", ""})
    EXPECT_FALSE(uut.gives(other, "o", "r", "s")) << other;
}

namespace {

std::string fact_of(const error& e, const std::string& name) {
  for (const auto& [key, value] : e.facts)
    if (key == name) return value;
  return "";
}

}  // namespace

TEST(intake_fsm, refuses_a_push_whose_key_belongs_to_another_push) {
  world uut;
  ASSERT_TRUE(uut.answers.at(uut.push("R1", "k")));
  const auto no = uut.answers.at(uut.push("R2", "k", "other", 7)).error();
  EXPECT_EQ(no.code, ec::key_conflict);
  EXPECT_NE(no.message.find("belongs to run R1"), std::string::npos) << no.message;
  EXPECT_NE(no.message.find("owner is other, there it was o"), std::string::npos) << no.message;
  EXPECT_EQ(fact_of(no, "belongs_to"), "R1");
  EXPECT_EQ(fact_of(no, "differs"), "owner, priority");
  EXPECT_EQ(fact_of(no, "run"), "R2") << "under which it is on record";
  const auto& told = std::get<journal::event>(uut.written.back());
  EXPECT_EQ(told.run, "R2");
  EXPECT_EQ(told.what, "push_refused");
  EXPECT_EQ(told.detail["code"], "key_conflict");
  EXPECT_EQ(told.detail["owner"], "other");
  EXPECT_EQ(told.detail["key"], "k");
  EXPECT_EQ(uut.fsm.open_runs(), 1u);
  EXPECT_EQ((*uut.answers.at(uut.push("R3", "k")))["run"], "R1") << "the same push is the same run";
  EXPECT_EQ(uut.intake.unanswered(), 0u);
}

TEST(intake_fsm, refuses_it_also_when_both_are_written_together) {
  world uut;
  for (const auto* run : {"R1", "R2"}) {
    auto push = push_of(run);
    push->key = "k";
    uut.perform(uut.intake.on_push(uut.now, uut.next++, push, run, 1));
  }
  uut.perform(uut.intake.on_round());
  EXPECT_EQ((*uut.answers.at(1))["run"], "R1");
  EXPECT_EQ(uut.answers.at(2).error().code, ec::key_conflict);
  EXPECT_EQ(uut.intake.unanswered(), 0u);
}

TEST(intake_fsm, records_only_so_many_of_the_keys_that_it_refuses) {
  world uut;
  uut.push("R", "k");
  uut.written.clear();
  for (int i = 0; i < 200; ++i)
    ASSERT_EQ(uut.answers.at(uut.push("R" + std::to_string(i), "k", "other")).error().code,
              ec::key_conflict);
  EXPECT_EQ(uut.written.size(), 120u);
  EXPECT_EQ(to_json(uut.fsm.status(uut.now))["pushes_refused"], 200);
}
