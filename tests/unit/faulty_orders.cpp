// Builds each order that loses pushes (docs/protocol.md, P1 to P11) into the machines, and shows
// that its test fails then and passes without.
// usage: faulty_orders; ends with 1 when a test passed with its fault, or failed without.
#include <gtest/gtest.h>

#include <iostream>

#include "config/mutation.hpp"

using namespace ntrace;

namespace {

struct faulty_order {
  mutation what;
  const char* test;
};
constexpr faulty_order orders[] = {
    {mutation::handed_is_given_for_good, "consumer.p1_*"},
    {mutation::unbegun_job_is_nobodys, "consumer.p2_*"},
    {mutation::dead_requests_are_kept, "consumer.p3_*"},
    {mutation::pending_counter_leaks, "lost_pushes.p4_*"},
    {mutation::failed_run_keeps_its_worker, "lost_pushes.p5_*"},
    {mutation::late_answer_completes_twice, "consumer.p6_*"},
    {mutation::runs_share_one_queue, "outbox_fsm.p7_*"},
    {mutation::broken_worker_is_put_away, "lost_pushes.p8_*"},
    {mutation::restart_forgets_who_had_what, "consumer.p9_*"},
    {mutation::malformed_result_throws, "consumer.p10_*"},
    {mutation::work_begins_before_boot, "lost_pushes.p11_*"},
};

/// Whether exactly one test ran, and passed. What it prints is not of interest.
bool passes(const char* test) {
  ::testing::GTEST_FLAG(filter) = test;
  const bool passed = RUN_ALL_TESTS() == 0;
  if (::testing::UnitTest::GetInstance()->test_to_run_count() != 1) {
    std::cout << test << " names no one test\n";
    std::exit(1);
  }
  return passed;
}

}  // namespace

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  auto& listeners = ::testing::UnitTest::GetInstance()->listeners();
  delete listeners.Release(listeners.default_result_printer());
  int wrong = 0;
  for (const auto& order : orders) {
    planted = mutation::none;
    const bool without = passes(order.test);
    planted = order.what;
    const bool with = passes(order.test);
    std::cout << order.test << ": " << (without ? "passes" : "FAILS") << " without the fault, "
              << (with ? "PASSES" : "fails") << " with it" << std::endl;
    wrong += without && !with ? 0 : 1;
  }
  return wrong == 0 ? 0 : 1;
}
