// What chaos sees of zones from outside, held against control groups that the test made.
#include "tests/chaos/zone_census.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>

#include "actors/zone/linux/cgroup.hpp"
#include "tests/support/eventually.hpp"
#include "tests/support/guardian.hpp"
#include "tests/support/ok.hpp"

using namespace ntrace;
using namespace std::chrono_literals;
using test::ok;

namespace {

/// A control group as that of a zone, with processes that look like those of a job.
class group {
public:
  group(const zone::cgroup_layout& layout, const std::string& name)
      : groups_{ok(zone::zone_cgroup::make(layout, name, {64u << 20, 16, 100}))} {}
  ~group() {
    for (const int pid : pids_) {
      ::kill(pid, SIGKILL);
      ::waitpid(pid, nullptr, 0);
    }
    test::eventually(10s, [&] { return groups_.remove(); });
  }
  group(const group&) = delete;
  group& operator=(const group&) = delete;
  int work_on(const std::string& repository) {
    subprocess_spec spec;
    spec.argv = {"sleep", "1000"};
    spec.env = {"PATH=/job/" + repository + "/node_modules/.bin:/usr/bin:/bin"};
    const int pid = ok(test::spawn_guarded(spec, -1, -1, -1));
    pids_.push_back(pid);
    const unique_fd procs{
        ::open((groups_.v2_path() + "/cgroup.procs").c_str(), O_WRONLY | O_CLOEXEC)};
    EXPECT_TRUE(write_all(procs.get(), std::to_string(pid)));
    test::eventually(10s, [&] {
      return read_file("/proc/" + std::to_string(pid) + "/comm").value_or("") == "sleep\n";
    });
    return pid;
  }

private:
  zone::zone_cgroup groups_;
  std::vector<int> pids_;
};

class zone_census_test : public ::testing::Test {
protected:
  void SetUp() override {
    if (::geteuid() != 0 || layout.v2.empty()) GTEST_SKIP() << "control groups need root, and v2";
    parents.emplace(ok(zone::cgroup_parents::hold(layout, false)));
    one.emplace(layout, mark + "one");
    other.emplace(layout, mark + "other");
  }
  const std::string mark = "census" + std::to_string(::getpid()) + "-";
  const zone::cgroup_layout layout =
      zone::parse_cgroup_layout(read_file("/proc/self/mountinfo").value_or(""));
  std::optional<zone::cgroup_parents> parents;
  std::optional<group> one, other;
};

}  // namespace

TEST_F(zone_census_test, finds_a_repository_that_two_zones_work_on) {
  one->work_on(mark + "a");
  one->work_on(mark + "a");
  one->work_on(mark + "b");
  other->work_on(mark + "b");
  other->work_on("another-c");

  chaos::zone_census uut{mark};
  test::eventually(10s, [&] { return uut.looks() > 1; });
  uut.end();
  EXPECT_EQ(uut.seen(), 2u);
  ASSERT_EQ(uut.doubles().size(), 1u);
  EXPECT_EQ(uut.doubles().begin()->first, mark + "b");
}

TEST_F(zone_census_test, counts_the_living_only) {
  const int pid = one->work_on(mark + "a");
  one->work_on(mark + "a");
  const auto path = "/ntrace/" + mark + "one";
  EXPECT_EQ(chaos::living_in(path).size(), 2u);
  EXPECT_TRUE(chaos::living_in("/ntrace/" + mark + "other").empty());

  ::kill(pid, SIGKILL);  // Nobody waits for it.
  test::eventually(10s, [&] { return chaos::living_in(path).size() == 1; });
  ::kill(chaos::living_in(path)[0].pid, SIGSTOP);
  EXPECT_EQ(chaos::living_in(path).size(), 1u) << "what is stopped is alive";
}
