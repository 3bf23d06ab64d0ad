// The helper is killed between any two of its steps: what is on the disk then is a whole zone or
// none, and nothing else is left.
#include <algorithm>
#include <cstdlib>

#include "tests/support/zone_world.hpp"

using namespace ntrace;
using namespace ntrace::zone;
using namespace std::chrono_literals;
using test::ok;

namespace {

/// A zone's whole life. False once the helper was lost.
class life {
public:
  life(std::shared_ptr<privileged_helper> helper, std::string uuid)
      : helper_{std::move(helper)}, uuid_{std::move(uuid)}, zone_{helper_, uuid_} {}

  bool run() {
    boot_spec keep;
    keep.fresh = false;
    return call("create") && use({}, "true") && use(keep, "echo x > /job/kept") &&
           call("snapshot", "prepared") && use({}, "test -f /job/kept") && call("rollback") &&
           use({}, "test ! -e /job/kept") && call("destroy");
  }
  std::uint64_t last_generation() const { return last_generation_; }

private:
  bool call(const char* op, const char* name = "clean") {
    return went_well(helper_->call({{"op", op}, {"uuid", uuid_}, {"name", name}}));
  }
  bool use(const boot_spec& spec, const std::string& script) {
    const auto receipt = zone_.boot(spec);
    if (!went_well(receipt)) return false;
    last_generation_ = receipt->generation;
    const auto end = zone_.exec(
        {{"sh", "-c", script}, {"PATH=/usr/bin"}, "/", 20s}, {},
        [](std::string_view, std::string_view) {}, nullptr, -1);
    if (!went_well(end)) return false;
    EXPECT_TRUE(end->ok() || end->init_died) << script;
    return went_well(zone_.end());
  }
  template <class T>
  bool went_well(const result<T>& r) {
    EXPECT_TRUE(r || r.error().code == ec::helper_lost || r.error().code == ec::init_died)
        << to_string(r.error());
    return r.has_value();
  }

  std::shared_ptr<privileged_helper> helper_;
  std::string uuid_;
  zone_linux zone_;
  std::uint64_t last_generation_ = 0;
};

/// After a crash: boots from each snapshot, and goes.
void expect_whole(const std::shared_ptr<privileged_helper>& helper, const std::string& uuid,
                  std::uint64_t last_generation) {
  auto facts = helper->call({{"op", "facts"}, {"uuid", uuid}});
  if (!facts) {
    ASSERT_EQ(facts.error().code, ec::no_such_zone) << to_string(facts.error());
    ok(helper->call({{"op", "create"}, {"uuid", uuid}}));
    facts = helper->call({{"op", "facts"}, {"uuid", uuid}});
  }
  auto snapshots = ok(std::move(facts)).value["snapshots"].get<std::vector<std::string>>();
  ASSERT_FALSE(snapshots.empty());
  EXPECT_EQ(snapshots.front(), "clean");
  zone_linux z{helper, uuid};
  for (; !snapshots.empty(); snapshots.pop_back()) {  // A rollback deletes the newer ones.
    ok(helper->call({{"op", "rollback"}, {"uuid", uuid}, {"name", snapshots.back()}}));
    const auto receipt = ok(z.boot({}));
    EXPECT_GT(receipt.generation, std::exchange(last_generation, receipt.generation));
    const auto end = ok(z.exec(
        {{"ls", "/job"}, {"PATH=/usr/bin"}, "/", 20s}, {},
        [](std::string_view, std::string_view) {}, nullptr, -1));
    EXPECT_TRUE(end.ok());
    ok(z.end());
  }
  ok(helper->call({{"op", "destroy"}, {"uuid", uuid}}));
}

}  // namespace

class zone_crash : public ::testing::TestWithParam<const char*> {};

NTRACE_ON_EACH_BACKEND(zone_crash);

TEST_P(zone_crash, leaves_a_whole_zone_or_none_wherever_the_helper_is_killed) {
  NTRACE_NEEDS_ZONES();
  if (GetParam() == std::string_view{"oci"} && ::geteuid() != 0) GTEST_SKIP() << "needs root";
#ifndef NTRACE_CRASH_POINTS
  GTEST_SKIP() << "this build has no crash points";
#endif
  random_source random{random_seed()};
  bool was_lost = true;
  int step = 0;
  while (was_lost && !::testing::Test::HasFailure()) {
    SCOPED_TRACE("NTRACE_CRASH=zone.step:" + std::to_string(++step));
    const test::scratch dir;
    const auto uuid = make_uuid(random);
    ::setenv("NTRACE_CRASH", ("zone.step:" + std::to_string(step)).c_str(), 1);
    auto helper = ok(privileged_helper::start({dir.path(), "", ::geteuid() != 0, GetParam()}));
    ::unsetenv("NTRACE_CRASH");
    std::uint64_t last_generation = 0;
    {
      life uut{helper, uuid};
      was_lost = !uut.run();
      last_generation = uut.last_generation();
    }
    if (was_lost) {
      // An exec that saw init's end comes before the call that sees the helper's.
      test::eventually(5s, [&] {
        const auto facts = helper->call({{"op", "facts"}, {"uuid", uuid}});
        return facts || facts.error().code == ec::no_such_zone;
      });
      expect_whole(helper, uuid, last_generation);
    }
    helper.reset();
    EXPECT_EQ(test::leftovers(dir.path()), "");
  }
  EXPECT_GT(step, 40) << "a life has more steps than that";
}
