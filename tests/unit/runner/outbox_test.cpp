// The outbox, in virtual time, on a disk that the tests answer for.
#include <gtest/gtest.h>

#include <algorithm>

#include "actors/runner/outbox_fsm.hpp"
#include "tests/sim/sim_outbox_disk.hpp"
#include "tests/support/only.hpp"
#include "tests/support/seeded.hpp"

using namespace ntrace;
using ntrace::test::only;
using namespace ntrace::runner;
using namespace std::chrono_literals;
using domain::verdict;

namespace {

const time_point start{};

rpc::finish passed(std::uint64_t token) {
  rpc::finish out;
  out.token = token;
  out.how = verdict::passed;
  return out;
}
const rpc::finish& verdict_in(const say& one) { return std::get<rpc::finish>(one.message); }
const rpc::append& piece_in(const say& one) { return std::get<rpc::append>(one.message); }

/// The machine on a disk: what it wants written is written, or refused while `is_full`.
struct outbox_world {
  explicit outbox_world(outbox_bounds bounds = {}) : uut{bounds} {}

  /// Does what a call asked for; gives what is left for others to do, in order.
  outbox_effects run(outbox_effects todo) {
    outbox_effects out;
    for (auto& one : todo) {
      outbox_effects more;
      if (std::holds_alternative<flush_soon>(one))
        is_flush_due = true;
      else if (const auto* l = std::get_if<load>(&one))
        more = run(uut.on_loaded(l->token, disk.chunks(l->token, l->from, l->to)));
      else if (const auto* k = std::get_if<keep>(&one))
        more = run(keep_now(*k));
      else
        out.push_back(std::move(one));
      for (auto& m : more) out.push_back(std::move(m));
    }
    return out;
  }
  /// The same, and everything is on disk after it.
  outbox_effects settle(outbox_effects todo) {
    auto out = run(std::move(todo));
    while (std::exchange(is_flush_due, false))
      for (auto& m : run(uut.on_flush())) out.push_back(std::move(m));
    return out;
  }
  outbox_effects keep_now(const keep& k) {
    if (is_full) return uut.on_kept(start, fail(ec::journal_full, "no space left"));
    disk.write(k.records);
    return uut.on_kept(start, {});
  }
  /// The process dies; what was not kept is gone.
  outbox_effects crash() {
    uut = outbox_fsm{uut.bounds()};
    is_flush_due = false;
    return settle(uut.on_recovered(disk.attempts()));
  }

  sim::sim_outbox_disk disk;
  outbox_fsm uut;
  bool is_full = false, is_flush_due = false;
};

}  // namespace

TEST(outbox_fsm, says_nothing_that_is_not_on_disk) {
  outbox_world w;
  w.run(w.uut.on_link_up());
  w.run(w.uut.on_begun(7, "r"));
  EXPECT_TRUE(only<say>(w.run(w.uut.on_chunk(7, domain::stream::out, "x"))).empty());
  ASSERT_TRUE(w.is_flush_due);
  EXPECT_EQ(only<say>(w.settle({})).size(), 1u);
}

TEST(outbox_fsm, says_the_verdict_only_when_every_chunk_is_stored) {
  outbox_world w;
  w.settle(w.uut.on_link_up());
  w.settle(w.uut.on_begun(7, "r"));
  const auto said = only<say>(w.settle(w.uut.on_chunk(7, domain::stream::out, "x")));
  ASSERT_EQ(said.size(), 1u);
  EXPECT_TRUE(only<say>(w.settle(w.uut.on_finished(passed(7), false))).empty());
  const auto ended = only<say>(w.settle(w.uut.on_stored(start, said[0].about(), 1)));
  ASSERT_EQ(ended.size(), 1u);
  EXPECT_EQ(verdict_in(ended[0]).last_seq, 1u);
  EXPECT_EQ(only<delivered>(w.settle(w.uut.on_stored(start, ended[0].about(), 0))).size(), 1u);
  EXPECT_EQ(w.uut.size(), 0u);
  EXPECT_TRUE(w.disk.attempts().empty());
}

TEST(outbox_fsm, says_everything_again_over_a_new_link) {
  outbox_world w;
  w.settle(w.uut.on_link_up());
  w.settle(w.uut.on_begun(7, "r"));
  w.settle(w.uut.on_started({7, "z"}, {}));
  w.settle(w.uut.on_chunk(7, domain::stream::out, "x"));
  w.uut.on_link_lost();
  EXPECT_TRUE(only<say>(w.settle(w.uut.on_chunk(7, domain::stream::out, "y"))).empty());
  EXPECT_EQ(only<say>(w.settle(w.uut.on_link_up())).size(), 3u);
}

TEST(outbox_fsm, asks_again_about_a_chunk_whose_write_was_still_under_way) {
  outbox_world w;
  w.settle(w.uut.on_link_up());
  w.settle(w.uut.on_begun(7, "r"));
  const auto said = only<say>(w.settle(w.uut.on_chunk(7, domain::stream::out, "x")));
  // Answered with a lower number: the chunk is known, not stored; its write may fail yet.
  const auto wait = only<say_again>(w.settle(w.uut.on_stored(start, said[0].about(), 0)));
  ASSERT_EQ(wait.size(), 1u);
  EXPECT_TRUE(only<say>(w.settle(w.uut.on_tick(wait[0].at - 1ms))).empty());
  EXPECT_EQ(only<say>(w.settle(w.uut.on_tick(wait[0].at))).size(), 1u);
}

TEST(outbox_fsm, waits_once_however_many_words_were_refused) {
  outbox_world w;
  w.settle(w.uut.on_link_up());
  w.settle(w.uut.on_begun(7, "r"));
  w.settle(w.uut.on_chunk(7, domain::stream::out, "x"));
  w.settle(w.uut.on_chunk(7, domain::stream::out, "y"));
  const error full{ec::journal_full, "full", {}};
  EXPECT_EQ(only<say_again>(w.settle(w.uut.on_refused(start, 7, full))).size(), 1u);
  EXPECT_TRUE(only<say_again>(w.settle(w.uut.on_refused(start, 7, full))).empty());
  EXPECT_EQ(only<say>(w.settle(w.uut.on_tick(start + outbox_fsm::retry_wait))).size(), 2u);
}

TEST(outbox_fsm, drops_what_belongs_to_a_stale_lease) {
  outbox_world w;
  w.settle(w.uut.on_link_up());
  w.settle(w.uut.on_begun(7, "r"));
  w.settle(w.uut.on_chunk(7, domain::stream::out, "x"));
  EXPECT_EQ(
      only<drop_stale>(w.settle(w.uut.on_refused(start, 7, {ec::stale_lease, "", {}}))).size(), 1u);
  EXPECT_EQ(w.uut.size(), 0u);
  EXPECT_EQ(w.uut.bytes(), 0u);
  EXPECT_TRUE(w.disk.attempts().empty());
}

TEST(outbox_fsm, gives_a_verdict_to_what_nobody_works_on_any_more_and_to_nothing_else) {
  outbox_world w;
  w.settle(w.uut.on_link_up());
  w.settle(w.uut.on_begun(1, "a"));
  w.settle(w.uut.on_begun(2, "b"));
  w.settle(w.uut.on_started({1, "z"}, {}));
  w.settle(w.uut.on_finished(passed(2), false));
  const auto todo = w.settle(w.uut.on_attempts_lost("the runner's actor was restarted"));
  const auto said = only<say>(todo);
  ASSERT_EQ(said.size(), 1u);
  EXPECT_EQ(said[0].about().token, 1u);
  EXPECT_EQ(verdict_in(said[0]).how, verdict::infrastructure);
  EXPECT_EQ(verdict_in(said[0]).reason, "the runner's actor was restarted");
  EXPECT_EQ(only<attempt_done>(todo).size(), 2u);  // The new runner is told of both.
  EXPECT_TRUE(only<say>(w.settle(w.uut.on_attempts_lost("again"))).empty());
}

/// After a restart of the outbox: the rest of what another one has numbered must not be numbered
/// anew.
TEST(outbox_fsm, drops_the_words_of_an_attempt_whose_beginning_it_did_not_hear) {
  outbox_world w;
  w.settle(w.uut.on_link_up());
  EXPECT_TRUE(only<say>(w.settle(w.uut.on_chunk(7, domain::stream::out, "the ninth"))).empty());
  EXPECT_TRUE(only<say>(w.settle(w.uut.on_started({7, "z"}, {}))).empty());
  const auto said = only<say>(w.settle(w.uut.on_finished(passed(7), false)));
  ASSERT_EQ(said.size(), 1u);
  EXPECT_EQ(verdict_in(said[0]).how, verdict::infrastructure);
  EXPECT_EQ(verdict_in(said[0]).last_seq, std::nullopt);
}

TEST(outbox_fsm, goes_on_from_the_last_acknowledged_chunk_after_a_crash) {
  outbox_world w;
  w.settle(w.uut.on_link_up());
  w.settle(w.uut.on_begun(7, "r"));
  const auto first = only<say>(w.settle(w.uut.on_chunk(7, domain::stream::out, "a")));
  w.settle(w.uut.on_chunk(7, domain::stream::out, "b"));
  w.settle(w.uut.on_stored(start, first[0].about(), 1));
  w.settle(w.uut.on_finished(passed(7), false));
  const auto done = only<attempt_done>(w.crash());
  ASSERT_EQ(done.size(), 1u);
  EXPECT_EQ(done[0].run, "r");
  EXPECT_EQ(done[0].verdict, verdict::passed);
  const auto said = only<say>(w.settle(w.uut.on_link_up()));
  ASSERT_EQ(said.size(), 1u);
  EXPECT_EQ(piece_in(said[0]).seq, 2u);
  EXPECT_EQ(piece_in(said[0]).data, "b");
  const auto ended = only<say>(w.settle(w.uut.on_stored(start, said[0].about(), 2)));
  ASSERT_EQ(ended.size(), 1u);
  EXPECT_EQ(verdict_in(ended[0]).how, verdict::passed);
  EXPECT_EQ(verdict_in(ended[0]).last_seq, 2u);
}

TEST(outbox_fsm, ends_what_was_being_worked_on_at_a_crash_with_the_chunks_that_it_has) {
  outbox_world w;
  w.settle(w.uut.on_begun(7, "r"));
  w.settle(w.uut.on_chunk(7, domain::stream::out, "kept"));
  w.run(w.uut.on_chunk(7, domain::stream::out, "lost"));
  w.crash();
  const auto said = only<say>(w.settle(w.uut.on_link_up()));
  ASSERT_EQ(said.size(), 1u);
  EXPECT_EQ(piece_in(said[0]).data, "kept");
  const auto ended = only<say>(w.settle(w.uut.on_stored(start, said[0].about(), 1)));
  ASSERT_EQ(ended.size(), 1u);
  EXPECT_EQ(verdict_in(ended[0]).how, verdict::infrastructure);
  EXPECT_EQ(verdict_in(ended[0]).last_seq, 1u);
}

TEST(outbox_fsm, ends_the_attempt_that_does_not_fit_and_keeps_the_others) {
  outbox_world w{{1000, 400}};
  w.settle(w.uut.on_link_up());
  w.settle(w.uut.on_begun(1, "a"));
  w.settle(w.uut.on_begun(2, "b"));
  w.settle(w.uut.on_chunk(1, domain::stream::out, std::string(300, 'x')));
  const auto todo = w.settle(w.uut.on_chunk(1, domain::stream::out, std::string(300, 'y')));
  const auto gone = only<give_up>(todo);
  ASSERT_EQ(gone.size(), 1u);
  EXPECT_EQ(gone[0].token, 1u);
  EXPECT_NE(gone[0].reason.find("full"), std::string::npos);
  EXPECT_EQ(only<say>(w.settle(w.uut.on_chunk(2, domain::stream::out, "z"))).size(), 1u);
  w.settle(w.uut.on_finished(passed(1), false));
  const auto ended = only<say>(w.settle(w.uut.on_stored(start, {1, outbox_word::append, 1}, 1)));
  ASSERT_EQ(ended.size(), 1u);
  EXPECT_EQ(verdict_in(ended[0]).how, verdict::infrastructure);
  EXPECT_EQ(verdict_in(ended[0]).last_seq, 1u);
}

TEST(outbox_fsm, tells_when_there_is_no_room_for_another_attempt_and_when_there_is_again) {
  outbox_world w{{1000, 500}};
  w.settle(w.uut.on_link_up());
  w.settle(w.uut.on_begun(1, "a"));
  w.settle(w.uut.on_begun(2, "b"));
  w.settle(w.uut.on_chunk(1, domain::stream::out, std::string(400, 'x')));
  const auto full =
      only<room_changed>(w.settle(w.uut.on_chunk(2, domain::stream::out, std::string(100, 'x'))));
  ASSERT_EQ(full.size(), 1u);
  EXPECT_FALSE(full[0].has_room);
  const auto again =
      only<room_changed>(w.settle(w.uut.on_stored(start, {1, outbox_word::append, 1}, 1)));
  ASSERT_EQ(again.size(), 1u);
  EXPECT_TRUE(again[0].has_room);
}

TEST(outbox_fsm, ends_an_attempt_whose_words_the_disk_refuses) {
  outbox_world w;
  w.settle(w.uut.on_link_up());
  w.settle(w.uut.on_begun(7, "r"));
  const auto said = only<say>(w.settle(w.uut.on_chunk(7, domain::stream::out, "a")));
  w.is_full = true;
  const auto gone = only<give_up>(w.settle(w.uut.on_chunk(7, domain::stream::out, "b")));
  ASSERT_EQ(gone.size(), 1u);
  w.settle(w.uut.on_finished(passed(7), false));
  const auto ended = only<say>(w.settle(w.uut.on_stored(start, said[0].about(), 1)));
  ASSERT_EQ(ended.size(), 1u);
  EXPECT_EQ(verdict_in(ended[0]).how, verdict::infrastructure);
  EXPECT_EQ(verdict_in(ended[0]).last_seq, 1u);
}

TEST(outbox_fsm, says_a_verdict_that_the_disk_refuses_when_all_else_is_there) {
  outbox_world w;
  w.settle(w.uut.on_link_up());
  w.settle(w.uut.on_begun(7, "r"));
  w.is_full = true;
  const auto ended = only<say>(w.settle(w.uut.on_finished(passed(7), false)));
  ASSERT_EQ(ended.size(), 1u);
  EXPECT_EQ(verdict_in(ended[0]).how, verdict::passed);
  // Its rows are removed once the disk takes writes again.
  w.settle(w.uut.on_stored(start, ended[0].about(), 0));
  EXPECT_EQ(w.disk.attempts().size(), 1u);
  w.is_full = false;
  w.settle(w.uut.on_tick(start + outbox_fsm::retry_wait));
  EXPECT_TRUE(w.disk.attempts().empty());
}

/// Over a link that loses, doubles and breaks, and through crashes, a receiver that keeps only what
/// follows gets everything that was said, once and in order.
TEST(outbox_fsm, delivers_everything_once_in_order_over_faulty_links_and_through_crashes) {
  test::seeded s;
  for (int round = 0; round < 100; ++round) {
    outbox_world w;
    std::vector<std::string> stored;
    std::size_t made = 0;
    std::vector<say> said;
    const auto hear = [&](const outbox_effects& todo) {
      for (auto& one : only<say>(todo)) said.push_back(std::move(one));
    };
    hear(w.settle(w.uut.on_link_up()));
    w.settle(w.uut.on_begun(7, "r"));
    bool is_over = false, has_crashed = false;
    rpc::finish last;
    for (int step = 0; step < 20'000 && !is_over; ++step) {
      switch (s.random.below(8)) {
        case 0:
        case 1:
          if (made < 100 && !has_crashed)
            hear(w.run(w.uut.on_chunk(7, domain::stream::out, std::to_string(made++))));
          else
            hear(w.run(w.uut.on_finished(passed(7), false)));
          break;
        case 2:
        case 3:
          hear(w.settle({}));
          break;
        case 4:
          w.uut.on_link_lost();
          said.clear();
          hear(w.settle(w.uut.on_link_up()));
          break;
        case 5:
          if (s.random.below(40) != 0) break;
          said.clear();
          has_crashed = true;
          w.crash();
          hear(w.settle(w.uut.on_link_up()));
          break;
        default:
          if (said.empty()) break;
          const auto one = said.front();
          said.erase(said.begin());
          if (s.random.below(5) == 0) break;  // lost
          if (const auto* f = std::get_if<rpc::finish>(&one.message)) {
            last = *f;
            is_over = last.last_seq == stored.size();
            ASSERT_TRUE(is_over);
            w.settle(w.uut.on_stored(start, one.about(), 0));
            break;
          }
          for (std::uint64_t n = 0; n <= s.random.below(2); ++n)
            if (piece_in(one).seq == stored.size() + 1) stored.push_back(piece_in(one).data);
          if (s.random.below(3) != 0)
            hear(w.settle(w.uut.on_stored(start, one.about(), stored.size())));
      }
    }
    ASSERT_TRUE(is_over);
    EXPECT_TRUE(has_crashed || last.how == verdict::passed);
    EXPECT_TRUE(last.how != verdict::passed || stored.size() == 100u);
    for (std::size_t i = 0; i < stored.size(); ++i) ASSERT_EQ(stored[i], std::to_string(i));
    EXPECT_EQ(w.uut.bytes(), 0u);
    EXPECT_EQ(w.uut.size(), 0u);
  }
}

TEST(outbox_fsm, p7_says_all_of_two_runs_once_and_in_order_when_the_link_was_down_for_both) {
  outbox_world w;
  for (const std::uint64_t token : {7u, 8u}) {
    w.settle(w.uut.on_begun(token, "r" + std::to_string(token)));
    for (int i = 0; i < 50; ++i)
      w.settle(w.uut.on_chunk(token, domain::stream::out, std::to_string(i)));
    w.settle(w.uut.on_finished(passed(token), false));
  }
  auto said = only<say>(w.settle(w.uut.on_link_up()));
  std::map<std::uint64_t, std::vector<std::string>> stored;
  std::vector<std::uint64_t> finished;
  while (!said.empty()) {
    const auto one = said.front();
    said.erase(said.begin());
    const auto about = one.about();
    if (about.token == 7) {  // Nobody answers about this one: the other must not wait for it.
      if (about.what == outbox_word::append) stored[7].push_back(piece_in(one).data);
      continue;
    }
    if (about.what == outbox_word::finish)
      finished.push_back(about.token);
    else
      stored[8].push_back(piece_in(one).data);
    for (auto& more : only<say>(w.settle(w.uut.on_stored(start, about, about.seq))))
      said.push_back(std::move(more));
  }
  ASSERT_EQ(finished, std::vector<std::uint64_t>{8});
  ASSERT_EQ(stored[8].size(), 50u);
  for (std::size_t i = 0; i < 50; ++i) EXPECT_EQ(stored[8][i], std::to_string(i));
  for (std::size_t i = 0; i < stored[7].size(); ++i) EXPECT_EQ(stored[7][i], std::to_string(i));
}
