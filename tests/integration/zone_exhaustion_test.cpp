// What a machine has only so many of: processes, namespaces, cgroups, hierarchies of them. Each is
// an error that says so, never a zone without limits, and the zone goes on once there are more.
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "actors/zone/linux/cgroup.hpp"
#include "tests/support/zone_world.hpp"

using namespace ntrace;
using namespace ntrace::zone;
using namespace std::chrono_literals;
using test::ok;

namespace {

cgroup_layout layout() { return parse_cgroup_layout(read_file("/proc/self/mountinfo").value()); }

void write(const std::string& path, const std::string& text) {
  const unique_fd fd{::open(path.c_str(), O_WRONLY | O_CLOEXEC)};
  ASSERT_TRUE(fd && write_all(fd.get(), text)) << path << ": " << std::strerror(errno);
}

/// A cgroup of the test's own.
struct own_cgroup {
  explicit own_cgroup(const std::string& base)
      : path{base + "/ntrace-test-" + std::to_string(::getpid())} {
    EXPECT_EQ(::mkdir(path.c_str(), 0755), 0) << path;
  }
  ~own_cgroup() { EXPECT_EQ(::rmdir(path.c_str()), 0) << path << ": " << std::strerror(errno); }
  own_cgroup(const own_cgroup&) = delete;
  own_cgroup& operator=(const own_cgroup&) = delete;
  const std::string path;
};

class zone_exhaustion : public test::zone_test {
protected:
  /// Each boot says so, and it is the same helper afterwards.
  void expect_refused(const std::string& words) {
    const auto pid = helper->pid();
    for (int i = 0; i < 3; ++i) {
      const auto refused = uut->boot({});
      ASSERT_FALSE(refused.has_value());
      EXPECT_NE(refused.error().code, ec::zone_unsupported) << "it passes";
      EXPECT_NE(refused.error().message.find(words), std::string::npos) << refused.error().message;
    }
    EXPECT_EQ(helper->pid(), pid);
  }
  void expect_works() {
    ok(uut->boot({}));
    EXPECT_TRUE(run("true").ok()) << out;
    ok(uut->end());
  }
};

using zone_exhaustion_in_user_namespace = zone_exhaustion;

/// Mounts of its own, as long as it lives.
class own_mounts {
public:
  own_mounts() {
    EXPECT_EQ(::unshare(CLONE_NEWNS), 0) << std::strerror(errno);
    EXPECT_EQ(::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr), 0);
  }
  ~own_mounts() { EXPECT_EQ(::setns(before_.get(), CLONE_NEWNS), 0) << std::strerror(errno); }
  own_mounts(const own_mounts&) = delete;
  own_mounts& operator=(const own_mounts&) = delete;

private:
  unique_fd before_{::open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC)};
};

/// In a user namespace with all ids of the machine, so that its limits are the test's own.
void enter_user_namespace() {
  std::array<int, 2> go{};
  ASSERT_EQ(::pipe2(go.data(), O_CLOEXEC), 0);
  const auto parent = "/proc/" + std::to_string(::getpid());
  const int child = ::fork();
  if (child == 0) {
    char word = 0;
    bool is_done = ::read(go[0], &word, 1) == 1;
    for (const auto* file : {"/uid_map", "/gid_map"}) {
      const unique_fd fd{::open((parent + file).c_str(), O_WRONLY | O_CLOEXEC)};
      is_done = is_done && fd && write_all(fd.get(), "0 0 4294967295");
    }
    ::_exit(is_done ? 0 : 1);
  }
  ASSERT_EQ(::unshare(CLONE_NEWUSER | CLONE_NEWNS), 0) << std::strerror(errno);
  ASSERT_EQ(::write(go[1], "x", 1), 1);
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_EQ(status, 0);
}

}  // namespace

NTRACE_ON_EACH_BACKEND(zone_exhaustion);

TEST_P(zone_exhaustion, without_processes_left_is_an_error_until_there_are_some) {
  if (!is_root()) GTEST_SKIP() << "cgroups need root";
  const auto there = layout();
  if (there.v1.count("pids") == 0 && GetParam() == std::string{"linux"})
    GTEST_SKIP() << "with v2's pids a zone's init counts in the zone alone (clone3(2))";
  expect_works();
  const own_cgroup few{there.v1.count("pids") != 0 ? there.v1.at("pids") : there.v2};
  const auto helper_pid = std::to_string(helper->pid().value());
  write(few.path + "/cgroup.procs", helper_pid);
  write(few.path + "/pids.max", "1");
  expect_refused("Resource temporarily unavailable");
  write(few.path + "/pids.max", "max");
  expect_works();
  helper.reset();
  uut.reset();
}

TEST_P(zone_exhaustion, without_cgroups_left_is_an_error_and_no_zone_without_limits) {
  if (!is_root()) GTEST_SKIP() << "cgroups need root";
  const auto there = layout();
  const own_cgroup few{there.v2};
  helper.reset();
  uut.reset();
  // A helper that has only this part of the hierarchy.
  const own_mounts mounts;
  ASSERT_EQ(::mount(few.path.c_str(), there.v2.c_str(), nullptr, MS_BIND, nullptr), 0);
  helper = ok(privileged_helper::start({dir.path(), "", /*allow_degraded=*/true, GetParam()}));
  uut = std::make_unique<zone_linux>(helper, uuid);
  expect_works();
  write(there.v2 + "/cgroup.max.descendants", "1");  // the parent of all zones
  expect_refused("Resource temporarily unavailable");
  write(there.v2 + "/cgroup.max.descendants", "max");
  expect_works();
  uut.reset();
  helper.reset();  // It holds the cgroup.
}

// In a user namespace runc cannot set its rules of devices.
INSTANTIATE_TEST_SUITE_P(zones, zone_exhaustion_in_user_namespace, ::testing::Values("linux"));

TEST_P(zone_exhaustion_in_user_namespace,
       without_namespaces_left_is_an_error_until_there_are_some) {
  if (!is_root()) GTEST_SKIP() << "limits of namespaces need root";
  helper.reset();
  uut.reset();
  enter_user_namespace();
  helper = ok(privileged_helper::start({dir.path(), "", false, GetParam()}));
  uut = std::make_unique<zone_linux>(helper, uuid);
  expect_works();
  const std::string limit = "/proc/sys/user/max_net_namespaces";
  const auto before = read_file(limit).value();
  write(limit, "0");
  expect_refused("No space left on device");
  write(limit, before);
  expect_works();
}

TEST_P(zone_exhaustion, without_the_v2_hierarchy_limits_by_v1_alone) {
  const auto there = layout();
  if (!is_root() || there.v1.size() < 3) GTEST_SKIP() << "needs root, and all controllers in v1";
  helper.reset();
  uut.reset();
  const own_mounts mounts;
  ASSERT_EQ(::umount2(there.v2.c_str(), MNT_DETACH), 0) << std::strerror(errno);
  helper = ok(privileged_helper::start({dir.path(), "", false, GetParam()}));
  uut = std::make_unique<zone_linux>(helper, uuid);
  boot_spec spec;
  spec.limits.pids = 16;
  spec.limits.memory_bytes = 64u << 20;
  const auto receipt = ok(uut->boot(spec));
  EXPECT_EQ(std::count(receipt.degraded.begin(), receipt.degraded.end(), "limits"), 0);
  EXPECT_FALSE(run("for i in $(seq 30); do sleep 100 & done").ok()) << "too many processes";
  EXPECT_TRUE(run("head -c 100000000 /dev/zero | tail").oom);
  expect_works();
}
