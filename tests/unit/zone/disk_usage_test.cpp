// What a tree takes of the disk, seen from outside.
#include "actors/zone/disk_usage.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <limits>

#include "config/file.hpp"
#include "config/gauges.hpp"
#include "tests/support/scratch.hpp"

using namespace ntrace;
using namespace ntrace::zone;
using namespace std::chrono_literals;
namespace fs = std::filesystem;

namespace {

constexpr std::uint64_t entry = disk_usage::inode_bytes_min;

class disk_usage_of : public ::testing::Test {
protected:
  std::uint64_t bytes(const std::string& cgroup = "") const {
    disk_usage uut{dir.path(), cgroup, dir.path()};
    return uut.step(steady_clock::now() + 1h).value();
  }
  void write(const std::string& name, std::size_t size) const {
    std::ofstream{dir / name} << std::string(size, 'x');
  }
  test::scratch dir;
};

using disk_watch_of = disk_usage_of;

}  // namespace

TEST_F(disk_usage_of, counts_blocks_and_something_for_each_name) {
  EXPECT_EQ(bytes(), 0u);
  write("empty", 0);
  fs::create_directory(dir / "folder");
  EXPECT_EQ(bytes(), 2 * entry);
  write("folder/big", 1u << 20);
  EXPECT_GE(bytes(), 2 * entry + (1u << 20));
  EXPECT_LT(bytes(), 2 * entry + (2u << 20));
}

TEST_F(disk_usage_of, counts_a_hole_as_nothing_and_a_file_of_many_names_once) {
  write("hole", 0);
  fs::resize_file(dir / "hole", 1ull << 40);
  EXPECT_EQ(bytes(), entry);
  write("a", 1u << 20);
  const auto once = bytes();
  for (const auto* name : {"b", "c", "d"}) fs::create_hard_link(dir / "a", dir / name);
  EXPECT_EQ(bytes(), once);
}

TEST_F(disk_usage_of, follows_no_link) {
  const test::scratch elsewhere;
  std::ofstream{elsewhere / "big"} << std::string(1u << 20, 'x');
  fs::create_symlink(elsewhere.path(), dir / "folder");
  fs::create_symlink(elsewhere / "big", dir / "file");
  fs::create_symlink(".", dir / "round");
  EXPECT_EQ(bytes(), 3 * entry);
}

TEST_F(disk_usage_of, takes_a_tree_that_is_too_deep_as_endless) {
  auto path = dir.path();
  for (std::size_t i = 0; i + 2 < disk_usage::tree_depth_max; ++i) path += "/d";
  fs::create_directories(path);
  EXPECT_LT(bytes(), disk_usage::tree_depth_max * entry + 1);
  fs::create_directories(path + "/d/d");
  EXPECT_EQ(bytes(), std::numeric_limits<std::uint64_t>::max());
}

TEST_F(disk_usage_of, counts_files_that_are_deleted_and_open) {
  const test::scratch cgroup;
  std::ofstream{cgroup / "cgroup.procs"} << ::getpid() << "\n";
  write("big", 1u << 20);
  const unique_fd open{::open((dir / "big").c_str(), O_RDONLY | O_CLOEXEC)};
  const unique_fd again{::dup(open.get())};
  const auto before = bytes(cgroup.path());
  fs::remove(dir / "big");
  EXPECT_EQ(bytes(cgroup.path()), before) << "once, however many have it open";
  EXPECT_EQ(bytes(), 0u) << "without a cgroup nobody knows";
}

TEST_F(disk_usage_of, goes_on_where_it_stopped) {
  for (int i = 0; i < 1000; ++i) write("f" + std::to_string(i), 0);
  disk_usage uut{dir.path(), "", dir.path()};
  std::optional<std::uint64_t> got;
  int steps = 0;
  for (; !got && steps < 1000; ++steps) got = uut.step(steady_clock::now());
  EXPECT_EQ(got, 1000 * entry);
  EXPECT_GT(steps, 5) << "its time was over at once";
}

TEST_F(disk_usage_of, is_nothing_for_what_is_gone) {
  disk_usage uut{dir / "gone", dir / "gone", dir / "gone"};
  EXPECT_EQ(uut.step(steady_clock::now()), 0u);
  disk_watch watch{dir / "gone", "", dir / "gone", 1};
  EXPECT_EQ(watch.look(steady_clock::now()), disk_watch::finding::fine);
}

TEST_F(disk_watch_of, measures_at_once_and_then_only_when_it_is_due) {
  disk_watch uut{dir.path(), "", dir.path(), 2 * entry};
  auto& measured = gauges::value("zone_disk_measurements");
  const auto before = measured.load();
  // In the future, so that each measurement has time enough.
  const auto now = steady_clock::now() + 1h;
  EXPECT_EQ(uut.look(now), disk_watch::finding::fine);
  EXPECT_EQ(measured.load(), before + 1);
  for (int i = 0; i < 3; ++i) write("f" + std::to_string(i), 0);
  EXPECT_EQ(uut.look(now + 500ms), disk_watch::finding::fine) << "not yet";
  EXPECT_EQ(measured.load(), before + 1);
  EXPECT_EQ(uut.look(now + 5s), disk_watch::finding::beyond_bound);
}

TEST_F(disk_watch_of, has_no_finding_without_a_bound_above_the_reserve) {
  write("big", 1u << 20);
  disk_watch uut{dir.path(), "", dir.path(), 0};
  EXPECT_EQ(uut.look(steady_clock::now() + 1h), disk_watch::finding::fine);
}

TEST_F(disk_watch_of, tells_at_the_end_whether_it_is_beyond) {
  write("big", 1u << 20);
  EXPECT_TRUE((disk_watch{dir.path(), "", dir.path(), 1u << 19}.is_beyond_bound(1h)));
  EXPECT_FALSE((disk_watch{dir.path(), "", dir.path(), 2u << 20}.is_beyond_bound(1h)));
}
