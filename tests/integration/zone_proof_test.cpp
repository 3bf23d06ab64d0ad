// The proof of clean: each check is broken behind the engine's back, and says so.
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "actors/zone/linux/clean_proof.hpp"
#include "tests/support/zone_world.hpp"

using namespace ntrace;
using namespace ntrace::zone;
using namespace std::chrono_literals;
using test::ok;

namespace {

class zone_proof : public test::zone_test {
protected:
  void expect_dirty(const std::string& check) {
    const auto refused = uut->boot({});
    ASSERT_FALSE(refused.has_value());
    EXPECT_EQ(refused.error().code, ec::zone_dirty) << refused.error().message;
    EXPECT_NE(refused.error().message.find(check + ": "), std::string::npos)
        << refused.error().message;
  }
  /// A process of the host's until `stop`.
  static int start(std::vector<std::string> argv) {
    subprocess_spec spec;
    spec.argv = std::move(argv);
    return ok(spawn_subprocess(spec, -1, -1, -1));
  }
  static void stop(int pid) {
    ::kill(pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
  }
  zone_ids ids() { return zone_store{dir.path(), uuid}.ids(); }
  std::string layer() { return dir / ("zones/" + uuid + "/snapshots/clean/layer"); }
};

std::string comm(int pid) {
  return read_file("/proc/" + std::to_string(pid) + "/comm").value_or("");
}

constexpr const char* whole_table =
    "1 2 0:1 / / rw,nosuid,nodev - overlay overlay rw\n"
    "2 1 0:2 / /usr ro,nosuid,nodev,relatime - ext4 /dev/x rw\n"
    "3 1 0:3 / /proc rw,nosuid,nodev,noexec - proc proc rw\n"
    "4 1 0:4 / /proc/sys ro,nosuid - proc proc rw\n"
    "5 1 0:5 / /dev rw,nosuid,noexec - tmpfs tmpfs rw\n"
    "6 1 0:6 / /dev/pts rw,nosuid,noexec - devpts devpts rw\n"
    "7 1 0:7 / /dev/shm rw,nosuid,nodev - tmpfs tmpfs rw\n"
    "8 1 0:8 / /tmp rw,nosuid,nodev - tmpfs tmpfs rw\n"
    "9 1 0:9 / /run rw,nosuid,nodev shared:1 - tmpfs tmpfs rw\n";

}  // namespace

TEST_F(zone_proof, has_all_its_checks_in_the_receipt) {
  const auto receipt = ok(uut->boot({}));
  std::string all;
  for (const auto& c : receipt.checks) all += c.id + (c.ok ? " " : "! ");
  EXPECT_EQ(all, "P1 P2 P3 P4 P5 P6 P7 P8 P9 P10 P11 P12 ");
}

TEST_F(zone_proof, P1_sees_a_cgroup_that_is_there_already) {
  if (!is_root()) GTEST_SKIP() << "cgroups need root";
  ok(uut->boot({}));
  const auto path = uut->cgroup_path();
  const auto next = path.substr(0, path.rfind('.')) + ".2";
  ASSERT_EQ(::mkdir(next.c_str(), 0755), 0);
  EXPECT_FALSE(uut->boot({}).has_value());
  // What stands in the way is not taken for the zone's, and a later number is free.
  ::rmdir(next.c_str());
  EXPECT_TRUE(uut->boot({}).has_value());
}

TEST_F(zone_proof, P3_sees_a_process_with_an_id_of_the_zone) {
  if (!is_root()) GTEST_SKIP() << "other ids need root";
  const auto id = std::to_string(ids().root + 5);
  const int pid =
      start({"setpriv", "--reuid", id, "--regid", id, "--clear-groups", "sleep", "1000"});
  test::eventually(5s, [&] { return comm(pid) == "sleep\n"; });
  expect_dirty("P3");
  stop(pid);
  EXPECT_TRUE(uut->boot({}).has_value());
}

TEST_F(zone_proof, P4_sees_who_stays_in_a_namespace_of_the_last_generation) {
  if (!is_root()) GTEST_SKIP() << "entering a namespace needs root";
  ok(uut->boot({}));
  const int pid = start({"nsenter", "-t", std::to_string(uut->init_pid()), "-n", "sleep", "1000"});
  test::eventually(5s, [&] { return comm(pid) == "sleep\n"; });
  expect_dirty("P4");
  stop(pid);
  EXPECT_TRUE(uut->boot({}).has_value());
}

TEST_F(zone_proof, P5_sees_a_mount_in_the_zones_folder) {
  if (!is_root()) GTEST_SKIP() << "mounts need root";
  const auto at = dir / ("zones/" + uuid + "/snapshots");
  subprocess_spec spec;
  spec.argv = {"mount", "--bind", at, at};
  ASSERT_TRUE(ok(run_subprocess(spec)).ok());
  expect_dirty("P5");
  spec.argv = {"umount", at};
  ASSERT_TRUE(ok(run_subprocess(spec)).ok());
  EXPECT_TRUE(uut->boot({}).has_value());
}

TEST_F(zone_proof, P7_sees_one_changed_byte_though_size_and_time_are_as_before) {
  ok(uut->boot({}));
  const auto file = layer() + "/etc/passwd";
  const auto before = ok(read_file(file));
  struct stat facts {};
  ASSERT_EQ(::stat(file.c_str(), &facts), 0);
  const auto write = [&](const std::string& text) {
    const unique_fd fd{::open(file.c_str(), O_WRONLY | O_CLOEXEC)};
    ASSERT_TRUE(write_all(fd.get(), text));
    const timespec times[2] = {facts.st_atim, facts.st_mtim};
    ASSERT_EQ(::futimens(fd.get(), times), 0);
  };
  auto changed = before;
  changed[0] = 'R';
  write(changed);
  expect_dirty("P7");
  // A copy that holds the same has other change times, and is good.
  write(before);
  EXPECT_TRUE(uut->boot({}).has_value());
}

TEST_F(zone_proof, P7_sees_a_file_more_and_a_file_less_in_a_snapshot_that_a_person_made) {
  boot_spec keep;
  keep.fresh = false;
  ok(uut->boot(keep));
  run("echo kept > /job/f; mkdir /job/d; echo g > /job/d/g");
  ok(uut->end());
  ok(helper->call({{"op", "snapshot"}, {"uuid", uuid}, {"name", "prepared"}}));
  ok(uut->boot({}));
  const auto folder = dir / ("zones/" + uuid + "/snapshots/prepared/layer/job/");
  ok(write_file_durably(folder + "more", "x"));
  expect_dirty("P7");
  ::unlink((folder + "more").c_str());
  EXPECT_TRUE(uut->boot({}).has_value());
  ::unlink((folder + "d/g").c_str());
  expect_dirty("P7");
}

TEST(zone_mounts, are_right_only_when_each_is_there_closed_and_none_is_more) {
  EXPECT_EQ(wrong_mount(whole_table), "");
  EXPECT_NE(wrong_mount(std::string{whole_table} + "10 1 0:9 / /mnt rw - ext4 /dev/x rw\n"), "");
  EXPECT_NE(wrong_mount(std::string{whole_table} + "10 1 0:9 / /usr/x rw - ext4 /dev/x rw\n"), "");
  std::istringstream lines{whole_table};
  for (std::string line; std::getline(lines, line);) {
    auto without = std::string{whole_table};
    without.erase(without.find(line), line.size() + 1);
    EXPECT_EQ(wrong_mount(without).empty(), line.find("/proc/sys") != line.npos) << line;
    for (const char* option : {"nosuid", "nodev", "noexec", "ro,"}) {
      auto open = std::string{whole_table};
      const auto begin = open.find(line), at = open.find(option, begin);
      if (at == open.npos || at > begin + line.size()) continue;
      const bool is_needed = line.find("/proc/sys") == line.npos || option[0] == 'r';
      open.replace(at, std::strlen(option), "x,");
      EXPECT_EQ(wrong_mount(open) != "", is_needed) << line << option;
    }
  }
}
