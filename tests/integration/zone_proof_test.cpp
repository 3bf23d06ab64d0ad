// The proof of clean: each check is broken behind the engine's back, and says so.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <filesystem>

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
  /// Up and not proved yet. The answer is to be held: init ends with its control socket.
  helper_answer boot_unproved() {
    auto booted = ok(helper->call({{"op", "boot"}, {"uuid", uuid}}));
    pollfd ready{booted.fds.at(0).get(), POLLIN, 0};
    EXPECT_EQ(::poll(&ready, 1, 30'000), 1) << "init says nothing";
    return booted;
  }
  /// Of a zone that is up: each check that does not hold, and what it saw.
  std::string failed_checks() {
    std::string seen;
    const auto proof = ok(helper->call({{"op", "prove"}, {"uuid", uuid}}));
    for (const auto& c : receipt_from_json(proof.value).checks)
      if (!c.ok) seen += c.id + " " + c.seen + "\n";
    return seen;
  }
  /// A process of the host's until `stop`.
  static int start(std::vector<std::string> argv) {
    subprocess_spec spec;
    spec.argv = std::move(argv);
    return ok(test::spawn_guarded(spec, -1, -1, -1));
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
    "5 1 0:5 / /dev ro,nosuid,noexec - tmpfs tmpfs rw\n"
    "6 1 0:6 / /dev/pts rw,nosuid,noexec - devpts devpts rw\n"
    "7 1 0:7 / /dev/shm rw,nosuid,nodev - tmpfs tmpfs rw\n"
    "8 1 0:8 / /tmp rw,nosuid,nodev - tmpfs tmpfs rw\n"
    "9 1 0:9 / /run rw,nosuid,nodev shared:1 - tmpfs tmpfs rw\n"
    "10 1 0:9 / /sys rw,nosuid,nodev,noexec - tmpfs tmpfs rw\n";

}  // namespace

NTRACE_ON_EACH_BACKEND(zone_proof);

TEST_P(zone_proof, has_all_its_checks_in_the_receipt) {
  const auto receipt = ok(uut->boot({}));
  std::string all;
  for (const auto& c : receipt.checks) all += c.id + (c.ok ? " " : "! ");
  EXPECT_EQ(all, "P1 P2 P3 P4 P5 P6 P7 P8 P9 P10 P11 P12 ");
}

TEST_P(zone_proof, P1_sees_a_cgroup_that_is_there_already) {
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

TEST_P(zone_proof, P3_sees_a_process_with_an_id_of_the_zone) {
  if (!is_root()) GTEST_SKIP() << "other ids need root";
  const auto id = std::to_string(ids().root + 5);
  const int pid =
      start({"setpriv", "--reuid", id, "--regid", id, "--clear-groups", "sleep", "1000"});
  test::eventually(5s, [&] { return comm(pid) == "sleep\n"; });
  expect_dirty("P3");
  stop(pid);
  EXPECT_TRUE(uut->boot({}).has_value());
}

TEST_P(zone_proof, P4_sees_who_stays_in_a_namespace_of_the_last_generation) {
  if (!is_root()) GTEST_SKIP() << "entering a namespace needs root";
  ok(uut->boot({}));
  const int pid = start({"nsenter", "-t", std::to_string(uut->init_pid()), "-n", "sleep", "1000"});
  test::eventually(5s, [&] { return comm(pid) == "sleep\n"; });
  // However many generations later.
  for (int i = 0; i < 3; ++i) expect_dirty("P4");
  stop(pid);
  EXPECT_TRUE(uut->boot({}).has_value());
}

TEST_P(zone_proof, P4_does_not_take_a_new_namespace_for_the_dead_one_whose_number_it_got) {
  const auto live = namespaces_of(::getpid());
  ASSERT_TRUE(live.has_value());
  // This process as the stranger: its numbers are those of the dead, their owner is another.
  std::vector<ended_generation> ended(1);
  ended[0].namespaces = *live;
  ended[0].namespaces[4] += 1;
  zone_ids shared;
  shared.is_shared = true;
  EXPECT_EQ(find_leftovers(shared, *live, ended).stayed, "");
  EXPECT_TRUE(ended.empty()) << "nobody lives there: nothing is kept of it";
  ended.resize(1);
  ended[0].namespaces = {0, 0, 0, 0, (*live)[4], 0};
  EXPECT_NE(find_leftovers(shared, *live, ended).stayed, "");
  EXPECT_EQ(ended.size(), 1u);
}

TEST_P(zone_proof, P5_sees_a_mount_in_the_zones_folder) {
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

TEST_P(zone_proof, P6_sees_a_file_in_the_layer_that_was_made_for_the_next_boot) {
  if (!is_root()) GTEST_SKIP() << "as an ordinary user it is made in the boot";
  ok(uut->boot({}));
  const auto next = dir / ("zones/" + uuid + "/gen/2/upper");
  const auto planted = next + "/etc";
  test::eventually(5s, [&] { return ::mkdir(planted.c_str(), 0755) == 0; });
  expect_dirty("P6");
  const auto receipt = ok(uut->boot({}));
  EXPECT_EQ(receipt.generation, 3u);
}

TEST_P(zone_proof, P9_sees_a_limit_that_was_raised) {
  if (!is_root()) GTEST_SKIP() << "limits need root";
  const auto booted = boot_unproved();
  const auto memory = booted.value.value("memory_path", "");
  const std::string file =
      memory + "/memory." +
      (::access((memory + "/memory.max").c_str(), F_OK) == 0 ? "max" : "limit_in_bytes");
  const auto raise = [&] {
    const unique_fd fd{::open(file.c_str(), O_WRONLY | O_CLOEXEC)};
    return write_all(fd.get(), std::to_string(2ull << 30));
  };
  // With swap it stands below memory.memsw, which is raised first.
  const unique_fd swap{
      ::open((memory + "/memory.memsw.limit_in_bytes").c_str(), O_WRONLY | O_CLOEXEC)};
  if (swap) {
    ASSERT_TRUE(write_all(swap.get(), std::to_string(2ull << 30)));
  }
  ASSERT_TRUE(raise()) << file;
  const auto seen = failed_checks();
  EXPECT_EQ(seen.rfind("P9 " + file, 0), 0u) << seen;
  ok(helper->call({{"op", "end"}, {"uuid", uuid}}));
}

TEST_P(zone_proof, P9_sees_an_init_that_left_its_cgroup) {
  if (!is_root()) GTEST_SKIP() << "cgroups need root";
  const auto booted = boot_unproved();
  for (const char* which : {"memory_path", "cgroup"}) {
    const auto own = booted.value.value(which, "");
    const auto move_to = [&](const std::string& group) {
      const unique_fd procs{::open((group + "/cgroup.procs").c_str(), O_WRONLY | O_CLOEXEC)};
      return write_all(procs.get(), std::to_string(booted.value.value("pid", 0)));
    };
    ASSERT_TRUE(move_to(own + "/../..")) << own;
    const auto seen = failed_checks();
    EXPECT_EQ(seen.rfind("P9 init is in the cgroup", 0), 0u) << seen;
    ASSERT_TRUE(move_to(own));
  }
  EXPECT_EQ(failed_checks(), "");
  ok(helper->call({{"op", "end"}, {"uuid", uuid}}));
}

TEST_P(zone_proof, P12_sees_a_trash_that_cannot_be_emptied) {
  if (!is_root()) GTEST_SKIP() << "mounts need root";
  const auto trash = dir / ("zones/" + uuid + "/trash");
  for (int i = 0; i < 65; ++i) ok(write_file_durably(trash + "/" + std::to_string(i), ""));
  // Where the helper sees it.
  const auto in_helper = [&](std::vector<std::string> command) {
    subprocess_spec spec;
    spec.argv = {"nsenter", "-m", "-t", std::to_string(helper->pid().value())};
    spec.argv.insert(spec.argv.end(), command.begin(), command.end());
    ASSERT_TRUE(ok(run_subprocess(spec)).ok());
  };
  in_helper({"mount", "--bind", trash, trash});
  in_helper({"mount", "-o", "remount,bind,ro", trash});
  const auto booted = boot_unproved();
  const auto seen = failed_checks();
  in_helper({"umount", trash});
  ok(helper->call({{"op", "end"}, {"uuid", uuid}}));
  EXPECT_NE(seen.find("P12 "), std::string::npos) << seen;
  EXPECT_TRUE(uut->boot({}).has_value());
}

TEST_P(zone_proof, is_kept_as_a_receipt_that_says_all_of_it) {
  const auto receipt = ok(uut->boot({}));
  const auto file = dir / ("zones/" + uuid + "/receipts/1.json");
  const auto kept = nlohmann::json::parse(ok(read_file(file)));
  EXPECT_EQ(kept, to_json(receipt));
  EXPECT_EQ(to_json(receipt_from_json(kept)), kept);
  EXPECT_EQ(kept["ok"], true);
  ASSERT_EQ(receipt.layers.size(), 1u);
  EXPECT_EQ(receipt.layers[0], ok(full_seal(layer())));
}

TEST_P(zone_proof, keeps_the_last_256_receipts_though_their_numbers_have_gaps) {
  const zone_store store{dir.path(), uuid};
  clean_receipt receipt;
  for (receipt.generation = 9; receipt.generation < 900; receipt.generation += 3)
    ok(store.keep_receipt(receipt));
  prune_receipts(dir.path());
  const auto folder = dir / ("zones/" + uuid + "/receipts");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator{folder}, {}), 256);
  EXPECT_NE(::access((folder + "/129.json").c_str(), F_OK), 0);
  EXPECT_EQ(::access((folder + "/132.json").c_str(), F_OK), 0);
  EXPECT_EQ(::access((folder + "/897.json").c_str(), F_OK), 0);
}

TEST_P(zone_proof, prunes_receipts_by_itself) {
  const zone_store store{dir.path(), uuid};
  clean_receipt receipt;
  for (receipt.generation = 1000; receipt.generation < 1300; ++receipt.generation)
    ok(store.keep_receipt(receipt));
  ok(uut->boot({}));
  ok(uut->end());
  const auto folder = dir / ("zones/" + uuid + "/receipts");
  test::eventually(
      10s, [&] { return std::distance(std::filesystem::directory_iterator{folder}, {}) == 256; });
}

TEST_P(zone_proof, P7_sees_one_changed_byte_though_size_and_time_are_as_before) {
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

TEST_P(zone_proof, P7_sees_a_file_more_and_a_file_less_in_a_snapshot_that_a_person_made) {
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
  const std::string table{whole_table}, limits = "11 10 0:9 / /sys/fs/cgroup/memory ";
  EXPECT_EQ(wrong_mount(table + limits + "ro,nosuid,nodev,noexec - cgroup cgroup rw,memory\n"), "");
  EXPECT_NE(wrong_mount(table + limits + "rw,nosuid,nodev,noexec - cgroup cgroup rw,memory\n"), "");
  EXPECT_NE(wrong_mount(table + limits + "ro,nosuid,nodev,noexec - ext4 /dev/x rw\n"), "");
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
