// What a program in a zone reads: it has a pipe, whatever its caller gave it.
#include <fcntl.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <thread>

#include "tests/support/at_terminal.hpp"
#include "tests/support/zone_world.hpp"

using namespace ntrace;
using namespace ntrace::zone;
using namespace std::chrono_literals;
using test::ok;

namespace {

class zone_input : public test::zone_test {
protected:
  void SetUp() override {
    zone_test::SetUp();
    if (uut) ok(uut->boot({}));
  }
  exec_end exec(const std::string& script, int input, milliseconds deadline = 20s) {
    out.clear();
    return ok(uut->exec(
        {{"sh", "-c", script}, {"PATH=/usr/bin:/bin"}, "/job", deadline, true}, {},
        [this](std::string_view, std::string_view data) { out.append(data); }, nullptr, input));
  }
};

}  // namespace

NTRACE_ON_EACH_BACKEND(zone_input);

TEST_P(zone_input, of_the_hosts_file_is_its_bytes_alone) {
  const auto at = dir / "given";
  ok(write_file_durably(at, "some bytes\n", 0666));
  const unique_fd file{::open(at.c_str(), O_RDWR | O_CLOEXEC)};
  ASSERT_EQ(::fchmod(file.get(), 0666), 0);
  if (is_root()) {  // As of a file that the zone's own ids may change.
    const auto ids = zone_store{dir.path(), uuid}.ids();
    ASSERT_EQ(::fchown(file.get(), ids.root, ids.root), 0);
  }
  exec(
      "cat; perl -e 'use Fcntl \":flock\"; print -p STDIN ? \"pipe\" : \"file\", \" \";"
      "chmod 0, *STDIN; truncate STDIN, 0; flock(STDIN, LOCK_EX | LOCK_NB);"
      "open(my $f, \"+<\", \"/proc/self/fd/0\") and syswrite($f, \"changed\");"
      "print \"held\n\"'",
      file.get());
  EXPECT_EQ(out, "some bytes\npipe held\n");
  struct stat facts {};
  ASSERT_EQ(::fstat(file.get(), &facts), 0);
  EXPECT_EQ(facts.st_mode & 0777u, 0666u);
  EXPECT_EQ(ok(read_file(at)), "some bytes\n");
}

TEST_P(zone_input, flags_of_the_callers_descriptor_stay) {
  int ends[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
  const unique_fd ours{ends[0]}, theirs{ends[1]};
  const int before = ::fcntl(theirs.get(), F_GETFL);
  ASSERT_TRUE(write_all(ours.get(), "line\n"));
  ::shutdown(ours.get(), SHUT_WR);
  exec(
      "perl -e 'print <STDIN>; STDIN->blocking(0); use Fcntl; fcntl(STDIN, F_SETFL, O_NONBLOCK | "
      "O_ASYNC)'",
      theirs.get());
  EXPECT_EQ(out, "line\n");
  EXPECT_EQ(::fcntl(theirs.get(), F_GETFL), before);
}

TEST_P(zone_input, passes_on_much_more_than_a_pipe_holds_and_its_end) {
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  const unique_fd from{ends[0]};
  unique_fd to{ends[1]};
  std::thread writer{[&] {
    for (int i = 0; i < 300; ++i) write_all(to.get(), std::string(65536, 'x'));
    to.reset();
  }};
  exec("sleep 0.1; wc -c; echo after", from.get());
  writer.join();
  EXPECT_EQ(out, "19660800\nafter\n");
}

TEST_P(zone_input, that_nobody_reads_ends_neither_the_program_nor_us) {
  const unique_fd endless{::open("/dev/zero", O_RDONLY | O_CLOEXEC)};
  EXPECT_TRUE(exec("exec <&-; sleep 0.2; echo done", endless.get()).ok());
  EXPECT_EQ(out, "done\n");
}

TEST_P(zone_input, that_never_ends_does_not_hold_up_the_deadline) {
  const unique_fd endless{::open("/dev/zero", O_RDONLY | O_CLOEXEC)};
  EXPECT_TRUE(exec("cat > /dev/null", endless.get(), 1s).timed_out);
  EXPECT_TRUE(exec("yes > /proc/self/fd/1", -1, 1s).ok() == false);
}

TEST_P(zone_input, that_cannot_be_read_is_an_error) {
  const unique_fd folder{::open(dir.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  const auto ended = uut->exec(
      {{"cat"}, {"PATH=/usr/bin:/bin"}, "/job", 20s}, {}, [](std::string_view, std::string_view) {},
      nullptr, folder.get());
  ASSERT_FALSE(ended.has_value());
  EXPECT_EQ(ended.error().code, ec::io);
}

TEST(zone_exec, reads_what_a_person_types_until_the_end_of_it) {
  NTRACE_NEEDS_ZONES();
  const test::scratch dir;
  std::vector<std::string> more;
  if (::geteuid() != 0) more = {"--zone-allow-degraded", "true"};
  std::vector<std::string> create{"zone", "create", "--data", dir.path()};
  create.insert(create.end(), more.begin(), more.end());
  const auto uuid = test::run_ntrace(create).out.substr(0, 36);
  std::vector<std::string> words{"zone", "exec", "--data", dir.path()};
  words.insert(words.end(), more.begin(), more.end());
  words.insert(words.end(), {uuid, "--", "sh", "-c", "echo up; cat; echo e-$((40 + 2))-f"});
  {
    test::at_terminal uut{words};
    ASSERT_TRUE(uut.shows("up")) << uut.seen();
    uut.type("typed\n\x04");
    EXPECT_TRUE(uut.shows("e-42-f")) << uut.seen();
    EXPECT_EQ(uut.end(), 0);
  }
  EXPECT_EQ(test::leftovers(dir.path()), "");
}
