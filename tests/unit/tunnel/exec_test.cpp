// Commands on the server: their words, their shell's report, the places for them, and their ends.
#include <gtest/gtest.h>

#include "actors/tunnel/exec_fsm.hpp"
#include "tests/support/ok.hpp"
#include "tests/support/seeded.hpp"

using namespace ntrace;
using namespace ntrace::tunnel;
using namespace std::chrono_literals;
using ntrace::test::code_of;
using ntrace::test::ok;

namespace {

const time_point start{1h};

template <class Effect>
std::vector<Effect> only(const exec_effects& all) {
  std::vector<Effect> out;
  for (const auto& one : all)
    if (const auto* e = std::get_if<Effect>(&one)) out.push_back(*e);
  return out;
}

exec_request command(const std::string& word = "true") {
  exec_request out;
  out.argv = {word};
  return out;
}

std::string nonce_in(const std::string& line) { return line.substr(line.find(": ") + 2, 32); }

/// A machine with a session and one command that runs as process 4711.
struct one_running {
  exec_fsm uut{1};
  std::string nonce;
  explicit one_running(exec_request request = command()) {
    uut.on_session(start);
    nonce = nonce_in(only<run_remote>(uut.on_exec(start, 1, std::move(request))).at(0).line);
    uut.on_error_output(start, 1, "NTRACE_PID 4711\n");
  }
  exec_outcome close(time_point now = start) {
    return only<exec_done>(uut.on_closed(now, 1)).at(0).outcome;
  }
  void tell_end(int status) {
    uut.on_error_output(start, 1, "\nNTRACE_EXIT " + nonce + " " + std::to_string(status) + "\n");
  }
};

}  // namespace

TEST(remote_command, quotes_every_word_as_one) {
  EXPECT_EQ(ok(quote_for_sh({"a b", "it's", "-x", "", "$(rm)\n`"})),
            "'a b' 'it'\\''s' '-x' '' '$(rm)\n`'");
  EXPECT_EQ(code_of(quote_for_sh({})), ec::bad_argument);
  EXPECT_EQ(code_of(quote_for_sh({std::string{"a\0b", 3}})), ec::bad_argument);
}

TEST(remote_stderr, takes_the_report_off_whatever_pieces_it_comes_in) {
  const std::string all = "NTRACE_PID 12\nfirst\nsecond\nNTRACE_EXIT abc 3\n";
  for (std::size_t piece = 1; piece <= all.size(); ++piece) {
    remote_stderr uut{"abc", 1000};
    for (std::size_t at = 0; at < all.size(); at += piece) uut.add(all.substr(at, piece));
    EXPECT_EQ(uut.pid(), 12) << piece;
    EXPECT_EQ(uut.status(), 3) << piece;
    EXPECT_EQ(uut.text(), "first\nsecond") << piece;
  }
}

TEST(remote_stderr, believes_no_report_of_another_nonce_and_none_that_is_cut) {
  for (const auto* end : {"\nNTRACE_EXIT abd 0\n", "\nNTRACE_EXIT abc 0", "\nNTRACE_EXIT abc \n",
                          "\nNTRACE_EXIT abc 0\nmore\n", "NTRACE_EXIT abc 0\n"}) {
    remote_stderr uut{"abc", 1000};
    uut.add(std::string{"NTRACE_PID 12\n"} + "x" + end);
    EXPECT_FALSE(uut.status()) << end;
  }
}

TEST(remote_stderr, keeps_no_more_than_its_bound_and_still_sees_the_end) {
  remote_stderr uut{"abc", 100};
  uut.add("NTRACE_PID 12\n");
  for (int i = 0; i < 1000; ++i) uut.add(std::string(1000, 'e'));
  uut.add("\nNTRACE_EXIT abc 0\n");
  EXPECT_EQ(uut.status(), 0);
  EXPECT_EQ(uut.text(), std::string(100, 'e'));
  EXPECT_TRUE(uut.is_truncated());
}

TEST(exec_fsm, tells_how_a_command_exited_when_shell_and_server_agree) {
  one_running w;
  w.uut.on_output(1, "out");
  w.uut.on_error_output(start, 1, "err");
  w.tell_end(3);
  w.uut.on_exit_status(1, 3);
  const auto end = w.close();
  EXPECT_EQ(end.how, exec_end::exited);
  EXPECT_EQ(end.status, 3);
  EXPECT_EQ(end.out, "out");
  EXPECT_EQ(end.err, "err");
  EXPECT_EQ(w.uut.used(), 0u);
}

TEST(exec_fsm, says_unknown_when_the_end_was_not_told_twice) {
  one_running silent;
  silent.uut.on_exit_status(1, 0);
  EXPECT_EQ(silent.close().how, exec_end::unknown) << "no last line";
  one_running unsaid;
  unsaid.tell_end(0);
  EXPECT_EQ(unsaid.close().how, exec_end::unknown) << "no exit status";
  one_running differing;
  differing.tell_end(1);
  differing.uut.on_exit_status(1, 0);
  EXPECT_EQ(differing.close().how, exec_end::unknown);
}

TEST(exec_fsm, takes_the_signal_before_the_status) {
  one_running w;
  w.tell_end(0);
  w.uut.on_exit_status(1, 0);
  w.uut.on_exit_signal(1, "KILL");
  const auto end = w.close();
  EXPECT_EQ(end.how, exec_end::signalled);
  EXPECT_EQ(end.signal, "KILL");
}

TEST(exec_fsm, keeps_one_place_for_cancelling_and_bounds_what_waits) {
  exec_options options;
  options.sessions_max = 3;
  options.waiting_max = 2;
  exec_fsm uut{1, options};
  uut.on_session(start);
  for (exec_id id = 1; id <= 4; ++id) uut.on_exec(start, id, command());
  EXPECT_EQ(uut.used(), 2u);
  EXPECT_EQ(uut.waiting(), 2u);
  const auto refused = only<exec_done>(uut.on_exec(start, 5, command()));
  ASSERT_EQ(refused.size(), 1u);
  EXPECT_EQ(refused[0].outcome.how, exec_end::refused);
  EXPECT_EQ(only<run_remote>(uut.on_closed(start, 1)).at(0).of, 3u) << "in order";
}

TEST(exec_fsm, learns_the_servers_limit_and_tries_more_after_a_minute) {
  exec_fsm uut{1};
  uut.on_session(start);
  auto patient = command();
  patient.deadline = 1h;
  for (exec_id id = 1; id <= 7; ++id) uut.on_exec(start, id, patient);
  ASSERT_EQ(uut.used(), 7u);
  for (exec_id id = 7; id >= 3; --id)
    EXPECT_TRUE(only<exec_done>(uut.on_refused(start, id, "connect failed")).empty());
  EXPECT_EQ(uut.limit(), 2u);
  EXPECT_EQ(uut.waiting(), 5u);
  EXPECT_TRUE(only<run_remote>(uut.on_closed(start, 1)).empty()) << "one place is for cancelling";
  EXPECT_EQ(only<run_remote>(uut.on_closed(start, 2)).at(0).of, 3u);
  EXPECT_EQ(only<run_remote>(uut.on_tick(start + 1min)).at(0).of, 4u);
  EXPECT_EQ(uut.limit(), 3u);
}

TEST(exec_fsm, tells_a_refusal_when_nothing_else_runs) {
  exec_fsm uut{1};
  uut.on_session(start);
  uut.on_exec(start, 1, command());
  const auto done = only<exec_done>(uut.on_refused(start, 1, "exec is off"));
  ASSERT_EQ(done.size(), 1u);
  EXPECT_EQ(done[0].outcome.how, exec_end::refused);
  EXPECT_EQ(done[0].outcome.why, "exec is off");
}

TEST(exec_fsm, cancels_with_TERM_then_KILL_by_a_second_command) {
  one_running w;
  const auto term = only<run_remote>(w.uut.on_cancel(start, 1));
  ASSERT_EQ(term.size(), 1u);
  EXPECT_EQ(term[0].line, cancel_line(4711, w.nonce, "TERM"));
  w.uut.on_exit_status(term[0].of, 1);
  w.uut.on_closed(start, term[0].of);
  EXPECT_TRUE(only<run_remote>(w.uut.on_tick(start + 4s)).empty());
  const auto kill = only<run_remote>(w.uut.on_tick(start + 5s));
  ASSERT_EQ(kill.size(), 1u);
  EXPECT_EQ(kill[0].line, cancel_line(4711, w.nonce, "KILL"));
  EXPECT_EQ(w.close(start + 5s).how, exec_end::cancelled);
}

TEST(exec_fsm, sends_no_KILL_to_what_ended_by_TERM) {
  one_running w;
  const auto term = only<run_remote>(w.uut.on_cancel(start, 1));
  w.uut.on_exit_status(term[0].of, 1);
  w.uut.on_closed(start, term[0].of);
  EXPECT_EQ(w.close().how, exec_end::cancelled);
  EXPECT_TRUE(only<run_remote>(w.uut.on_tick(start + 5s)).empty());
  EXPECT_EQ(w.uut.leftovers(), 0u);
}

TEST(exec_fsm, remembers_a_cancel_until_there_is_a_session_again) {
  one_running w;
  w.uut.on_cancel(start, 1);
  const auto done = only<exec_done>(w.uut.on_session_lost(start));
  ASSERT_EQ(done.size(), 1u);
  EXPECT_EQ(done[0].outcome.how, exec_end::cancelled);
  const auto again = only<run_remote>(w.uut.on_session(start + 1h));
  ASSERT_EQ(again.size(), 1u);
  EXPECT_EQ(again[0].line, cancel_line(4711, w.nonce, "TERM"));
}

TEST(exec_fsm, repeats_only_an_idempotent_command_when_its_session_is_lost) {
  one_running plain;
  EXPECT_EQ(only<exec_done>(plain.uut.on_session_lost(start)).at(0).outcome.how, exec_end::unknown);
  auto request = command();
  request.is_idempotent = true;
  one_running again{request};
  EXPECT_TRUE(only<exec_done>(again.uut.on_session_lost(start)).empty());
  const auto run = only<run_remote>(again.uut.on_session(start));
  ASSERT_EQ(run.size(), 2u) << "the first is killed, the command runs again";
  EXPECT_EQ(run[0].line, cancel_line(4711, again.nonce, "TERM"));
  EXPECT_NE(nonce_in(run[1].line), again.nonce);
}

TEST(exec_fsm, ends_a_command_at_its_deadline_and_gives_up_what_does_not_end) {
  one_running w;
  EXPECT_EQ(only<run_remote>(w.uut.on_tick(start + 60s)).size(), 1u);
  const auto over = w.uut.on_tick(start + 75s);
  EXPECT_EQ(only<close_remote>(over).size(), 1u);
  EXPECT_EQ(only<exec_done>(over).at(0).outcome.how, exec_end::timed_out);
  exec_fsm down{1};
  down.on_exec(start, 1, command());
  EXPECT_EQ(only<exec_done>(down.on_tick(start + 60s)).at(0).outcome.how, exec_end::timed_out)
      << "it never had a session";
}

TEST(exec_fsm, answers_every_command_once_whatever_happens_in_any_order) {
  test::seeded s;
  for (int round = 0; round < 200; ++round) {
    exec_fsm uut{s.random.next()};
    std::map<exec_id, int> answers;
    auto now = start;
    exec_id next = 1;
    std::vector<exec_id> open;
    const auto note = [&](const exec_effects& effects) {
      ASSERT_LT(effects.size(), 200u);
      for (const auto& d : only<exec_done>(effects)) ++answers[d.of];
      for (const auto& r : only<run_remote>(effects)) open.push_back(r.of);
    };
    for (int step = 0; step < 300; ++step) {
      now += milliseconds{s.random.below(3000)};
      const auto any = open.empty() ? 0 : open[s.random.below(open.size())];
      switch (s.random.below(12)) {
        case 0:
        case 1:
        case 2: {
          auto request = command();
          request.is_idempotent = s.random.below(2) == 0;
          answers[next] = 0;
          note(uut.on_exec(now, next++, request));
          break;
        }
        case 3:
          note(uut.on_cancel(now, any));
          break;
        case 4:
          note(uut.on_session(now));
          break;
        case 5:
          note(uut.on_session_lost(now));
          break;
        case 6:
          note(uut.on_refused(now, any, "no"));
          break;
        case 7:
          note(uut.on_error_output(now, any, "NTRACE_PID " + std::to_string(any) + "\n"));
          break;
        case 8:
          uut.on_exit_status(any, static_cast<int>(s.random.below(3)));
          break;
        case 9:
          note(uut.on_closed(now, any));
          break;
        default:
          note(uut.on_tick(now));
      }
      ASSERT_LE(uut.waiting(), 64u + 8u);
      ASSERT_LE(uut.leftovers(), 64u);
      ASSERT_LE(uut.used(), 9u);
    }
    note(uut.on_session_lost(now));
    note(uut.on_tick(now + 1h));
    note(uut.on_tick(now + 2h));
    for (const auto& [id, n] : answers) ASSERT_EQ(n, 1) << "command " << id;
  }
}
