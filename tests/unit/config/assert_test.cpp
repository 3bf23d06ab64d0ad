// What an assertion tells, and what it ends.
#include <gtest/gtest.h>

#include "config/assert.hpp"
#include "config/gauges.hpp"

using namespace ntrace;

TEST(assertion, does_nothing_for_a_fact) { EXPECT_NO_THROW(NTRACE_ASSERT(1 + 1 == 2, "sums")); }

TEST(assertion, names_place_fact_and_meaning_and_is_counted_when_it_fails) {
  const auto before = gauges::value("assertions_failed").load();
  const int chunks = 3;
  try {
    NTRACE_ASSERT(chunks == 2, "two chunks are stored");
    FAIL() << "it went on";
  } catch (const assertion_failed& e) {
    const std::string text = e.what();
    EXPECT_TRUE(text.starts_with("defect at assert_test.cpp:")) << text;
    EXPECT_NE(text.find("two chunks are stored (chunks == 2)"), text.npos) << text;
  }
  EXPECT_EQ(gauges::value("assertions_failed").load(), before + 1);
}
