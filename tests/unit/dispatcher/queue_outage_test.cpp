// What cannot be reached is waited for, uses up no attempt, and survives a restart.
#include "tests/support/queue_world.hpp"

using namespace ntrace;
using namespace ntrace::test;

namespace {

queue_options patient() {
  auto o = queue_world::options();
  o.outage_patience = 60s;
  return o;
}

struct outage_world : queue_world {
  explicit outage_world(queue_options o = patient()) : queue_world{std::move(o)} {
    hello(1);
    push("A");
  }
  std::uint64_t token() const { return offers.back().at("token").get<std::uint64_t>(); }
  /// Waits until run A is offered, and takes it.
  void take_offer() {
    const auto before = offers.size();
    for (int i = 0; offers.size() == before && i < 1000; ++i) {
      (void)heartbeat(1, {{"free", 1}, {"workers", 1}});
      pass(100ms);
    }
    ASSERT_GT(offers.size(), before);
    ASSERT_TRUE(accept(1, token()));
  }
  void meet_outage(json more = json::object()) {
    json met{{"host", "forge.example"}, {"cause", "no_route"}, {"message", "cannot connect"}};
    met.update(more);
    ASSERT_TRUE(finish(json{{"token", token()},
                            {"verdict", "infrastructure"},
                            {"reason", "unreachable: cannot connect"},
                            {"outage", met},
                            {"last_seq", 0}}));
  }
  void fail_otherwise() { ASSERT_TRUE(finish(token(), "infrastructure")); }
  outage_record_ptr record() const {
    outage_record_ptr out;
    for (const auto& op : written)
      if (const auto* set = std::get_if<journal::set_outages>(&op)) out = set->record;
    return out;
  }
  json last_event() const {
    json out;
    for (const auto& op : written)
      if (const auto* e = std::get_if<journal::event>(&op)) out = e->detail;
    return out;
  }
};

}  // namespace

TEST(outage, uses_up_no_attempt) {
  outage_world w;
  w.offers.clear();
  for (int i = 0; i < 8; ++i) {
    w.hello(1);
    w.take_offer();
    w.meet_outage();
    ASSERT_EQ(w.state_written("A"), "queued") << i;
  }
  EXPECT_EQ(w.record()->total, 8u);
  // The limit of three still holds for all that is no outage.
  for (const char* state : {"queued", "queued", "quarantined"}) {
    w.take_offer();
    w.fail_otherwise();
    EXPECT_EQ(w.state_written("A"), state);
  }
}

TEST(outage, raises_token_and_attempt_number_with_each_try) {
  outage_world w;
  w.take_offer();
  const auto first = w.offers.back();
  w.meet_outage();
  w.take_offer();
  EXPECT_GT(w.offers.back()["token"], first["token"]);
  EXPECT_EQ(w.offers.back()["attempt"], 2);
}

TEST(outage, is_waited_for_longer_each_time_until_something_else_happens) {
  outage_world w;
  milliseconds longest{0};
  for (int i = 0; i < 12; ++i) {
    w.take_offer();
    w.meet_outage();
    EXPECT_LE(w.record()->wait, std::min(8000ms, 1000ms * (1 << std::min(i, 10)))) << i;
    longest = std::max(longest, w.record()->wait);
    if (w.state_written("A") != "queued") break;
  }
  EXPECT_GT(longest, 1000ms);
  outage_world other;
  for (int i = 0; i < 4; ++i) {
    other.take_offer();
    other.meet_outage();
  }
  other.take_offer();
  other.fail_otherwise();
  EXPECT_FALSE(other.record()->is_on());
  EXPECT_EQ(other.record()->total, 4u);
  other.take_offer();
  other.meet_outage();
  EXPECT_EQ(other.record()->tries, 1u);
  EXPECT_EQ(other.record()->waited, 0ms);
}

TEST(outage, waits_as_long_as_the_server_asks_but_no_longer_than_the_longest_wait) {
  outage_world w;
  w.take_offer();
  w.meet_outage({{"cause", "busy"}, {"retry_after_ms", 5000}});
  EXPECT_GE(w.record()->wait, 5000ms);
  EXPECT_LE(w.record()->wait, 8000ms);
  outage_world other;
  other.take_offer();
  other.meet_outage({{"cause", "busy"}, {"retry_after_ms", 50'000'000}});
  EXPECT_GE(other.record()->wait, 4000ms);
  EXPECT_LE(other.record()->wait, 8000ms);
}

TEST(outage, spreads_the_runs_that_a_server_told_to_come_again_at_the_same_time) {
  for (const int after_ms : {5000, 50'000'000}) {
    outage_world w;
    std::set<std::int64_t> waits;
    for (int i = 0; i < 20; ++i) {
      const auto id = "B" + std::to_string(i);
      if (i > 0) w.push(id);
      w.take_offer();
      w.meet_outage({{"cause", "busy"}, {"retry_after_ms", after_ms}});
      waits.insert(w.record()->wait.count());
      ASSERT_EQ(w.record()->tries, 1u) << "each the first try of its run";
    }
    EXPECT_GT(waits.size(), 15u);
    EXPECT_GT(*waits.rbegin() - *waits.begin(), 1000) << "not all within one second";
  }
}

TEST(outage, uses_up_no_patience_while_nobody_tries) {
  outage_world w;
  w.take_offer();
  w.meet_outage();
  w.perform(w.fsm.on_session_gone(w.now, 1));
  w.pass(24h);
  w.call(&queue_fsm::on_drain, w.next, true);
  w.hello(1);
  w.pass(24h);
  w.call(&queue_fsm::on_drain, w.next, false);
  w.take_offer();
  w.pass(3s);
  w.meet_outage();
  ASSERT_EQ(w.state_written("A"), "queued") << "two tries, and hardly any wait";
  EXPECT_GE(w.record()->waited, 3s);
  EXPECT_LT(w.record()->waited, 5s) << "a wait of a second at most, and the try";
}

TEST(outage, is_told_with_host_cause_time_and_next_try) {
  outage_world w;
  w.take_offer();
  w.meet_outage({{"retry_after_ms", 5000}});
  const auto text = w.fsm.waits_for(w.now, "A");
  EXPECT_TRUE(text.starts_with("forge.example: no route since ")) << text;
  const auto wait = std::chrono::ceil<std::chrono::seconds>(w.record()->wait).count();
  EXPECT_TRUE(text.ends_with(", next try in " + std::to_string(wait) + " s")) << text;
  const auto all = to_json(w.fsm.status(w.now))["outages"];
  ASSERT_EQ(all.size(), 1u);
  EXPECT_EQ(all[0]["host"], "forge.example");
  EXPECT_EQ(all[0]["runs"], 1);
  EXPECT_EQ(w.last_event()["outage"]["cause"], "no_route");
}

TEST(outage, ends_the_run_once_the_patience_is_over_and_says_whose_it_was) {
  outage_world w;
  int tries = 0;
  while (w.state_written("A") != "quarantined" && tries < 200) {
    w.take_offer();
    w.meet_outage();
    ++tries;
  }
  EXPECT_GE(w.now.time_since_epoch(), 60s);
  EXPECT_LT(w.now.time_since_epoch(), 64s) << "the last try comes when the patience is over";
  std::string reason;
  for (const auto& op : w.written)
    if (const auto* s = std::get_if<journal::set_run>(&op)) reason = s->reason;
  EXPECT_NE(reason.find("forge.example could not be reached for 6"), std::string::npos) << reason;
  EXPECT_NE(reason.find("(no route), " + std::to_string(tries) + " tries"), std::string::npos)
      << reason;
}

TEST(outage, keeps_no_worker_and_ends_by_a_cancel) {
  outage_world w;
  w.take_offer();
  w.meet_outage();
  EXPECT_EQ(w.fsm.held(), 0u);
  EXPECT_TRUE(w.call(&queue_fsm::on_cancel, w.next, std::string{"A"}));
  EXPECT_EQ(w.state_written("A"), "cancelled");
}

TEST(outage, waits_behind_a_drain) {
  outage_world w;
  w.take_offer();
  w.meet_outage();
  w.call(&queue_fsm::on_drain, w.next, true);
  const auto before = w.offers.size();
  w.hello(1);
  w.pass(30s);
  EXPECT_EQ(w.offers.size(), before);
  w.call(&queue_fsm::on_drain, w.next, false);
  EXPECT_EQ(w.offers.size(), before + 1);
}

TEST(outage, is_forgotten_by_a_requeue) {
  outage_world w;
  w.take_offer();
  w.meet_outage();
  w.call(&queue_fsm::on_cancel, w.next, std::string{"A"});
  run_row row;
  row.id = "A";
  row.state = run_state::cancelled;
  w.call(&queue_fsm::on_requeue, w.next, row);
  EXPECT_EQ(w.record(), nullptr);
}

TEST(outage, of_an_old_runner_counts_as_an_attempt) {
  outage_world w;
  for (int i = 0; i < 3; ++i) {
    w.take_offer();
    w.fail_otherwise();
  }
  EXPECT_EQ(w.state_written("A"), "quarantined");
}

TEST(outage, that_is_malformed_is_an_ordinary_failure) {
  for (const json& wrong :
       {json{}, json(7), json::array(), json{{"host", 7}}, json{{"host", ""}}}) {
    outage_world w;
    w.take_offer();
    (void)w.finish(json{
        {"token", w.token()}, {"verdict", "infrastructure"}, {"outage", wrong}, {"last_seq", 0}});
    EXPECT_EQ(w.record(), nullptr) << wrong;
  }
}

namespace {

/// A dispatcher that starts, finds a run that waited for so long and is to wait so much longer, and
/// whose wall clock says that `gone` has passed meanwhile.
struct restarted : queue_world {
  explicit restarted(milliseconds gone) : queue_world{patient()} {
    run_row row{};
    row.id = "A";
    row.owner = "o";
    row.repo = "r";
    row.sha = sha;
    row.attempts = 4;
    row.token = 4;
    auto met = std::make_shared<outage_record>();
    met->total = met->tries = 4;
    met->last = {"forge.example", outage_cause::no_route, "cannot connect"};
    met->waited = 50s;
    met->wait = 6s;
    met->since_ms = 1'000'000;
    met->at_ms = 1'050'000;
    row.outages = met;
    now += 1h;
    perform(fsm.on_recovered(now, met->at_ms + gone.count(), {row}));
    fsm.on_recovery_end();
    hello(1);
  }
  /// Until the next try.
  milliseconds left() {
    const auto began = now;
    while (offers.empty() && now - began < 1min) pass(100ms);
    return std::chrono::duration_cast<milliseconds>(now - began);
  }
};

}  // namespace

TEST(outage, goes_on_where_it_was_after_a_restart_whatever_the_wall_clock_says) {
  EXPECT_EQ(restarted{2s}.left(), 4s);
  EXPECT_EQ(restarted{48h}.left(), 0s) << "it jumped forth, or the dispatcher was away for long";
  EXPECT_EQ(restarted{-48h}.left(), 6s) << "it jumped back";
  for (const milliseconds gone : {milliseconds{-48h}, milliseconds{48h}}) {
    restarted w{gone};
    w.left();
    const auto token = w.offers.back()["token"].get<std::uint64_t>();
    ASSERT_TRUE(w.accept(1, token));
    const json met{{"host", "forge.example"}, {"cause", "no_route"}, {"message", "no"}};
    (void)w.finish(
        json{{"token", token}, {"verdict", "infrastructure"}, {"outage", met}, {"last_seq", 0}});
    EXPECT_EQ(w.state_written("A"), "queued") << "56 s of 60 have passed at most";
  }
}
