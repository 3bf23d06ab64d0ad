// What every backend of zones does, whatever makes its namespaces: the meaning of zone.hpp.
#include <signal.h>

#include <thread>

#include "tests/support/zone_world.hpp"

using namespace ntrace;
using namespace ntrace::zone;
using namespace std::chrono_literals;
using test::code_of;
using test::ok;

namespace {

class zone_conformance : public test::zone_test {};

}  // namespace

NTRACE_ON_EACH_BACKEND(zone_conformance);

TEST_P(zone_conformance, boots_proved_clean_and_runs_as_the_jobs_user) {
  const auto receipt = ok(uut->boot({}));
  EXPECT_TRUE(receipt.ok());
  EXPECT_EQ(receipt.generation, 1u);
  EXPECT_EQ(run("id -u; exit 7").exit_code, 7);
  EXPECT_EQ(out, is_root() ? "1000\n" : "0\n");
}

TEST_P(zone_conformance, leaves_nothing_of_one_generation_to_the_next) {
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

TEST_P(zone_conformance, shows_no_host_secrets_and_lets_nothing_be_written_to_usr) {
  ok(uut->boot({}));
  run("cat /etc/shadow /etc/ssh/sshd_config /root/.npmrc 2>&1; ls -A /root /run /var 2>&1; touch "
      "/usr/x; touch /etc/x; cat /proc/1/environ; cat /proc/kcore");
  EXPECT_EQ(out.find("root:"), std::string::npos) << out;
  EXPECT_NE(out.find("Read-only file system"), std::string::npos) << out;
}

TEST_P(zone_conformance, drops_all_capabilities_and_new_privileges) {
  ok(uut->boot({}));
  run("grep -E '^(Cap|NoNewPrivs)' /proc/self/status");
  EXPECT_EQ(out.find("NoNewPrivs:\t0"), std::string::npos);
  for (const char* set : {"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"})
    EXPECT_NE(out.find(std::string{set} + ":\t0000000000000000"), std::string::npos) << out;
}

TEST_P(zone_conformance, has_no_network_but_loopback) {
  ok(uut->boot({}));
  run("cat /proc/net/dev | tail -n +3 | cut -d: -f1; cat /proc/net/route | wc -l");
  EXPECT_EQ(out, "    lo\n1\n");
  EXPECT_FALSE(run("node -e "
                   "\"require('net').connect(80,'1.1.1.1').on('error',e=>{console.log(e.code);"
                   "process.exit(3)})\"")
                   .ok());
  EXPECT_NE(out.find("ENETUNREACH"), std::string::npos) << out;
}

TEST_P(zone_conformance, passes_no_descriptors_but_the_three) {
  ok(uut->boot({}));
  run("exec ls /proc/self/fd");
  EXPECT_EQ(out, "0\n1\n2\n3\n");  // 3 is ls's own.
}

TEST_P(zone_conformance, ends_a_program_at_its_deadline_with_its_children) {
  ok(uut->boot({}));
  const auto end =
      run("(setsid sh -c 'trap \"\" TERM; sleep 1000' &); echo started; sleep 1000", 300ms);
  EXPECT_TRUE(end.timed_out);
  EXPECT_EQ(out, "started\n");
  run("cat /proc/[0-9]*/comm");
  EXPECT_EQ(out.find("sleep"), std::string::npos) << out;
}

TEST_P(zone_conformance, ends_a_program_when_it_is_cancelled) {
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

TEST_P(zone_conformance, does_not_wait_for_a_daemon_that_holds_the_output_open) {
  ok(uut->boot({}));
  EXPECT_TRUE(run("(setsid sleep 1000 &); echo done").ok());
  EXPECT_EQ(out, "done\n");
}

TEST_P(zone_conformance, keeps_output_to_its_bound_and_ends_what_floods) {
  ok(uut->boot({}));
  EXPECT_TRUE(run("head -c 100000 /dev/zero | tr '\\0' x", 20s, {1000, 1u << 20}).ok());
  EXPECT_EQ(out.size(), 1000u);
  EXPECT_TRUE(run("yes", 20s, {1000, 1u << 20}).output_limit);
}

TEST_P(zone_conformance, holds_the_memory_and_process_limits) {
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

TEST_P(zone_conformance, tells_that_init_died_instead_of_waiting) {
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

TEST_P(zone_conformance, gives_a_job_no_way_to_signal_or_trace_init) {
  ok(uut->boot({}));
  run("kill -9 1; kill -STOP 1; cat /proc/1/maps; echo x > /proc/1/mem; echo end");
  EXPECT_NE(out.find("end"), std::string::npos);
  EXPECT_TRUE(run("echo alive").ok());
}

TEST_P(zone_conformance, collects_regular_files_only) {
  boot_spec spec;
  spec.limits.disk_bytes = 0;
  ok(uut->boot(spec));
  run("echo good > /tmp/perf-1.map; ln -s /etc/passwd /tmp/perf-2.map; mkfifo /tmp/perf-3.map; "
      "mkdir /tmp/perf-4.map; truncate -s 1T /tmp/perf-5.map; echo no > /tmp/other");
  const auto files = ok(uut->collect("/tmp", "perf-")).files;
  EXPECT_EQ(files.at("perf-1.map"), "good\n");
  EXPECT_EQ(files.count("perf-2.map") + files.count("perf-3.map") + files.count("perf-4.map") +
                files.count("other"),
            0u);
}

TEST_P(zone_conformance, collects_within_its_bounds_whatever_a_job_left) {
  boot_spec spec;
  spec.limits.disk_bytes = 0;
  spec.limits.memory_bytes = 256u << 20;
  ok(uut->boot(spec));
  // Far more bytes than the zone's memory, in files that take none; and far more files than are
  // taken.
  ASSERT_TRUE(run("cd /tmp; for i in 1 2 3 4 5 6; do truncate -s 1T perf-$i.map; done").ok())
      << out;
  const auto huge = ok(uut->collect("/tmp", "perf-"));
  EXPECT_TRUE(huge.is_whole);
  EXPECT_EQ(huge.files.size(), 4u);
  EXPECT_EQ(huge.cut, 4u);
  EXPECT_EQ(huge.left_out, 2u);
  ASSERT_TRUE(run("cd /tmp; rm perf-*; seq -f 'perf-%g.map' 3000 | xargs touch; "
                  "rm -f perf-7.map; ln perf-8.map perf-7.map")
                  .ok())
      << out;
  const auto many = ok(uut->collect("/tmp", "perf-"));
  EXPECT_TRUE(many.is_whole);
  EXPECT_EQ(many.files.size(), 256u);
  EXPECT_EQ(many.left_out, 3000u - 256u);
  EXPECT_TRUE(run("echo alive").ok()) << "nothing was killed, so there was memory enough";
}

TEST_P(zone_conformance, ends_who_writes_more_to_the_disk_than_the_limit) {
  boot_spec spec;
  spec.limits.disk_bytes = 16u << 20;
  const auto receipt = ok(uut->boot(spec));
  EXPECT_EQ(std::count(receipt.degraded.begin(), receipt.degraded.end(), "disk:watched"), 1);
  const std::vector<std::string> beyond{
      "dd if=/dev/zero of=/job/big bs=1M count=40",
      // Deleted, and kept open.
      "exec 5>/job/big; rm /job/big; dd if=/dev/zero bs=1M count=40 >&5",
      "for i in $(seq 6000); do : > /job/f$i; done"};
  for (const auto& script : beyond) {
    if (script.starts_with("exec") && !is_root()) continue;  // No cgroup lists who has it open.
    ok(uut->boot(spec));
    const auto end = run(script + "; sleep 100", 100s);
    EXPECT_TRUE(end.disk_full) << script << "\n" << out;
    EXPECT_FALSE(end.timed_out || end.ok());
    EXPECT_FALSE(end.init_died) << "the zone itself goes on";
  }
  ok(uut->boot(spec));
  const auto failed = run(beyond.front());
  EXPECT_TRUE(failed.disk_full) << "one file cannot be larger; " << out;
  EXPECT_EQ(run("stat -c %s /job/big").exit_code, 0);
  EXPECT_EQ(out, std::to_string(spec.limits.disk_bytes) + "\n");
  ok(uut->boot(spec));
  const auto within =
      run("truncate -s 15M /job/sparse; dd if=/dev/zero of=/job/a bs=1M count=8; "
          "for i in $(seq 20); do ln /job/a /job/a$i; done; ln -s / /job/all; sleep 3");
  EXPECT_TRUE(within.ok()) << out;
}

TEST_P(zone_conformance, has_no_more_disk_than_its_limit_and_leaves_nothing_of_it) {
  if (!is_root()) GTEST_SKIP() << "a disk in memory needs root";
  boot_spec spec;
  spec.limits.disk_in_memory = true;
  spec.limits.disk_bytes = 8u << 20;
  for (int i = 0; i < 3; ++i) {  // The second and third on a root that was made ahead.
    const auto receipt = ok(uut->boot(spec));
    EXPECT_EQ(receipt.limits.disk_bytes, spec.limits.disk_bytes);
    EXPECT_EQ(std::count(receipt.degraded.begin(), receipt.degraded.end(), "disk:watched"), 0);
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
  boot_spec no_limit;
  no_limit.limits.disk_bytes = 0;
  const auto without = ok(uut->boot(no_limit));
  EXPECT_EQ(std::count(without.degraded.begin(), without.degraded.end(), "disk"), 1);
  EXPECT_EQ(run("dd if=/dev/zero of=/job/big bs=1M count=20").exit_code, 0);
}

TEST_P(zone_conformance, gives_a_program_all_signals_as_they_are_by_default) {
  ok(uut->boot({}));
  EXPECT_TRUE(run("grep -E '^Sig(Ign|Blk)' /proc/self/status").ok());
  EXPECT_EQ(out, "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
}

TEST_P(zone_conformance, destroy_leaves_no_zone) {
  ok(uut->boot({}));
  ok(uut->destroy());
  EXPECT_EQ(uut->init_pid(), -1);
  EXPECT_EQ(code_of(uut->boot({})), ec::no_such_zone);
  EXPECT_EQ(code_of(uut->facts()), ec::no_such_zone);
  EXPECT_EQ(code_of(uut->destroy()), ec::no_such_zone);
}

TEST_P(zone_conformance, an_exec_needs_a_zone_that_is_up) {
  EXPECT_EQ(code_of(uut->exec({{"true"}, {}, "/", 20s}, {}, {}, nullptr, -1)), ec::invalid_state);
  ok(uut->end());
}

TEST_P(zone_conformance, says_how_a_program_ended) {
  ok(uut->boot({}));
  EXPECT_EQ(run("exit 0").exit_code, 0);
  EXPECT_EQ(run("exit 255").exit_code, 255);
  EXPECT_EQ(run("kill -9 $$").signal, SIGKILL);
  EXPECT_EQ(run("no-such-program").exit_code, 127);
  const auto none = ok(uut->exec(
      {{"/no/such"}, {}, "/", 20s}, {}, [](std::string_view, std::string_view) {}, nullptr, -1));
  EXPECT_EQ(none.exit_code, 127);
}

TEST_P(zone_conformance, gives_a_listener_once_when_it_is_asked_for) {
  ok(uut->boot({}));
  EXPECT_FALSE(uut->take_listener());
  boot_spec with;
  with.with_network = true;
  for (int i = 0; i < 2; ++i) {
    ok(uut->boot(with));
    const auto listener = uut->take_listener();
    ASSERT_TRUE(listener);
    EXPECT_FALSE(uut->take_listener());
    EXPECT_TRUE(run("node -e \"require('net').connect(3128,'127.0.0.1').on('connect',()=>"
                    "process.exit(0)).on('error',()=>process.exit(3))\"")
                    .ok());
  }
  ok(uut->boot({}));
  EXPECT_FALSE(run("node -e \"require('net').connect(3128,'127.0.0.1').on('connect',()=>"
                   "process.exit(0)).on('error',()=>process.exit(3))\"")
                   .ok());
}

TEST_P(zone_conformance, names_its_backend_in_the_receipt) {
  EXPECT_EQ(ok(uut->boot({})).backend, GetParam());
}
