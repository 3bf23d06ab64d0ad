// The owner of a data folder, between real processes, by all names of the folder.
#include "config/folder_lock.hpp"

#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/wait.h>

#include <array>
#include <filesystem>

#include "tests/support/guardian.hpp"
#include "tests/support/ok.hpp"
#include "tests/support/scratch.hpp"

using namespace ntrace;
using namespace ntrace::test;

namespace {

using enum folder_role;

/// A process that takes the roles and holds them until it is killed.
class holder {
public:
  holder(const std::string& folder, const std::vector<folder_role>& roles) {
    std::array<int, 2> ends{};
    EXPECT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
    const int parent = ::getpid();
    pid_ = ::fork();
    if (pid_ == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      if (::getppid() != parent) ::_exit(1);
      const auto lock = folder_lock::take(folder, roles);
      const char said = lock ? 'y' : 'n';
      if (::write(ends[1], &said, 1) == 1) ::pause();
      ::_exit(1);
    }
    ::close(ends[1]);
    char said = '?';
    EXPECT_EQ(::read(ends[0], &said, 1), 1);
    EXPECT_EQ(said, 'y');
    ::close(ends[0]);
  }
  ~holder() { kill(); }
  holder(const holder&) = delete;
  holder& operator=(const holder&) = delete;
  int pid() const { return pid_; }
  /// It is not waited for: its locks may be there for another moment.
  void kill() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    const int gone = std::exchange(pid_, -1);
    ::waitpid(gone, nullptr, 0);
  }
  void kill_and_leave() { ::kill(pid_, SIGKILL); }

private:
  int pid_ = -1;
};

error refusal(const std::string& folder, const std::vector<folder_role>& roles) {
  const auto lock = folder_lock::take(folder, roles);
  return lock ? error{} : lock.error();
}

std::string fact_of(const error& e, const std::string& name) {
  for (const auto& [key, value] : e.facts)
    if (key == name) return value;
  return "";
}

}  // namespace

TEST(folder_lock, refuses_a_second_owner_and_names_the_first) {
  const scratch dir;
  const holder first{dir.path(), {dispatcher, runner}};
  for (const auto role : {dispatcher, runner}) {
    const auto no = refusal(dir.path(), {role});
    EXPECT_EQ(no.code, ec::folder_busy);
    EXPECT_EQ(fact_of(no, "pid"), std::to_string(first.pid()));
    EXPECT_EQ(fact_of(no, "role"), to_string(role));
    EXPECT_NE(fact_of(no, "since_ms"), "");
    EXPECT_NE(fact_of(no, "command").find("config_test"), std::string::npos) << no.message;
    EXPECT_NE(no.message.find("process " + std::to_string(first.pid()) + ", since 20"),
              std::string::npos)
        << no.message;
  }
}

TEST(folder_lock, lets_each_role_have_an_owner_of_its_own) {
  const scratch dir;
  const holder one{dir.path(), {dispatcher}};
  {
    const holder other{dir.path(), {runner}};
    EXPECT_EQ(fact_of(refusal(dir.path(), {dispatcher, runner}), "pid"), std::to_string(one.pid()));
    EXPECT_EQ(fact_of(refusal(dir.path(), {runner}), "pid"), std::to_string(other.pid()));
  }
  EXPECT_EQ(refusal(dir.path(), {runner, dispatcher}).code, ec::folder_busy);
  EXPECT_TRUE(folder_lock::take(dir.path(), {runner}))
      << "what was refused as a whole kept nothing";
}

TEST(folder_lock, is_the_same_by_each_name_of_the_folder) {
  const scratch dir;
  std::filesystem::create_directories(dir / "data");
  std::filesystem::create_symlink(dir / "data", dir / "link");
  const holder first{dir / "data", {dispatcher}};
  for (const auto& name : {dir / "link", dir / "data/../data/.", "/proc/self/root" + (dir / "data"),
                           std::filesystem::relative(dir / "data").string()})
    EXPECT_EQ(fact_of(refusal(name, {dispatcher}), "pid"), std::to_string(first.pid())) << name;
  std::filesystem::rename(dir / "data", dir / "moved");
  EXPECT_EQ(refusal(dir / "moved", {dispatcher}).code, ec::folder_busy) << "it moved";
}

TEST(folder_lock, is_not_lost_with_what_is_deleted_in_the_folder) {
  const scratch dir;
  const holder first{dir.path(), {dispatcher}};
  for (const auto& entry : std::filesystem::directory_iterator{dir.path()})
    std::filesystem::remove_all(entry.path());
  const auto no = refusal(dir.path(), {dispatcher});
  EXPECT_EQ(no.code, ec::folder_busy);
  EXPECT_EQ(fact_of(no, "pid"), std::to_string(first.pid())) << "the kernel knows it";
  dir.file("dispatcher.owner", R"({"pid": 1, "start": "0", "pid_namespace": "here"})");
  EXPECT_EQ(fact_of(refusal(dir.path(), {dispatcher}), "pid"), std::to_string(first.pid()))
      << "whatever is written there";
}

TEST(folder_lock, is_free_at_once_when_its_owner_is_killed) {
  const scratch dir;
  for (int i = 0; i < 20; ++i) {
    holder first{dir.path(), {dispatcher}};
    first.kill_and_leave();
    EXPECT_TRUE(folder_lock::take(dir.path(), {dispatcher})) << "an owner that is just ending";
  }
}

TEST(folder_lock, stays_with_an_owner_that_is_stopped) {
  const scratch dir;
  holder first{dir.path(), {dispatcher}};
  ::kill(first.pid(), SIGSTOP);
  int status = 0;
  ASSERT_EQ(::waitpid(first.pid(), &status, WUNTRACED), first.pid());
  EXPECT_EQ(fact_of(refusal(dir.path(), {dispatcher}), "pid"), std::to_string(first.pid()));
  first.kill();
  EXPECT_TRUE(folder_lock::take(dir.path(), {dispatcher}));
}

TEST(folder_lock, is_not_given_to_programs_that_the_owner_starts) {
  const scratch dir;
  std::array<int, 2> ends{};  // The program reads to the end of it, which comes with ours.
  ASSERT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
  int pid = -1;
  {
    const auto lock = ok(folder_lock::take(dir.path(), {runner}));
    subprocess_spec spec;
    spec.argv = {"cat"};
    pid = ok(spawn_subprocess(spec, ends[0], -1, -1));
    EXPECT_EQ(fact_of(refusal(dir.path(), {runner}), "pid"), std::to_string(::getpid()));
  }
  EXPECT_TRUE(folder_lock::take(dir.path(), {runner}));
  ::close(ends[0]);
  ::close(ends[1]);
  ::waitpid(pid, nullptr, 0);
}

TEST(folder_lock, is_refused_while_another_program_locks_the_whole_folder) {
  const scratch dir;
  const unique_fd other{::open(dir.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  ASSERT_EQ(::flock(other.get(), LOCK_EX), 0);
  EXPECT_EQ(refusal(dir.path(), {runner}).code, ec::folder_busy);
}

TEST(folder_lock, is_refused_where_another_machine_may_use_the_folder) {
  EXPECT_TRUE(is_network_file_system(0x6969)) << "NFS";
  EXPECT_TRUE(is_network_file_system(static_cast<int>(0xff534d42))) << "CIFS, as a signed number";
  for (const long local : {0xef53L, 0x01021994L, 0x58465342L, 0x9123683eL, 0x794c7630L})
    EXPECT_FALSE(is_network_file_system(local));
  EXPECT_EQ(refusal("/nowhere/at/all", {runner}).code, ec::io);
}
