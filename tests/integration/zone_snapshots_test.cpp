// Snapshots on every backend: what vmadm(8) of SmartOS does, said as tests.
#include "tests/support/zone_world.hpp"

using namespace ntrace;
using namespace ntrace::zone;
using test::code_of;
using test::ok;

namespace {

class zone_snapshots : public test::zone_test {
protected:
  /// A boot whose files stay, for `zone shell` and `zone exec`.
  static boot_spec for_a_person() {
    boot_spec out;
    out.fresh = false;
    return out;
  }
};

}  // namespace

NTRACE_ON_EACH_BACKEND(zone_snapshots);

TEST_P(zone_snapshots, have_names_of_64_letters_that_begin_with_an_alphanumeric_one) {
  for (const auto& name :
       {std::string{""}, std::string{".hidden"}, std::string{"-x"}, std::string{"a/b"},
        std::string{"a b"}, std::string{"a@b"}, std::string{".."}, std::string(65, 'a')})
    EXPECT_EQ(code_of(uut->snapshot(name)), ec::bad_argument) << name;
  for (const auto& name : {std::string{"A_b.c:d%e-f"}, std::string{"0"}, std::string(64, 'z')})
    ok(uut->snapshot(name));
  EXPECT_EQ(ok(uut->facts()).snapshots,
            (std::vector<std::string>{"clean", "A_b.c:d%e-f", "0", std::string(64, 'z')}));
}

TEST_P(zone_snapshots, keep_what_was_written_and_are_where_boots_start) {
  ok(uut->boot(for_a_person()));
  run("echo kept > /job/f; rm /job/.ntrace 2>/dev/null; mkdir /job/d; ln -s f /job/l");
  ok(uut->snapshot("prepared"));
  EXPECT_EQ(ok(uut->facts()).snapshot, "prepared");
  for (int i = 0; i < 2; ++i) {
    const auto receipt = ok(uut->boot({}));
    EXPECT_EQ(receipt.snapshot, "prepared");
    EXPECT_EQ(receipt.layers.size(), 2u);
    run("cat /job/f; readlink /job/l; rm -r /job/*; ls /job");
    EXPECT_EQ(out, "kept\nf\n") << "boot " << i;
  }
}

TEST_P(zone_snapshots, of_a_zone_that_is_up_boot_it_again) {
  const auto before = ok(uut->boot(for_a_person())).generation;
  run("echo x > /job/f");
  ok(uut->snapshot("s"));
  EXPECT_GT(ok(uut->facts()).generation, before);
  ASSERT_GE(uut->init_pid(), 0);
  run("cat /job/f");
  EXPECT_EQ(out, "x\n");
}

TEST_P(zone_snapshots, of_a_zone_that_is_down_leave_it_down) {
  ok(uut->snapshot("s"));
  EXPECT_EQ(uut->init_pid(), -1);
}

TEST_P(zone_snapshots, are_refused_under_a_name_that_there_is_and_while_an_attempt_runs) {
  EXPECT_EQ(code_of(uut->snapshot("clean")), ec::invalid_state);
  ok(uut->boot({}));
  EXPECT_EQ(code_of(uut->snapshot("s")), ec::invalid_state);
  EXPECT_TRUE(run("echo still up").ok());
  EXPECT_EQ(ok(uut->facts()).snapshots, std::vector<std::string>{"clean"});
}

TEST_P(zone_snapshots, are_stacked_sixteen_deep_at_most) {
  result<void> last;
  int made = 0;
  do {
    ok(uut->boot(for_a_person()));
    run("echo " + std::to_string(made) + " > /job/f");
    ok(uut->end());
    last = uut->snapshot("s" + std::to_string(made));
  } while (last && ++made < 20);
  EXPECT_EQ(made, 15) << "beside clean";
  EXPECT_EQ(code_of(last), ec::invalid_state);
  ok(uut->boot({}));
  run("cat /job/f");
  EXPECT_EQ(out, "14\n");
}

TEST_P(zone_snapshots, roll_back_to_an_older_one_and_lose_the_newer_ones) {
  for (const char* name : {"a", "b", "c"}) {
    ok(uut->boot(for_a_person()));
    run(std::string{"echo "} + name + " > /job/f");
    ok(uut->end());
    ok(uut->snapshot(name));
  }
  ok(uut->boot(for_a_person()));
  run("echo never kept > /job/f");
  EXPECT_EQ(ok(uut->rollback("a")), (std::vector<std::string>{"b", "c"}));
  const auto facts = ok(uut->facts());
  EXPECT_EQ(facts.snapshots, (std::vector<std::string>{"clean", "a"}));
  EXPECT_EQ(facts.snapshot, "a");
  EXPECT_GE(uut->init_pid(), 0) << "it was up, so it is again";
  run("cat /job/f");
  EXPECT_EQ(out, "a\n");
  ok(uut->end());
  EXPECT_EQ(ok(uut->rollback("clean")), std::vector<std::string>{"a"});
  EXPECT_EQ(uut->init_pid(), -1) << "it was down, so it is again";
  ok(uut->boot({}));
  EXPECT_FALSE(run("cat /job/f").ok());
  EXPECT_EQ(code_of(uut->rollback("a")), ec::not_found);
  EXPECT_TRUE(run("true").ok()) << "a refusal leaves it up";
}

TEST_P(zone_snapshots, are_deleted_only_when_nothing_stands_on_them) {
  for (const char* name : {"a", "b"}) {
    ok(uut->boot(for_a_person()));
    run(std::string{"echo "} + name + " > /job/f");
    ok(uut->end());
    ok(uut->snapshot(name));
  }
  EXPECT_EQ(code_of(uut->delete_snapshot("b")), ec::invalid_state) << "the current one";
  EXPECT_EQ(code_of(uut->delete_snapshot("a")), ec::invalid_state) << "b stands on it";
  EXPECT_EQ(code_of(uut->delete_snapshot("none")), ec::not_found);
  EXPECT_EQ(ok(uut->rollback("a")), std::vector<std::string>{"b"});
  EXPECT_EQ(ok(uut->facts()).snapshots, (std::vector<std::string>{"clean", "a"}));
}

TEST_P(zone_snapshots, lose_what_exec_wrote_only_at_the_rollback_when_not_fresh) {
  for (const char* expected : {"", "kept\n"}) {
    ok(uut->boot(for_a_person()));
    run("cat /job/f 2>/dev/null; echo kept > /job/f");
    EXPECT_EQ(out, expected);
    ok(uut->end());
  }
  ok(uut->rollback("clean"));
  ok(uut->boot(for_a_person()));
  run("cat /job/f 2>/dev/null");
  EXPECT_EQ(out, "");
}
