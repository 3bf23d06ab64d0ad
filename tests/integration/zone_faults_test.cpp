// What breaks around a zone: the disk, its file system, descriptors, a freeze. Each is an error
// that says so, nothing is half made, and the zone goes on once the cause is gone.
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "actors/zone/linux/cgroup.hpp"
#include "tests/support/zone_world.hpp"

using namespace ntrace;
using namespace ntrace::zone;
using namespace std::chrono_literals;
using test::code_of;
using test::ok;

namespace {

class zone_faults : public test::zone_test {};

/// A process of that name in the cgroup at `path`; 0 when there is none.
int one_in(const std::string& path, const std::string& name) {
  const auto group = path.substr(path.rfind("/ntrace/")) + "\n";
  for (const auto& process : std::filesystem::directory_iterator{"/proc"}) {
    const auto of = [&](const char* file) {
      return read_file(process.path().string() + file).value_or("");
    };
    if (of("/comm") == name + "\n" && of("/cgroup").find(group) != std::string::npos)
      return std::stoi(process.path().filename());
  }
  return 0;
}

/// A data folder on a small file system of its own.
class zone_on_small_disk : public ::testing::Test {
protected:
  void SetUp() override {
    NTRACE_NEEDS_ZONES();
    if (::geteuid() != 0) GTEST_SKIP() << "mounts need root";
    run({"mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", dir.path()});
    is_mounted = true;
    // After the mount: the helper's own mount namespace has it, too.
    helper = ok(privileged_helper::start({dir.path(), "", false}));
    random_source random{random_seed()};
    const auto uuid = make_uuid(random);
    ok(helper->call({{"op", "create"}, {"uuid", uuid}}));
    uut = std::make_unique<zone_linux>(helper, uuid);
    gen = dir / ("zones/" + uuid + "/gen");
  }
  void TearDown() override {
    uut.reset();
    helper.reset();
    if (is_mounted) run({"umount", dir.path()});
    EXPECT_EQ(test::leftovers(dir.path()), "");
  }
  static void run(std::vector<std::string> command) {
    subprocess_spec spec;
    spec.argv = std::move(command);
    ASSERT_TRUE(ok(run_subprocess(spec)).ok()) << spec.argv[0];
  }
  /// Each boot says what is wrong, and the folder of generations does not grow.
  void expect_refused(const std::string& words) {
    for (int i = 0; i < 5; ++i) {
      const auto refused = uut->boot({});
      ASSERT_FALSE(refused.has_value()) << "boot " << i;
      EXPECT_EQ(refused.error().code, ec::io) << to_string(refused.error());
      EXPECT_NE(refused.error().message.find(words), std::string::npos) << refused.error().message;
    }
    EXPECT_LE(std::distance(std::filesystem::directory_iterator{gen}, {}), 2);
  }
  void expect_works() {
    ok(uut->boot({}));
    const auto end = ok(uut->exec(
        {{"true"}, {"PATH=/usr/bin"}, "/", 20s}, {}, [](std::string_view, std::string_view) {},
        nullptr, -1));
    EXPECT_TRUE(end.ok());
  }

  test::scratch dir;
  bool is_mounted = false;
  std::shared_ptr<privileged_helper> helper;
  std::unique_ptr<zone_linux> uut;
  std::string gen;
};

}  // namespace

TEST_F(zone_on_small_disk, says_that_it_is_full_and_goes_on_when_there_is_room) {
  expect_works();
  const auto filler = dir / "filler";
  {
    const unique_fd file{::open(filler.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600)};
    const std::string block(64u << 10, 'x');
    while (write_all(file.get(), block)) {
    }
  }
  expect_refused("No space left");
  ::unlink(filler.c_str());
  expect_works();
}

TEST_F(zone_on_small_disk, ends_what_leaves_the_machine_without_a_reserve) {
  expect_works();
  const auto end = ok(uut->exec(
      {{"sh", "-c", "dd if=/dev/zero of=/job/big bs=64k; sleep 15"}, {"PATH=/usr/bin"}, "/", 20s},
      {}, [](std::string_view, std::string_view) {}, nullptr, -1));
  EXPECT_TRUE(end.no_reserve);
  EXPECT_FALSE(end.ok());
  expect_works();
}

TEST_F(zone_on_small_disk, says_that_it_is_read_only_and_goes_on_when_it_is_not) {
  expect_works();
  const auto remount = [&](const std::string& how) {
    run({"nsenter", "-m", "-t", std::to_string(helper->pid().value()), "mount", "-o",
         "remount,bind," + how, dir.path()});
  };
  remount("ro");
  expect_refused("Read-only file system");
  remount("rw");
  expect_works();
}

NTRACE_ON_EACH_BACKEND(zone_faults);

TEST_P(zone_faults, a_helper_without_descriptors_says_so_and_goes_on_with_them) {
  ok(uut->boot({}));
  const int pid = helper->pid().value();
  rlimit before{};
  ASSERT_EQ(::prlimit(pid, RLIMIT_NOFILE, nullptr, &before), 0);
  const rlimit few{8, before.rlim_max};
  ASSERT_EQ(::prlimit(pid, RLIMIT_NOFILE, &few, nullptr), 0);
  for (int i = 0; i < 5; ++i) EXPECT_FALSE(uut->boot({}).has_value());
  EXPECT_EQ(helper->pid(), std::optional{pid}) << "it is the same, and lives";
  ASSERT_EQ(::prlimit(pid, RLIMIT_NOFILE, &before, nullptr), 0);
  ok(uut->boot({}));
  EXPECT_TRUE(run("true").ok());
}

TEST_P(zone_faults, a_frozen_zone_is_ended_in_time) {
  if (!is_root()) GTEST_SKIP() << "cgroups need root";
  ok(uut->boot({}));
  const auto file = uut->cgroup_path() + "/cgroup.freeze";
  const unique_fd freeze{::open(file.c_str(), O_WRONLY | O_CLOEXEC)};
  ASSERT_TRUE(write_all(freeze.get(), "1")) << file;
  const auto end = run("true", 100ms);
  EXPECT_TRUE(end.timed_out);
  EXPECT_TRUE(end.init_died) << "init could not end it";
  ok(uut->boot({}));
  EXPECT_TRUE(run("true").ok());
}

TEST_P(zone_faults, names_who_survives_a_kill_and_goes_on_once_it_is_gone) {
  const auto there = parse_cgroup_layout(read_file("/proc/self/mountinfo").value());
  const auto at = std::find_if(there.all.begin(), there.all.end(),
                               [](const std::string& base) { return base.ends_with("/freezer"); });
  if (!is_root() || at == there.all.end()) GTEST_SKIP() << "the freezer of cgroup v1 needs root";
  ok(uut->boot({}));
  // Unlike that of v2, it holds its members even against SIGKILL, as a disk that hangs does.
  const auto ice = *at + "/ntrace-test-" + std::to_string(::getpid());
  ASSERT_EQ(::mkdir(ice.c_str(), 0755), 0);
  const auto write = [&](const std::string& file, const std::string& text) {
    const unique_fd fd{::open((ice + file).c_str(), O_WRONLY | O_CLOEXEC)};
    ASSERT_TRUE(fd && write_all(fd.get(), text)) << ice + file;
  };
  std::string stuck;
  const auto end = ok(uut->exec(
      {{"sh", "-c", "sleep 1000 & until grep -q sleep /proc/$!/comm; do :; done; echo up; wait"},
       {"PATH=/usr/bin"},
       "/",
       2s},
      {},
      [&](std::string_view, std::string_view) {
        stuck = std::to_string(one_in(uut->cgroup_path(), "sleep"));
        write("/cgroup.procs", stuck);
        write("/freezer.state", "FROZEN");
      },
      nullptr, -1));
  EXPECT_TRUE(end.timed_out);
  const auto refused = uut->boot({});
  ASSERT_FALSE(refused.has_value()) << "its ids are still in use";
  EXPECT_EQ(refused.error().code, ec::zone_failed);
  EXPECT_NE(refused.error().message.find(stuck + " (sleep) in "), std::string::npos)
      << refused.error().message;
  write("/freezer.state", "THAWED");
  ok(uut->boot({}));
  EXPECT_TRUE(run("true").ok());
  EXPECT_EQ(::rmdir(ice.c_str()), 0);
}

TEST_P(zone_faults, a_mount_that_somebody_holds_delays_no_boot_and_is_gone_with_its_holder) {
  if (!is_root()) GTEST_SKIP() << "the root of another's process needs root";
  ok(uut->boot({}));
  EXPECT_TRUE(run("echo mine > /job/mine").ok());
  // What a shell of root or a backup in there would do: its root cannot be unmounted.
  const auto root = "/proc/" + std::to_string(uut->init_pid()) + "/root/job";
  unique_fd held{::open(root.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  ASSERT_TRUE(held) << root;
  for (int i = 0; i < 3; ++i) {
    ok(uut->boot({}));
    EXPECT_TRUE(run("test ! -e /job/mine").ok()) << "another generation's";
  }
  EXPECT_EQ(::faccessat(held.get(), "mine", F_OK, 0), 0) << "it is still mounted there";
  held.reset();
  ok(uut->end());
  test::eventually(30s, [&] {
    ok(helper->call({{"op", "facts"}, {"uuid", uuid}}));
    return zone_store{dir.path(), uuid}.trash_entries() == 0;
  });
}

TEST_P(zone_faults, an_init_that_is_stopped_is_ended_in_time) {
  if (!is_root()) GTEST_SKIP() << "signals to it need root";
  ok(uut->boot({}));
  ASSERT_EQ(::kill(uut->init_pid(), SIGSTOP), 0);
  EXPECT_TRUE(run("true", 100ms).timed_out);
  ok(uut->boot({}));
  EXPECT_TRUE(run("true").ok());
}

TEST_P(zone_faults, a_cgroup_in_the_way_is_an_error_and_never_a_zone_without_limits) {
  if (!is_root()) GTEST_SKIP() << "cgroups need root";
  const auto receipt = ok(uut->boot({}));
  const auto own = uut->cgroup_path();
  const auto base = own.substr(0, own.rfind('.') + 1);
  ok(uut->end());
  std::vector<std::string> in_the_way;
  for (auto n = receipt.generation + 1; n < receipt.generation + 4; ++n) {
    in_the_way.push_back(base + std::to_string(n));
    ASSERT_EQ(::mkdir(in_the_way.back().c_str(), 0755), 0);
  }
  for (int i = 0; i < 3; ++i) EXPECT_EQ(code_of(uut->boot({})), ec::io);
  ok(uut->boot({}));
  for (const auto& path : in_the_way) EXPECT_EQ(::rmdir(path.c_str()), 0);
}

TEST(data_folder, on_an_overlay_is_refused_with_what_to_do) {
  NTRACE_NEEDS_ZONES();
  if (::geteuid() != 0) GTEST_SKIP() << "mounts need root";
  const test::scratch dir;
  subprocess_spec spec;
  spec.argv = {"unshare",
               "-m",
               "sh",
               "-ec",
               "cd $1; mkdir l u w m\n"
               "mount -t overlay -o lowerdir=l,upperdir=u,workdir=w none m\n"
               "uuid=$($0 zone create --data $1/m)\n"
               "$0 zone exec --data $1/m $uuid -- true",
               test::program_path(),
               dir.path()};
  const auto done = ok(run_subprocess(spec));
  EXPECT_FALSE(done.ok());
  EXPECT_NE(done.err.find("not on another overlay"), std::string::npos) << done.err;
}
