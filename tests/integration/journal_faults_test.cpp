// The journal's actor on a disk that fails: nobody is told yes, and it goes on by itself when the
// cause is gone.
#include <gtest/gtest.h>
#include <caf/actor_system_config.hpp>
#include <caf/scoped_actor.hpp>

#include "actors/journal/journal_actor.hpp"
#include "actors/journal/journal_sqlite.hpp"
#include "config/gauges.hpp"
#include "supervision/caf_types.hpp"
#include "tests/support/eventually.hpp"
#include "tests/support/faulty_disk.hpp"
#include "tests/support/ok.hpp"
#include "tests/support/scratch.hpp"

using namespace ntrace;
using namespace ntrace::journal;
using namespace std::chrono_literals;
using test::disk_fault;
using test::ok;

namespace {

/// Nobody waits for new runs.
struct no_sink final : run_sink {
  void add(std::vector<domain::run_row>) override {}
  void begin_recovery() override {}
};

struct journal_world {
  test::scratch dir;
  test::faulty_disk disk;
  caf::actor_system_config config;
  caf::actor_system system{config};
  caf::scoped_actor self{system};
  caf::actor uut;

  journal_world() { start(); }
  ~journal_world() { self->send_exit(uut, caf::exit_reason::kill); }
  std::string path() const { return dir / "journal.sqlite"; }
  void start() { uut = ok(spawn_journal(system, path(), {}, std::make_shared<no_sink>())); }
  /// Writes a run whose id and key are `id`; ec::none when it was confirmed.
  error push(const std::string& id) {
    run_row row;
    row.id = id;
    error out{ec::timed_out, "no answer", {}};
    self->request(uut, 30s, write_request{{{insert_run{row, id, {}}}}})
        .receive(
            [&](const written& done) {
              out = done.outcomes.at(0) ? error{} : done.outcomes.at(0).error();
            },
            [&](const caf::error& e) { out = supervision::from_caf(e); });
    return out;
  }
  /// The runs that a new connection finds.
  std::string stored() {
    auto db = ok(journal_sqlite::open(path(), sqlite::role::reader));
    std::string out;
    queue_place place;
    for (const auto& r : ok(db->queued_runs(place, 100))) out += r.id;
    return out;
  }
};

}  // namespace

TEST(journal_faults, a_full_disk_is_named_and_goes_on_by_itself_when_there_is_room) {
  journal_world w;
  EXPECT_EQ(w.push("A").code, ec::none);
  w.disk.fault = disk_fault::full;
  for (int i = 0; i < 3; ++i) {
    const auto refused = w.push("B");
    EXPECT_EQ(refused.code, ec::journal_full);
    EXPECT_NE(refused.message.find("make room"), std::string::npos) << refused.message;
    EXPECT_NE(refused.message.find(w.path()), std::string::npos) << refused.message;
  }
  w.disk.fault = disk_fault::none;
  EXPECT_EQ(w.push("C").code, ec::none);
  EXPECT_EQ(w.stored(), "AC");
}

TEST(journal_faults, a_disk_that_became_read_only_is_named_and_goes_on_by_itself) {
  journal_world w;
  w.disk.fault = disk_fault::read_only;
  const auto refused = w.push("A");
  EXPECT_EQ(refused.code, ec::journal_failed);
  EXPECT_NE(refused.message.find("writable"), std::string::npos) << refused.message;
  w.disk.fault = disk_fault::none;
  EXPECT_EQ(w.push("B").code, ec::none);
  EXPECT_EQ(w.stored(), "B");
}

TEST(journal_faults, a_lock_of_another_program_is_named_and_goes_on_by_itself) {
  journal_world w;
  sqlite3* other = nullptr;
  ASSERT_EQ(sqlite3_open(w.path().c_str(), &other), SQLITE_OK);
  ASSERT_EQ(sqlite3_exec(other, "begin immediate", nullptr, nullptr, nullptr), SQLITE_OK);
  const auto refused = w.push("A");
  EXPECT_EQ(refused.code, ec::journal_failed);
  EXPECT_NE(refused.message.find("another program"), std::string::npos) << refused.message;
  EXPECT_EQ(sqlite3_exec(other, "rollback", nullptr, nullptr, nullptr), SQLITE_OK);
  sqlite3_close(other);
  EXPECT_EQ(w.push("B").code, ec::none);
  EXPECT_EQ(w.stored(), "B");
}

TEST(journal_faults, an_fsync_that_failed_is_not_tried_again_but_the_file_read_anew) {
  journal_world w;
  EXPECT_EQ(w.push("A").code, ec::none);
  w.self->monitor(w.uut);
  w.disk.fault = disk_fault::sync;
  EXPECT_EQ(w.push("B").code, ec::journal_lost);
  const int failed = w.disk.syncs_failed;
  EXPECT_GT(failed, 0);
  w.disk.fault = disk_fault::none;
  // The disk works again, and still nothing is confirmed by this writer: it ends instead, and who
  // supervises it starts another, and the dispatcher with it.
  const auto late = w.push("C").code;
  EXPECT_TRUE(late == ec::journal_lost || late == ec::child_failed) << to_string(late);
  std::string reason;
  w.self->receive([&](const caf::down_msg& d) { reason = supervision::from_caf(d.reason).message; },
                  caf::after(20s) >> [&] { reason = "it lives"; });
  EXPECT_NE(reason.find("read anew"), std::string::npos) << reason;
  w.start();
  EXPECT_EQ(w.push("D").code, ec::none);
  const auto stored = w.stored();
  EXPECT_TRUE(stored == "AD" || stored == "ABD") << stored << ": B may be there, it was not denied";
}

TEST(journal_faults, a_disk_that_lost_what_it_confirmed_is_not_believed_again) {
  journal_world w;
  EXPECT_EQ(w.push("A").code, ec::none);
  {
    auto db = ok(journal_sqlite::open(w.path(), sqlite::role::writer));
    EXPECT_TRUE(db->verify(1));
    const auto lost = db->verify(2);
    ASSERT_FALSE(lost);
    EXPECT_EQ(lost.error().code, ec::journal_corrupt);
  }
}
