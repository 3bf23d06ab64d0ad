// The privileged helper: what its death does, what it keeps to itself, that it does not grow.
#include <signal.h>
#include <sys/wait.h>

#include "tests/support/zone_world.hpp"

using namespace ntrace;
using namespace ntrace::zone;
using namespace std::chrono_literals;
using test::code_of;
using test::ok;

namespace {

class zone_helper : public test::zone_test {};

}  // namespace

NTRACE_ON_EACH_BACKEND(zone_helper);

TEST_P(zone_helper, refuses_a_zone_that_another_process_owns) {
  ok(uut->boot({}));
  const auto refused = test::run_ntrace({"zone", "rollback", uuid, "--data", dir.path(), "--json"});
  EXPECT_EQ(refused.exit_code, 4);
  EXPECT_NE(refused.out.find("zone_busy"), std::string::npos) << refused.out << refused.err;
  std::filesystem::remove(dir / ("zones/" + uuid + "/lock"));
  const auto still = test::run_ntrace({"zone", "rollback", uuid, "--data", dir.path(), "--json"});
  EXPECT_NE(still.out.find("zone_busy"), std::string::npos) << still.out << still.err;
}

TEST_P(zone_helper, stays_flat_over_many_rollbacks) {
  const auto count = [](const std::string& path) {
    std::error_code ignored;
    return static_cast<std::size_t>(std::distance(
        std::filesystem::directory_iterator{path, ignored}, std::filesystem::directory_iterator{}));
  };
  const auto helper_fds = [&] {
    return count("/proc/" + std::to_string(helper->pid().value()) + "/fd");
  };
  // The helper closes its copies of what it passed a moment after it answered.
  const auto settled = [&](std::size_t at_most) {
    return test::eventually(
        5s, [&] { return helper_fds() <= at_most; },
        [&] { return std::to_string(helper_fds()) + " descriptors"; });
  };
  ok(uut->boot({}));
  const auto generations = [&] { return count(dir / ("zones/" + uuid + "/gen")); };
  // The next one's root is there too; as an ordinary user it is made in the boot.
  const std::size_t all = is_root() ? 2 : 1;
  test::eventually(5s, [&] { return generations() == all; });
  const auto fds = count("/proc/self/fd");
  const auto helper_before = helper_fds();
  constexpr std::size_t in_flight = 4;  // of one boot; a leak of one in each would be 100
  for (int i = 0; i < 100; ++i) ok(uut->boot({}));
  EXPECT_EQ(count("/proc/self/fd"), fds);
  EXPECT_TRUE(settled(helper_before + in_flight));
  EXPECT_LE(generations(), all);
}

TEST_P(zone_helper, goes_on_with_another_helper_after_a_kill_of_the_first) {
  auto neighbour = make_zone();
  ok(neighbour->boot({}));
  ok(uut->boot({}));
  const int first = helper->pid().value();
  const auto group = uut->cgroup_path();
  const auto end = ok(uut->exec(
      {{"sh", "-c", "echo; sleep 1000"}, {"PATH=/usr/bin:/bin"}, "/job", 60s}, {},
      [&](std::string_view, std::string_view) { ::kill(first, SIGKILL); }, nullptr, -1));
  EXPECT_TRUE(end.init_died);
  EXPECT_EQ(code_of(uut->boot({})), ec::helper_lost);
  EXPECT_NE(helper->pid(), std::optional{first});
  EXPECT_GT(ok(uut->boot({})).generation, 1u);
  EXPECT_TRUE(run("true").ok());
  EXPECT_TRUE(ok(neighbour->boot({})).ok());
  EXPECT_TRUE(group.empty() || ::access(group.c_str(), F_OK) != 0) << "nothing of it is left";
}

TEST_P(zone_helper, does_not_start_helpers_in_a_hot_loop) {
  const auto kill_it = [&] {
    const auto pid = helper->pid();
    ASSERT_TRUE(pid.has_value());
    ::kill(*pid, SIGKILL);
  };
  for (int i = 0; i < 2; ++i) {
    kill_it();
    EXPECT_EQ(code_of(uut->boot({})), ec::helper_lost);
  }
  EXPECT_FALSE(helper->pid().has_value()) << "the second died within a second";
  EXPECT_EQ(code_of(uut->boot({})), ec::helper_lost);
  test::eventually(5s, [&] { return uut->boot({}).has_value(); });
}

TEST(privileged_helper, ends_every_zone_when_its_caller_is_killed) {
  NTRACE_NEEDS_ZONES();
  const test::scratch dir;
  const auto uuid = test::run_ntrace({"zone", "create", "--data", dir.path()}).out.substr(0, 36);
  subprocess_spec spec;
  spec.argv = {test::program_path(),    "zone", "exec", uuid,    "--data", dir.path(),
               "--zone-allow-degraded", "true", "--",   "sleep", "1000"};
  const int pid = ok(test::spawn_guarded(spec, -1, -1, -1));
  std::vector<int> inits;
  test::eventually(10s, [&] { return !(inits = test::descendants(pid, "ntrace-init")).empty(); });
  ::kill(pid, SIGKILL);
  ::waitpid(pid, nullptr, 0);
  test::eventually(
      10s, [&] { return test::leftovers(dir.path()).empty(); },
      [&] { return test::leftovers(dir.path()); });
}

TEST(privileged_helper, does_not_hold_a_disk_that_the_machine_unmounts) {
  NTRACE_NEEDS_ZONES();
  if (::geteuid() != 0) GTEST_SKIP() << "mounts need root";
  const test::scratch dir, disk;
  const auto uuid = test::run_ntrace({"zone", "create", "--data", dir.path()}).out.substr(0, 36);
  // As systemd mounts a machine's disks: a process with copies of its mounts may follow it.
  subprocess_spec spec;
  spec.argv = {"unshare",
               "-m",
               "--propagation",
               "shared",
               "sh",
               "-c",
               R"(mount -t tmpfs ntrace-test "$0" && exec "$@")",
               disk.path(),
               test::program_path(),
               "zone",
               "exec",
               uuid,
               "--data",
               dir.path(),
               "--",
               "sleep",
               "1000"};
  const int pid = ok(test::spawn_guarded(spec, -1, -1, -1));
  test::eventually(10s, [&] { return !test::descendants(pid, "ntrace-init").empty(); });
  const auto helpers = test::descendants(pid, "ntrace-helper");
  EXPECT_EQ(helpers.size(), 1u);
  const int uut = helpers.empty() ? -1 : helpers[0];
  const auto mounts_of = [](int who) {
    return read_file("/proc/" + std::to_string(who) + "/mounts").value_or("");
  };
  EXPECT_NE(mounts_of(uut).find(disk.path()), std::string::npos);
  subprocess_spec unmount;
  unmount.argv = {"nsenter", "-m", "-t", std::to_string(pid), "umount", disk.path()};
  EXPECT_TRUE(ok(run_subprocess(unmount)).ok());
  EXPECT_EQ(mounts_of(uut).find(disk.path()), std::string::npos);
  for (const int init : test::descendants(pid, "ntrace-init"))
    EXPECT_EQ(mounts_of(init).find(disk.path()), std::string::npos);
  ::kill(pid, SIGKILL);
  ::waitpid(pid, nullptr, 0);
  test::eventually(10s, [&] { return test::leftovers(dir.path()).empty(); });
}
