#pragma once
// A real zone in a folder of the test's own, by each of the backends there are.
#include <gtest/gtest.h>

#include "actors/zone/linux/oci_runtime.hpp"
#include "actors/zone/linux/zone_store.hpp"
#include "actors/zone/zone_linux.hpp"
#include "config/ids.hpp"
#include "tests/support/program.hpp"

namespace ntrace::test {

/// Of a test with a parameter, that is the backend. An ordinary user has no zones by a runtime.
class zone_test : public ::testing::TestWithParam<const char*> {
protected:
  void SetUp() override {
    NTRACE_NEEDS_ZONES();
    const std::string backend = GetParam();
    if (backend == "oci" && !is_root()) GTEST_SKIP() << "an OCI runtime needs root";
    if (backend == "oci") ok(zone::oci_runtime::find());
    helper = ok(zone::privileged_helper::start({dir.path(), "", !is_root(), backend}));
    uut = make_zone();
    uuid = uut->uuid();
  }
  std::unique_ptr<zone::zone_linux> make_zone() {
    const auto id = make_uuid(random_);
    ok(helper->call({{"op", "create"}, {"uuid", id}}));
    return std::make_unique<zone::zone_linux>(helper, id);
  }
  void TearDown() override {
    if (!uut) return;
    uut.reset();
    helper.reset();
    EXPECT_EQ(leftovers(dir.path()), "");
  }
  zone::exec_end run(const std::string& script, milliseconds deadline = std::chrono::seconds{20},
                     zone::output_limits limits = {}, const cancellation* stop = nullptr) {
    out.clear();
    return ok(uut->exec(
        {{"sh", "-c", script},
         {"PATH=/usr/local/bin:/usr/bin:/bin", "HOME=/home/job"},
         "/job",
         deadline},
        limits,
        [this](std::string_view stream, std::string_view data) {
          out.append(stream == "stdout" ? "" : "!").append(data);
        },
        stop, -1));
  }
  bool is_root() const { return ::geteuid() == 0; }

  scratch dir;
  std::shared_ptr<zone::privileged_helper> helper;
  std::string uuid, out;
  std::unique_ptr<zone::zone_linux> uut;

private:
  random_source random_{random_seed()};
};

/// The tests of `suite` run over each backend.
#define NTRACE_ON_EACH_BACKEND(suite)                                                 \
  INSTANTIATE_TEST_SUITE_P(zones, suite, ::testing::Values("linux", "oci"),           \
                           [](const ::testing::TestParamInfo<const char*>& backend) { \
                             return std::string{backend.param};                       \
                           })

}  // namespace ntrace::test
