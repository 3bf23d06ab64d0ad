// Which pushes with one key are the same push.
#include "actors/journal/push_identity.hpp"

#include <gtest/gtest.h>

using namespace ntrace;
using namespace ntrace::journal;

namespace {

insert_run some_push() {
  insert_run out;
  out.run.id = "R2";
  out.run.owner = "o";
  out.run.repo = "r";
  out.run.sha = std::string(40, 'a');
  out.run.source = "template";
  out.key = "k";
  return out;
}

keyed_push as_written(const insert_run& o) { return {o.run, o.has_source, o.run.deadline_ms}; }

/// The members that differ from those of some_push().
std::string differing(const insert_run& now, const keyed_push& then = as_written(some_push())) {
  std::string out;
  for (const auto& d : push_differences(then, now)) out += (out.empty() ? "" : " ") + d.member;
  return out;
}

insert_run with(void (*change)(insert_run&)) {
  auto out = some_push();
  change(out);
  return out;
}

}  // namespace

TEST(push_identity, is_kept_by_a_push_that_is_sent_again) {
  EXPECT_EQ(differing(some_push()), "");
  EXPECT_EQ(differing(with([](auto& p) { p.run.id = "R3"; })), "");
  EXPECT_EQ(differing(with([](auto& p) { p.run.created_ms = 77; })), "");
  EXPECT_EQ(differing(with([](auto& p) { p.payload = "{\"after\": 1}"; })), "");
}

TEST(push_identity, differs_by_each_member_that_changes_what_is_run) {
  EXPECT_EQ(differing(with([](auto& p) { p.run.owner = "O"; })), "owner");
  EXPECT_EQ(differing(with([](auto& p) { p.run.repo = "s"; })), "repo");
  EXPECT_EQ(differing(with([](auto& p) { p.run.sha[39] = 'b'; })), "sha");
  EXPECT_EQ(differing(with([](auto& p) { p.run.priority = 1; })), "priority");
  EXPECT_EQ(differing(with([](auto& p) { p.run.deadline_ms = 1; })), "deadline_ms");
  const auto named = with([](auto& p) {
    p.has_source = true;
    p.run.source = "npm:a@1.0.0";
  });
  EXPECT_EQ(differing(named), "source");
  EXPECT_EQ(differing(some_push(), as_written(named)), "source");
  const auto all = with([](auto& p) {
    p.run.owner = p.run.repo = "x";
    p.run.priority = 3;
  });
  EXPECT_EQ(differing(all), "owner repo priority");
  const auto values = push_differences(as_written(some_push()), all);
  EXPECT_EQ(values.at(2).then + " " + values.at(2).now, "0 3");
}

TEST(push_identity, is_not_lost_when_the_template_of_the_source_changes) {
  EXPECT_EQ(differing(with([](auto& p) { p.run.source = "another template"; })), "");
}

TEST(push_identity, takes_a_source_that_names_what_the_template_gives_for_the_same) {
  EXPECT_EQ(differing(with([](auto& p) { p.has_source = true; })), "");
}

TEST(push_identity, is_judged_by_what_is_known_of_a_push_that_an_older_version_wrote) {
  const keyed_push old{some_push().run, {}, {}};
  EXPECT_EQ(differing(with([](auto& p) {
                        p.has_source = true;
                        p.run.source = "npm:a@1.0.0";
                        p.run.deadline_ms = 5;
                      }),
                      old),
            "");
  EXPECT_EQ(differing(with([](auto& p) { p.run.sha[0] = 'f'; }), old), "sha");
}
