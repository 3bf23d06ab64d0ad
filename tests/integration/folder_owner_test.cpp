// One data folder, one owner of each role: with the program itself, by every name that the folder
// can have.
#include <gtest/gtest.h>

#include "tests/support/program_parts.hpp"

using namespace ntrace;
using namespace ntrace::test;

namespace {

const std::string nowhere = "127.0.0.1:0";

/// A second server on `folder`; it must end by itself. Its ports are any that are free.
subprocess_result second(const std::string& role, const std::string& folder,
                         std::vector<std::string> around = {}) {
  subprocess_spec spec;
  spec.argv = std::move(around);
  spec.argv.insert(spec.argv.end(),
                   {program_path(), role, "--json", "--data", folder, "--dispatcher", nowhere,
                    "--runner", nowhere, "--workers", "0"});
  spec.deadline = 20s;
  return ok(run_subprocess(spec));
}

void expect_refused(const subprocess_result& seen, int owner) {
  EXPECT_EQ(seen.exit_code, 4) << seen.out << seen.err;
  const auto no = json::parse(seen.out, nullptr, false);
  ASSERT_TRUE(no.is_object() && no.contains("error")) << seen.out << seen.err;
  EXPECT_EQ(no["error"].value("code", ""), "folder_busy") << seen.out;
  EXPECT_EQ(no["error"].value("pid", ""), std::to_string(owner)) << seen.out;
}

}  // namespace

TEST(folder_owner, is_told_to_whoever_comes_second) {
  const scratch dir;
  server uut{dir, {"dispatcher"}};
  for (const auto* role : {"dispatcher", "up"})
    expect_refused(second(role, dir / "data"), uut.pid());
  const auto said = run_ntrace({"dispatcher", "--data", dir / "data", "--dispatcher", nowhere}).err;
  EXPECT_NE(
      said.find("in use by a dispatcher: process " + std::to_string(uut.pid()) + ", since 20"),
      std::string::npos)
      << said;
  EXPECT_NE(said.find("ntrace dispatcher --json --data"), std::string::npos) << said;
  EXPECT_TRUE(uut.call("status", json::array())) << "the owner works on";
  EXPECT_EQ(uut.stop(), 0);
}

/// Before it binds a port: the address is that of the owner, and what is said is not about that.
TEST(folder_owner, is_asked_for_before_a_port_is_bound) {
  const scratch dir;
  server uut{dir, {"dispatcher"}};
  const auto seen =
      run_ntrace({"dispatcher", "--data", dir / "data", "--dispatcher", uut.dispatcher, "--json"});
  expect_refused(seen, uut.pid());
}

TEST(folder_owner, is_found_by_each_name_of_the_folder) {
  const scratch dir;
  server uut{dir, {"dispatcher"}};
  std::filesystem::create_symlink(dir / "data", dir / "link");
  for (const auto& name : {dir / "link", "/proc/self/root" + (dir / "data"), dir / "data/./"})
    expect_refused(second("dispatcher", name), uut.pid());
}

TEST(folder_owner, is_found_by_the_journal_when_another_folder_has_a_name_of_it) {
  const scratch dir;
  server uut{dir, {"dispatcher"}};
  for (const bool is_hard : {false, true}) {
    const auto other = dir / (is_hard ? "hard" : "soft");
    std::filesystem::create_directories(other);
    for (const auto* file : {"/journal.sqlite", "/journal.sqlite-wal", "/journal.sqlite-shm"})
      is_hard ? std::filesystem::create_hard_link(dir / "data" + file, other + file)
              : std::filesystem::create_symlink(dir / "data" + file, other + file);
    const auto seen = second("dispatcher", other);
    EXPECT_EQ(seen.exit_code, 4) << seen.out << seen.err;
    EXPECT_NE(seen.out.find("folder_busy"), std::string::npos) << seen.out;
  }
}

TEST(folder_owner, is_found_from_other_namespaces) {
  if (::geteuid() != 0) GTEST_SKIP() << "namespaces need root";
  const scratch dir;
  server uut{dir, {"dispatcher"}};
  std::filesystem::create_directories(dir / "bound");
  const auto bound = "mount --bind '" + (dir / "data") + "' '" + (dir / "bound") +
                     "' && ip link set lo up; exec \"$@\"";
  expect_refused(
      second("dispatcher", dir / "bound", {"unshare", "--mount", "--net", "sh", "-c", bound, "sh"}),
      uut.pid());
  // There the owner has no number at all: what it wrote of itself is said to be of elsewhere.
  const auto elsewhere = second("dispatcher", dir / "data",
                                {"unshare", "--pid", "--fork", "--mount-proc", "--kill-child"});
  EXPECT_EQ(elsewhere.exit_code, 4) << elsewhere.out;
  const auto no = json::parse(elsewhere.out)["error"];
  EXPECT_EQ(no.value("pid", ""), "") << no;
  EXPECT_EQ(no.value("pid_elsewhere", ""), std::to_string(uut.pid())) << no;
  EXPECT_NE(no.value("message", "").find("of another pid namespace"), std::string::npos) << no;
}

TEST(folder_owner, is_free_as_soon_as_its_process_is_killed) {
  const scratch dir;
  for (int i = 0; i < 3; ++i) {
    server uut{dir, {"dispatcher"}};
    EXPECT_EQ(uut.stop(SIGKILL), 128 + SIGKILL);
  }
  server stopped{dir, {"dispatcher"}};
  ::kill(stopped.pid(), SIGSTOP);
  expect_refused(second("dispatcher", dir / "data"), stopped.pid());
  ::kill(stopped.pid(), SIGCONT);
  EXPECT_EQ(stopped.stop(), 0);
}

TEST(folder_owner, does_not_stop_what_only_reads) {
  const scratch dir;
  server uut{dir, {"dispatcher"}};
  ok(uut.call("push", json::array({"o", "r", sha})));
  const std::vector<std::vector<std::string>> reading{
      {"journal", "check"}, {"journal", "backup", dir / "copy"}, {"zone", "list"}, {"config"}};
  for (auto words : reading) {
    if (words[0] != "config") words.insert(words.end(), {"--data", dir / "data"});
    const auto seen = run_ntrace(words);
    EXPECT_EQ(seen.exit_code, 0) << words[0] << " " << seen.out << seen.err;
  }
}

/// Each role has its own files in the folder, so two processes may share it, one of each.
TEST(folder_owner, is_one_for_each_role) {
  NTRACE_NEEDS_ZONES();
  const scratch dir;
  server queue{dir, {"dispatcher"}};
  server zones{dir, {"runner"}, {"--dispatcher", queue.dispatcher, "--workers", "1"}};
  expect_refused(second("runner", dir / "data"), zones.pid());
  expect_refused(second("dispatcher", dir / "data"), queue.pid());
  EXPECT_EQ(second("up", dir / "data").exit_code, 4);
  const auto made = run_ntrace({"zone", "create", "--data", dir / "data"});
  EXPECT_EQ(made.exit_code, 0) << "a zone has an owner of its own: " << made.err;
  // The helper of a killed runner may still put its zones away: the next start goes on all the
  // same.
  EXPECT_EQ(zones.stop(SIGKILL), 128 + SIGKILL);
  server again{dir, {"runner"}, {"--dispatcher", queue.dispatcher}};
  eventually(30s, [&] {
    const auto list = again.call("workers", json::array(), true);
    return list && list->size() == 1 && list->at(0).value("state", "") == "free";
  });
  EXPECT_EQ(again.stop(), 0);
  EXPECT_EQ(queue.stop(), 0);
}
