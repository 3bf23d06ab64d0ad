#pragma once
// Two zones side by side, and hostile code in the first of them: what it takes and holds, others
// must not notice.
#include <fcntl.h>
#include <seccomp.h>

#include <chrono>
#include <future>
#include <mutex>

#include "tests/support/zone_world.hpp"

namespace ntrace::test {

/// Perl with the numbers of system calls: `call("name", …)` is what the call returns.
inline std::string perl_script(const std::string& body) {
  std::string out = "$| = 1; no warnings; my %number = (";
  for (const char* name : {"inotify_init1",
                           "inotify_add_watch",
                           "mq_open",
                           "mq_unlink",
                           "timer_create",
                           "sendmsg",
                           "io_setup",
                           "fcntl",
                           "setsockopt",
                           "mlock",
                           "mmap",
                           "socket",
                           "prctl",
                           "seccomp",
                           "memfd_create",
                           "shmget",
                           "fadvise64",
                           "ioctl",
                           "sched_setscheduler",
                           "ioprio_set",
                           "ioprio_get",
                           "sync"})
    out += std::string{name} + " => " + std::to_string(::seccomp_syscall_resolve_name(name)) + ", ";
  return out + "); sub call { my $n = shift; $! = 0; syscall($number{$n}, @_) } " +
         "my (@held, $c); " + body;
}

class hostile_zone : public zone_test {
protected:
  void SetUp() override {
    zone_test::SetUp();
    if (IsSkipped()) return;
    if (!is_root()) GTEST_SKIP() << "with one id for all, a zone's user is the host's";
    neighbour_ = make_zone();
    ok(uut->boot({}));
    ok(neighbour_->boot({}));
  }
  void TearDown() override {
    neighbour_.reset();
    zone_test::TearDown();
  }

  std::string in_zone(zone::zone_linux& zone, std::vector<std::string> argv, bool as_root = false) {
    std::string said;
    const auto end = ok(zone.exec(
        {std::move(argv), {"PATH=/usr/bin:/bin"}, "/job", std::chrono::seconds{30}, as_root}, {},
        [&](std::string_view, std::string_view data) { said += data; }, nullptr, -1));
    EXPECT_EQ(end.signal, 0) << said;
    return said;
  }
  std::string perl(zone::zone_linux& zone, const std::string& body, bool as_root = false) {
    return in_zone(zone, {"perl", "-e", perl_script(body)}, as_root);
  }
  static std::string on_host(const std::string& body) {
    subprocess_spec spec;
    spec.argv = {"perl", "-e", perl_script(body)};
    return ok(run_subprocess(spec)).out;
  }

  /// A script in the zone that says "held" and ends when it may: at the end of its input.
  class holder {
  public:
    holder(zone::zone_linux& zone, const std::string& body, const char* at_end = "") {
      int ends[2];
      EXPECT_EQ(::pipe2(ends, O_CLOEXEC), 0);
      may_end_ = unique_fd{ends[1]};
      run_ = std::async(std::launch::async, [this, &zone, body, at_end, in = ends[0]] {
        const unique_fd input{in};
        return zone.exec(
            {{"perl", "-e",
              perl_script(body + " print \"held $c \", $! + 0, \"\\n\"; <STDIN>; " + at_end)},
             {"PATH=/usr/bin:/bin"},
             "/job",
             std::chrono::seconds{60}},
            {},
            [this](std::string_view, std::string_view data) {
              const std::lock_guard lock{guard_};
              said_ += data;
            },
            nullptr, input.get());
      });
      eventually(
          std::chrono::seconds{30},
          [&] { return said().find("held ") != std::string::npos && said().ends_with('\n'); },
          [&] { return said(); });
    }
    std::string end() {
      may_end_.reset();
      EXPECT_TRUE(run_.get().has_value());
      return said();
    }
    std::string said() {
      const std::lock_guard lock{guard_};
      return said_;
    }

  private:
    std::mutex guard_;
    std::string said_;
    unique_fd may_end_;
    std::future<result<zone::exec_end>> run_;
  };

  std::unique_ptr<zone::zone_linux> neighbour_;
};

}  // namespace ntrace::test
