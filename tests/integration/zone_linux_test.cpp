// Real zones of the Linux engine: what holds, what is gone afterwards.
#include <future>
#include <thread>

#include "tests/support/zone_world.hpp"

using namespace ntrace;
using namespace ntrace::zone;
using namespace std::chrono_literals;
using test::code_of;
using test::ok;

namespace {

using zone_linux_test = test::zone_test;

}  // namespace

TEST_F(zone_linux_test, boots_proved_clean_and_runs_as_the_jobs_user) {
  const auto receipt = ok(uut->boot({}));
  EXPECT_TRUE(receipt.ok());
  EXPECT_EQ(receipt.generation, 1u);
  EXPECT_EQ(run("id -u; exit 7").exit_code, 7);
  EXPECT_EQ(out, is_root() ? "1000\n" : "0\n");
}

TEST_F(zone_linux_test, leaves_nothing_of_one_generation_to_the_next) {
  ok(uut->boot({}));
  EXPECT_TRUE(run("echo x > /job/mark; echo x > /home/job/mark; echo x > /tmp/mark; echo x > "
                  "/dev/shm/mark; (setsid sleep 1000 &) ; sleep 0.1")
                  .ok());
  ok(uut->boot({}));
  EXPECT_TRUE(
      run("ls /job /tmp /dev/shm; ls /home/job; ps aux 2>/dev/null | grep -c '[s]leep 1000'")
          .init_died == false);
  EXPECT_EQ(out.find("mark"), std::string::npos) << out;
  EXPECT_EQ(out.substr(out.size() - 2), "0\n");
}

TEST_F(zone_linux_test, shows_no_host_secrets_and_lets_nothing_be_written_to_usr) {
  ok(uut->boot({}));
  run("cat /etc/shadow /etc/ssh/sshd_config /root/.npmrc 2>&1; ls -A /root /run /var 2>&1; touch "
      "/usr/x; touch /etc/x; cat /proc/1/environ; cat /proc/kcore");
  EXPECT_EQ(out.find("root:"), std::string::npos) << out;
  EXPECT_NE(out.find("Read-only file system"), std::string::npos) << out;
}

TEST_F(zone_linux_test, drops_all_capabilities_and_new_privileges) {
  ok(uut->boot({}));
  run("grep -E '^(Cap|NoNewPrivs)' /proc/self/status");
  EXPECT_EQ(out.find("NoNewPrivs:\t0"), std::string::npos);
  for (const char* set : {"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"})
    EXPECT_NE(out.find(std::string{set} + ":\t0000000000000000"), std::string::npos) << out;
}

TEST_F(zone_linux_test, has_no_network_but_loopback) {
  ok(uut->boot({}));
  run("cat /proc/net/dev | tail -n +3 | cut -d: -f1; cat /proc/net/route | wc -l");
  EXPECT_EQ(out, "    lo\n1\n");
  EXPECT_FALSE(run("node -e "
                   "\"require('net').connect(80,'1.1.1.1').on('error',e=>{console.log(e.code);"
                   "process.exit(3)})\"")
                   .ok());
  EXPECT_NE(out.find("ENETUNREACH"), std::string::npos) << out;
}

TEST_F(zone_linux_test, passes_no_descriptors_but_the_three) {
  ok(uut->boot({}));
  run("exec ls /proc/self/fd");
  EXPECT_EQ(out, "0\n1\n2\n3\n");  // 3 is ls's own.
}

TEST_F(zone_linux_test, ends_a_program_at_its_deadline_with_its_children) {
  ok(uut->boot({}));
  const auto end =
      run("(setsid sh -c 'trap \"\" TERM; sleep 1000' &); echo started; sleep 1000", 300ms);
  EXPECT_TRUE(end.timed_out);
  EXPECT_EQ(out, "started\n");
  run("cat /proc/[0-9]*/comm");
  EXPECT_EQ(out.find("sleep"), std::string::npos) << out;
}

TEST_F(zone_linux_test, ends_a_program_when_it_is_cancelled) {
  ok(uut->boot({}));
  cancellation stop;
  std::thread canceller{[&] {
    test::eventually(5s, [&] { return out == "up\n"; });
    stop.raise();
  }};
  const auto end = run("echo up; sleep 1000", 30s, {}, &stop);
  canceller.join();
  EXPECT_TRUE(end.cancelled);
}

TEST_F(zone_linux_test, does_not_wait_for_a_daemon_that_holds_the_output_open) {
  ok(uut->boot({}));
  EXPECT_TRUE(run("(setsid sleep 1000 &); echo done").ok());
  EXPECT_EQ(out, "done\n");
}

TEST_F(zone_linux_test, keeps_output_to_its_bound_and_ends_what_floods) {
  ok(uut->boot({}));
  EXPECT_TRUE(run("head -c 100000 /dev/zero | tr '\\0' x", 20s, {1000, 1u << 20}).ok());
  EXPECT_EQ(out.size(), 1000u);
  EXPECT_TRUE(run("yes", 20s, {1000, 1u << 20}).output_limit);
}

TEST_F(zone_linux_test, holds_the_memory_and_process_limits) {
  if (!is_root()) GTEST_SKIP() << "limits need root";
  boot_spec spec;
  spec.limits = {128u << 20, 64, 100};
  ok(uut->boot(spec));
  const auto hog = run("node -e \"const a=[];for(;;)a.push(Buffer.alloc(1<<20,1))\"", 30s);
  EXPECT_FALSE(hog.ok());
  EXPECT_TRUE(hog.oom);
  run("i=0; while [ $i -lt 200 ]; do sleep 5 & i=$((i+1)); done; wait", 10s);
  EXPECT_NE(out.find("fork"), std::string::npos) << out;
  EXPECT_TRUE(run("echo alive").ok());
}

TEST_F(zone_linux_test, tells_that_init_died_instead_of_waiting) {
  ok(uut->boot({}));
  std::thread killer{[&] {
    test::eventually(5s, [&] { return out == "up\n"; });
    ::kill(uut->init_pid(), SIGKILL);
  }};
  const auto end = run("echo up; sleep 1000");
  killer.join();
  EXPECT_TRUE(end.init_died);
  EXPECT_EQ(ok(uut->boot({})).generation, 2u);
  EXPECT_TRUE(run("echo again").ok());
}

TEST_F(zone_linux_test, gives_a_job_no_way_to_signal_or_trace_init) {
  ok(uut->boot({}));
  run("kill -9 1; kill -STOP 1; cat /proc/1/maps; echo x > /proc/1/mem; echo end");
  EXPECT_NE(out.find("end"), std::string::npos);
  EXPECT_TRUE(run("echo alive").ok());
}

TEST_F(zone_linux_test, collects_regular_files_only) {
  ok(uut->boot({}));
  run("echo good > /tmp/perf-1.map; ln -s /etc/passwd /tmp/perf-2.map; mkfifo /tmp/perf-3.map; "
      "mkdir /tmp/perf-4.map; truncate -s 1T /tmp/perf-5.map; echo no > /tmp/other");
  const auto files = ok(uut->collect("/tmp", "perf-"));
  EXPECT_EQ(files.at("perf-1.map"), "good\n");
  EXPECT_EQ(files.count("perf-2.map") + files.count("perf-3.map") + files.count("perf-4.map") +
                files.count("other"),
            0u);
}

TEST_F(zone_linux_test, keeps_what_exec_wrote_until_the_rollback_when_not_fresh) {
  boot_spec keep;
  keep.fresh = false;
  ok(uut->boot(keep));
  run("echo kept > /job/f");
  ok(uut->boot(keep));
  run("cat /job/f");
  EXPECT_EQ(out, "kept\n");
  ok(uut->end());
  ok(helper->call({{"op", "snapshot"}, {"uuid", uuid}, {"name", "with_f"}}));
  ok(uut->boot({}));
  run("cat /job/f");
  EXPECT_EQ(out, "kept\n");
  ok(uut->end());
  EXPECT_EQ(
      ok(helper->call({{"op", "rollback"}, {"uuid", uuid}, {"name", "clean"}})).value["deleted"],
      nlohmann::json::array({"with_f"}));
  ok(uut->boot({}));
  run("cat /job/f 2>&1");
  EXPECT_NE(out, "kept\n");
}

TEST_F(zone_linux_test, refuses_a_zone_that_another_process_owns) {
  ok(uut->boot({}));
  const auto refused = test::run_ntrace({"zone", "rollback", uuid, "--data", dir.path(), "--json"});
  EXPECT_EQ(refused.exit_code, 4);
  EXPECT_NE(refused.out.find("zone_busy"), std::string::npos) << refused.out << refused.err;
}

TEST_F(zone_linux_test, stays_flat_over_many_rollbacks) {
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
  for (int i = 0; i < 100; ++i) ok(uut->boot({}));
  EXPECT_EQ(count("/proc/self/fd"), fds);
  EXPECT_TRUE(settled(helper_before));
  EXPECT_LE(generations(), all);
}

TEST_F(zone_linux_test, has_no_more_disk_than_its_limit_and_leaves_nothing_of_it) {
  if (!is_root()) GTEST_SKIP() << "a limit of the disk needs root";
  boot_spec spec;
  spec.limits.disk_bytes = 8u << 20;
  for (int i = 0; i < 3; ++i) {  // The second and third on a root that was made ahead.
    const auto receipt = ok(uut->boot(spec));
    EXPECT_EQ(receipt.limits.disk_bytes, spec.limits.disk_bytes);
    EXPECT_EQ(std::count(receipt.degraded.begin(), receipt.degraded.end(), "disk"), 0);
    EXPECT_EQ(run("ls /job").exit_code, 0);
    EXPECT_EQ(out, "") << "of an earlier generation";
    const auto full = run("dd if=/dev/zero of=/job/big bs=1M count=100");
    EXPECT_NE(full.exit_code, 0);
    EXPECT_TRUE(full.disk_full);
    EXPECT_FALSE(full.oom);
    EXPECT_NE(out.find("No space left"), std::string::npos) << out;
    EXPECT_FALSE(run("true").disk_full) << "what went well did not need more";
    run("rm /job/big");
    EXPECT_FALSE(run("false").disk_full) << "it is not full any more";
  }
  // Files count, too.
  EXPECT_TRUE(run("for i in $(seq 2000); do : > /job/f$i || exit 1; done").disk_full);
  const auto without = ok(uut->boot({}));
  EXPECT_EQ(std::count(without.degraded.begin(), without.degraded.end(), "disk"), 1);
  EXPECT_EQ(run("dd if=/dev/zero of=/job/big bs=1M count=20").exit_code, 0);
}

TEST_F(zone_linux_test, goes_on_with_another_helper_after_a_kill_of_the_first) {
  auto neighbour = make_zone();
  ok(neighbour->boot({}));
  ok(uut->boot({}));
  const int first = helper->pid().value();
  const auto group = uut->cgroup_path();
  std::thread killer{[&] { ::kill(first, SIGKILL); }};
  EXPECT_TRUE(run("sleep 1000").init_died);
  killer.join();
  EXPECT_EQ(code_of(uut->boot({})), ec::helper_lost);
  EXPECT_NE(helper->pid(), std::optional{first});
  EXPECT_GT(ok(uut->boot({})).generation, 1u);
  EXPECT_TRUE(run("true").ok());
  EXPECT_TRUE(ok(neighbour->boot({})).ok());
  EXPECT_TRUE(group.empty() || ::access(group.c_str(), F_OK) != 0) << "nothing of it is left";
}

TEST_F(zone_linux_test, gives_a_program_all_signals_as_they_are_by_default) {
  ok(uut->boot({}));
  EXPECT_TRUE(run("grep -E '^Sig(Ign|Blk)' /proc/self/status").ok());
  EXPECT_EQ(out, "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
}

TEST_F(zone_linux_test, does_not_start_helpers_in_a_hot_loop) {
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
  const int pid = ok(spawn_subprocess(spec, -1, -1, -1));
  std::vector<int> inits;
  test::eventually(10s, [&] { return !(inits = test::descendants(pid, "ntrace-init")).empty(); });
  ::kill(pid, SIGKILL);
  ::waitpid(pid, nullptr, 0);
  test::eventually(
      10s, [&] { return test::leftovers(dir.path()).empty(); },
      [&] { return test::leftovers(dir.path()); });
}
