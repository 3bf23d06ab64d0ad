// What every backend of zones does with a lease (zone.hpp, boot_spec): when it is over, everything
// in the zone is dead, whichever process is stopped.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>

#include <atomic>
#include <thread>

#include "tests/support/zone_world.hpp"

using namespace ntrace;
using namespace ntrace::zone;
using namespace std::chrono_literals;
using test::code_of;
using test::ok;

namespace {

class zone_lease_test : public test::zone_test {
protected:
  std::shared_ptr<zone_lease> boot_with_lease(milliseconds lasts) {
    auto lease = ok(zone_lease::make(boot_clock::now() + lasts));
    boot_spec spec;
    spec.lease = lease;
    ok(uut->boot(spec));
    watchdogs = test::descendants(helper->pid().value(), "ntrace-watchdog");
    EXPECT_EQ(watchdogs.size(), 1u);
    return lease;
  }
  /// Runs until it is ended, with `what` done once it runs.
  exec_end run_and(const std::function<void()>& what) {
    std::thread meanwhile{[&] {
      test::eventually(10s, [&] { return out == "up\n"; });
      what();
    }};
    const auto end = run("(setsid sh -c 'trap \"\" TERM; sleep 1000' &); echo up; sleep 1000");
    meanwhile.join();
    return end;
  }
  void expect_works_again() {
    ok(uut->boot({}));
    EXPECT_TRUE(run("true").ok());
    EXPECT_TRUE(test::descendants(helper->pid().value(), "ntrace-watchdog").empty());
  }
  static void stop(int pid) { ASSERT_EQ(::kill(pid, SIGSTOP), 0); }

  std::vector<int> watchdogs;
};

}  // namespace

NTRACE_ON_EACH_BACKEND(zone_lease_test);

TEST_P(zone_lease_test, ends_everything_and_says_why_when_it_is_over) {
  const auto lease = boot_with_lease(700ms);
  const auto end = run_and([] {});
  EXPECT_TRUE(end.lease_over);
  EXPECT_FALSE(end.ok());
  EXPECT_TRUE(lease->is_over()) << "not before";
  EXPECT_EQ(code_of(uut->exec({{"true"}, {}, "/", 20s}, {}, {}, nullptr, -1)), ec::stale_lease);
  EXPECT_EQ(code_of(uut->collect("/tmp", "x")), ec::stale_lease);
  expect_works_again();
}

TEST_P(zone_lease_test, lives_as_long_as_it_is_renewed) {
  const auto lease = boot_with_lease(1s);
  std::atomic<bool> is_done = false;
  std::thread renewing{[&] {
    while (!is_done && lease->renew(boot_clock::now() + 1s)) ::poll(nullptr, 0, 10);
  }};
  const auto end = run("sleep 2; echo done");
  is_done = true;
  renewing.join();
  EXPECT_TRUE(end.ok());
  EXPECT_EQ(out, "done\n");
  EXPECT_TRUE(run_and([] {}).lease_over) << "nobody renews it any more";
  EXPECT_FALSE(lease->renew(boot_clock::now() + 1h)) << "it is over for good";
  EXPECT_TRUE(lease->is_over());
}

TEST_P(zone_lease_test, of_a_lease_that_is_over_nothing_boots) {
  boot_spec spec;
  spec.lease = ok(zone_lease::make(boot_clock::now()));
  EXPECT_EQ(code_of(uut->boot(spec)), ec::stale_lease);
  EXPECT_EQ(uut->init_pid(), -1);
  expect_works_again();
}

TEST_P(zone_lease_test, is_held_while_init_is_stopped) {
  const auto lease = boot_with_lease(1s);
  EXPECT_TRUE(run_and([&] { stop(uut->init_pid()); }).lease_over);
  expect_works_again();
}

TEST_P(zone_lease_test, is_held_while_the_helper_is_stopped) {
  const auto lease = boot_with_lease(1s);
  EXPECT_TRUE(run_and([&] { stop(*helper->pid()); }).lease_over);
  ::kill(*helper->pid(), SIGCONT);
  expect_works_again();
}

TEST_P(zone_lease_test, is_held_by_init_alone_while_the_helper_and_its_watchdog_are_frozen) {
  const auto lease = boot_with_lease(1s);
  // Not held by the kernel, as where it may not trace.
  EXPECT_TRUE(run_and([&] {
                for (const int pid : watchdogs) stop(pid);
                stop(*helper->pid());
              }).lease_over);
  ::kill(*helper->pid(), SIGCONT);
  expect_works_again();
}

TEST_P(zone_lease_test, is_held_by_the_kernel_while_all_are_stopped) {
  const auto lease = boot_with_lease(1s);
  EXPECT_TRUE(run_and([&] {
                for (const int pid : watchdogs) stop(pid);  // First, or it would let init go on.
                stop(*helper->pid());
                stop(uut->init_pid());
              }).lease_over);
  ::kill(*helper->pid(), SIGCONT);
  expect_works_again();
}

TEST_P(zone_lease_test, is_held_while_the_zone_is_frozen) {
  if (!is_root()) GTEST_SKIP() << "cgroups need root";
  const auto lease = boot_with_lease(1s);
  const auto end = run_and([&] {
    const unique_fd freeze{
        ::open((uut->cgroup_path() + "/cgroup.freeze").c_str(), O_WRONLY | O_CLOEXEC)};
    EXPECT_TRUE(write_all(freeze.get(), "1"));
  });
  EXPECT_TRUE(end.lease_over);
  expect_works_again();
}

TEST_P(zone_lease_test, the_job_can_neither_stop_nor_end_who_holds_it) {
  const auto lease = boot_with_lease(2s);
  run("kill -STOP 1; kill -ALRM 1; kill -9 1; kill -STOP -1; ls /proc/1/fd; echo end");
  EXPECT_TRUE(run_and([] {}).lease_over);
  EXPECT_TRUE(lease->is_over()) << "not before";
  expect_works_again();
}

TEST_P(zone_lease_test, the_zone_dies_with_its_watchdog) {
  const auto lease = boot_with_lease(1h);
  const auto end = run_and([&] { ::kill(watchdogs.at(0), SIGKILL); });
  EXPECT_TRUE(end.init_died);
  EXPECT_FALSE(end.lease_over);
  expect_works_again();
}

TEST(zone_lease, is_a_page_that_others_can_only_read) {
  const auto lease = ok(zone_lease::make(boot_clock::now() + 1h));
  EXPECT_NE(::ftruncate(lease->fd(), 0), 0);
  EXPECT_LT(::pwrite(lease->fd(), "x", 1, 0), 0);
  EXPECT_EQ(::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, lease->fd(), 0), MAP_FAILED);
  const auto* seen = lease_page::map(lease->fd());
  ASSERT_NE(seen, nullptr);
  const auto later = boot_clock::now() + 2h;
  EXPECT_TRUE(lease->renew(later));
  EXPECT_EQ(seen->until(), later);
  EXPECT_TRUE(lease->renew(later - 1h)) << "an answer that another has overtaken";
  EXPECT_EQ(seen->until(), later);
}
