// What a program in a zone finds of its limits and of the host's, by each backend.
#include <sched.h>

#include "tests/support/zone_world.hpp"

using namespace ntrace;
using namespace ntrace::zone;
using namespace std::chrono_literals;
using test::ok;

namespace {

class zone_sights : public test::zone_test {
protected:
  static boot_spec limited(std::uint64_t memory_bytes, std::uint64_t cpu_percent) {
    boot_spec out;
    out.limits.memory_bytes = memory_bytes;
    out.limits.cpu_percent = cpu_percent;
    return out;
  }
  static int cpus_of_machine() {
    cpu_set_t all;
    CPU_ZERO(&all);
    return ::sched_getaffinity(0, sizeof all, &all) == 0 ? CPU_COUNT(&all) : 0;
  }
  static bool has(const char* program) {
    return ::access((std::string{"/usr/bin/"} + program).c_str(), X_OK) == 0;
  }
};

}  // namespace

NTRACE_ON_EACH_BACKEND(zone_sights);

TEST_P(zone_sights, a_program_reads_its_memory_limit) {
  if (!is_root()) GTEST_SKIP() << "limits need root";
  ok(uut->boot(limited(512u << 20, 100)));
  run("node -p \"require('v8').getHeapStatistics().heap_size_limit < 512 * 1048576\"");
  EXPECT_EQ(out, "true\n");
  if (has("java")) {
    run("java -XX:+PrintFlagsFinal -version 2>&1 | grep -w MaxHeapSize");
    EXPECT_NE(out.find("= 134217728 "), std::string::npos) << "a quarter of 512 MiB: " << out;
  }
}

TEST_P(zone_sights, live_objects_of_a_third_of_the_memory_fit) {
  if (!is_root()) GTEST_SKIP() << "limits need root";
  ok(uut->boot(limited(1u << 30, 100)));
  // Churned: V8 that takes the machine's memory for its own collects too late.
  const auto end =
      run("node -e 'const all=new Array(1.5e6);let n=0;for(let r=0;r<5;r++)for(let "
          "i=0;i<all.length;i++)"
          "all[i]={a:n++,b:[i,i+1,i+2],c:\"k\"+n,d:{e:i,f:[n]}}'",
          60s);
  EXPECT_TRUE(end.ok()) << out << end.oom;
}

TEST_P(zone_sights, a_program_counts_the_cpus_that_its_share_is_worth) {
  if (!is_root()) GTEST_SKIP() << "limits need root";
  if (cpus_of_machine() < 2) GTEST_SKIP() << "needs two CPUs";
  ok(uut->boot(limited(1u << 30, 100)));
  run("nproc; getconf _NPROCESSORS_ONLN; node -p 'require(\"os\").availableParallelism()'; "
      "python3 -c 'import os; print(os.cpu_count(), len(os.sched_getaffinity(0)))'");
  EXPECT_EQ(out, "1\n1\n1\n1 1\n");
  if (has("java")) {
    run("java -Xlog:os+container=trace -version 2>&1 | grep -m1 active_processor_count:");
    EXPECT_TRUE(out.ends_with(": 1\n")) << out;
  }
  ok(uut->boot(limited(1u << 30, 101)));
  run("nproc");
  EXPECT_EQ(out, "2\n");
}

TEST_P(zone_sights, zones_of_one_cpu_do_not_share_it_while_others_are_free) {
  if (!is_root()) GTEST_SKIP() << "limits need root";
  if (cpus_of_machine() < 2) GTEST_SKIP() << "needs two CPUs";
  const auto cpus = [&](zone_linux& zone) {
    std::string seen;
    ok(zone.exec(
        {{"sed", "-n", "s/^Cpus_allowed_list:\t//p", "/proc/self/status"},
         {"PATH=/usr/bin:/bin"},
         "/job",
         20s},
        {}, [&](std::string_view, std::string_view data) { seen.append(data); }, nullptr, -1));
    return seen;
  };
  ok(uut->boot(limited(1u << 30, 100)));
  const auto second = make_zone();
  ok(second->boot(limited(1u << 30, 100)));
  EXPECT_NE(cpus(*uut), cpus(*second));
}

TEST_P(zone_sights, the_names_of_its_cgroups_are_roots_and_nothing_in_them_can_be_written) {
  if (!is_root()) GTEST_SKIP() << "cgroups need root";
  ok(uut->boot({}));
  run("sed 's/^[0-9]*:[^:]*://' /proc/self/cgroup | sort -u");
  EXPECT_EQ(out, "/\n");
  run("find /sys/fs/cgroup -mindepth 2 -type d; cd /sys/fs/cgroup; for f in memory.max "
      "memory/memory.limit_in_bytes; do test -e $f && echo 1 > $f; done; mkdir x memory/x");
  EXPECT_EQ(out.find("\n/sys"), std::string::npos) << out;
  EXPECT_NE(out.find("Read-only file system"), std::string::npos) << out;
}

TEST_P(zone_sights, localhost_is_both_addresses) {
  ok(uut->boot({}));
  run("node -e 'const net = require(\"net\");"
      "require(\"dns\").lookup(\"localhost\", {all: true}, (e, all) => {"
      "console.log(all.map(a => a.address).sort().join(\" \"));"
      "const server = net.createServer(s => s.end(\"served\")).listen(0, \"::1\", () =>"
      "net.connect(server.address().port, \"localhost\").on(\"data\", d => {"
      "console.log(String(d)); process.exit() })) })'");
  EXPECT_EQ(out, "127.0.0.1 ::1\nserved\n");
}
