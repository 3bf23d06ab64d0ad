// Which failed install steps are an outage.
#include "actors/runner/install_reach.hpp"

#include <gtest/gtest.h>

#include <cerrno>

using namespace ntrace;
using namespace ntrace::runner;

namespace {

const host_port registry{"registry.example", 443};
const error away = to_error({"registry.example", outage_cause::refused, "cannot connect"});

/// How a step ends that needs `registry`, without one that can be asked once more.
error failed_with(const reach_log& reached, ec code = ec::install_failed) {
  step_outcome install;
  install.failed = {code, "npm install failed", {}};
  const std::vector<package_host> hosts{{registry.host, registry.port, "a test"}};
  return look_for_outage(install, reached, hosts, "", nullptr).failed;
}

}  // namespace

TEST(install_reach, takes_a_needed_host_that_was_away_for_an_outage) {
  reach_log reached;
  reached.note(registry, &away);
  const auto met = outage_of(failed_with(reached));
  ASSERT_TRUE(met);
  EXPECT_EQ(met->host, "registry.example");
  EXPECT_EQ(met->cause, outage_cause::refused);
  EXPECT_TRUE(outage_of(failed_with(reached, ec::timed_out)));
  EXPECT_EQ(failed_with(reached, ec::none).code, ec::none) << "the step went well";
}

TEST(install_reach, blames_the_package_when_only_its_own_script_dialled_what_is_away) {
  reach_log reached;
  reached.note(registry, nullptr);
  reached.note({"nothing.registry.example", 443}, &away);
  reached.note({registry.host, 8443}, &away);
  EXPECT_EQ(failed_with(reached).code, ec::install_failed);
}

TEST(install_reach, goes_by_what_was_noted_last) {
  reach_log reached;
  reached.note(registry, &away);
  reached.note(registry, nullptr);
  EXPECT_EQ(failed_with(reached).code, ec::install_failed);
  const auto lost = to_error({"registry.example", outage_cause::connection_lost, "broke"});
  reached.note(registry, &lost);
  ASSERT_TRUE(outage_of(failed_with(reached)));
  EXPECT_EQ(outage_of(failed_with(reached))->cause, outage_cause::connection_lost);
}

TEST(install_reach, takes_a_shortage_of_this_machine_neither_for_an_outage_nor_for_the_packages) {
  reach_log reached;
  const error shortage = io_error("connect to", registry.text(), EMFILE);
  reached.note(registry, &shortage);
  EXPECT_EQ(failed_with(reached).code, ec::io);
}
