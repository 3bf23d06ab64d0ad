// What hostile code tries from inside a zone: it gets nothing, and neither the runner nor a zone
// beside it notices. The table is in docs/zones.md, "Threats".
#include <seccomp.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "actors/zone/linux/syscall_policy.hpp"
#include "config/digest.hpp"
#include "net/socket.hpp"
#include "tests/support/zone_world.hpp"

using namespace ntrace;
using namespace ntrace::zone;
using namespace std::chrono_literals;
using test::ok;

namespace {

class zone_threats : public test::zone_test {
protected:
  void SetUp() override {
    zone_test::SetUp();
    if (IsSkipped()) return;
    neighbour_ = make_zone();
    boot_spec spec;
    spec.limits = {256u << 20, 64, 100};
    ok(uut->boot(spec));
    ok(neighbour_->boot({}));
  }
  void TearDown() override {
    if (uut) expect_nobody_harmed();
    neighbour_.reset();
    zone_test::TearDown();
  }
  /// The host still forks, the neighbour still runs what it is given, the zone is clean again.
  void expect_nobody_harmed() {
    subprocess_spec spec;
    spec.argv = {"true"};
    EXPECT_TRUE(ok(run_subprocess(spec)).ok());
    std::string said;
    const auto end = neighbour_->exec(
        {{"echo", "fine"}, {"PATH=/usr/bin:/bin"}, "/job", 10s}, {},
        [&](std::string_view, std::string_view data) { said += data; }, nullptr, -1);
    EXPECT_TRUE(end && end->ok());
    EXPECT_EQ(said, "fine\n");
    EXPECT_TRUE(uut->boot({}).has_value());
    EXPECT_TRUE(run("echo again").ok());
  }
  std::string perl(const std::string& script) {
    EXPECT_TRUE(ok(write_file(dir / "script.pl", script)));
    const unique_fd file{::open((dir / "script.pl").c_str(), O_RDONLY | O_CLOEXEC)};
    out.clear();
    const auto end = ok(uut->exec(
        {{"perl"}, {"PATH=/usr/bin:/bin"}, "/job", 20s}, {},
        [this](std::string_view, std::string_view data) { out += data; }, nullptr, file.get()));
    EXPECT_EQ(end.signal, 0) << out;
    return out;
  }
  static result<bool> write_file(const std::string& path, const std::string& text) {
    if (auto done = write_file_durably(path, text); !done) return fail(done.error());
    return true;
  }

  std::unique_ptr<zone_linux> neighbour_;
};

}  // namespace

NTRACE_ON_EACH_BACKEND(zone_threats);

TEST_P(zone_threats, T1_a_fork_bomb_meets_its_limit_and_dies_with_the_zone) {
  if (!is_root()) GTEST_SKIP() << "limits need root";
  const auto end = run("bomb() { bomb | bomb & }; bomb; sleep 100", 2s);
  EXPECT_FALSE(end.ok());
}

TEST_P(zone_threats, T2_memory_in_files_of_memory_is_limited) {
  if (!is_root()) GTEST_SKIP() << "limits need root";
  for (const char* at : {"/dev/shm/x", "/tmp/x", "/run/x"}) {
    const auto end = run(std::string{"head -c 2000000000 /dev/zero > "} + at);
    EXPECT_FALSE(end.ok()) << at;
    run(std::string{"rm -f "} + at);
  }
}

TEST_P(zone_threats, T4_no_new_namespaces_but_threads_and_node_work) {
  for (const char* how : {"unshare -U true", "unshare -Ur true", "unshare -m true",
                          "unshare -n true", "unshare -p -f true", "nsenter -t 1 -n true"})
    EXPECT_FALSE(run(how).ok()) << how << out;
  EXPECT_TRUE(run("node -e \"const {Worker}=require('worker_threads'); new "
                  "Worker('process.exit(0)',{eval:true}).on('exit',c=>process.exit(c))\"")
                  .ok())
      << out;
}

TEST_P(zone_threats, T5_T8_T9_every_denied_call_is_denied) {
  std::string script;
  for (const auto& one : denied_calls) {
    const int number = ::seccomp_syscall_resolve_name(std::string{one.name}.c_str());
    ASSERT_GE(number, 0) << one.name;
    script += "$! = 0; syscall(" + std::to_string(number) + ", 0, 0, 0, 0, 0, 0); print '" +
              std::string{one.name} + " ', $! + 0, \"\\n\";\n";
  }
  std::string expected;
  for (const auto& one : denied_calls)
    expected += std::string{one.name} + " " + std::to_string(one.answer) + "\n";
  EXPECT_EQ(perl(script), expected);
}

TEST_P(zone_threats, T9_arguments_that_make_a_call_dangerous_are_denied) {
  const auto number = [](const char* name) {
    return std::to_string(::seccomp_syscall_resolve_name(name));
  };
  std::string script =
      "sub t { my ($n, @a) = @_; $! = 0; my $r = syscall($n, @a); print $r < 0 ? $! "
      "+ 0 : 'allowed', \" \"; }\n";
  // Each CLONE_NEW… flag.
  for (const auto flag : {0x00020000u, 0x02000000u, 0x04000000u, 0x08000000u, 0x10000000u,
                          0x20000000u, 0x40000000u, 0x80u})
    script += "t(" + number("clone") + ", " + std::to_string(flag) + ", 0, 0, 0, 0);\n";
  EXPECT_EQ(perl(script), "1 1 1 1 1 1 1 1 ");
  script = script.substr(0, script.find('\n') + 1);
  // Packet, vsock, algorithm, one beyond all; netlink's audit; then what Node needs.
  for (const char* what : {"17, 3, 0", "40, 1, 0", "38, 5, 0", "200, 1, 0", "16, 3, 9", "1, 1, 0",
                           "2, 1, 0", "10, 1, 0", "16, 3, 0"})
    script += "t(" + number("socket") + ", " + what + ");\n";
  EXPECT_EQ(perl(script), "97 97 97 97 93 allowed allowed allowed allowed ");
}

TEST_P(zone_threats, T10_nothing_can_be_typed_into_a_terminal) {
  const auto number = std::to_string(::seccomp_syscall_resolve_name("ioctl"));
  std::string script;
  for (const char* request : {"0x5412", "0x541c", "0x100005412", "0xffffffff0000541c"})
    script +=
        "no warnings; $! = 0; syscall(" + number + ", 0, " + request + ", 0); print $! + 0, ' ';\n";
  EXPECT_EQ(perl(script), "1 1 1 1 ");
}

TEST_P(zone_threats, T6_the_hosts_program_cannot_be_overwritten) {
  const auto before = digest_base64("sha256", ok(read_file(test::program_path(), 1u << 30)));
  run("for f in /proc/1/exe /proc/self/exe /proc/1/root/usr/bin/env; do echo x > $f; done; "
      "cp /usr/bin/env /job/env && echo x >> /job/env");
  EXPECT_EQ(digest_base64("sha256", ok(read_file(test::program_path(), 1u << 30))), before);
  EXPECT_FALSE(run("cat /proc/1/environ").ok()) << out;
}

TEST_P(zone_threats, T11_T13_no_rights_by_files) {
  if (!is_root()) GTEST_SKIP() << "with one id for all, the zone's root is the job";
  run("cp /usr/bin/id /job/id; chmod u+s /job/id; /job/id -u; mknod /job/null c 1 3 && echo made; "
      "su -c 'echo root' 2>&1; cat /dev/mem /dev/kmsg 2>&1; true");
  EXPECT_TRUE(out.starts_with("1000\n")) << out;
  EXPECT_EQ(out.find("made"), out.npos) << out;
  EXPECT_EQ(out.find("root\n"), out.npos) << out;
}

TEST_P(zone_threats, T14_the_host_and_its_sockets_are_out_of_reach) {
  const auto port = test::free_port();
  const auto listener = ok(net::listen_tcp({"127.0.0.1", static_cast<std::uint16_t>(port)}, 4));
  const unique_fd hidden{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  sockaddr_un at{};
  at.sun_family = AF_UNIX;
  const auto name = "ntrace-threat-" + std::to_string(port);
  std::copy(name.begin(), name.end(), at.sun_path + 1);
  ASSERT_EQ(::bind(hidden.get(), reinterpret_cast<sockaddr*>(&at),
                   static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size())),
            0);
  ASSERT_EQ(::listen(hidden.get(), 4), 0);
  const auto said =
      perl("use Socket; for my $to (['127.0.0.1', " + std::to_string(port) +
           "], ['169.254.169.254', 80], ['10.0.0.1', 80]) { socket(my $s, PF_INET, SOCK_STREAM, "
           "0); print "
           "connect($s, pack_sockaddr_in($to->[1], inet_aton($to->[0]))) ? 'reached ' : 'no '; }\n"
           "socket(my $u, PF_UNIX, SOCK_STREAM, 0); print connect($u, pack_sockaddr_un(\"\\0" +
           name + "\")) ? 'reached' : 'no';\n");
  EXPECT_EQ(said, "no no no no");
}

TEST_P(zone_threats, T16_what_stops_itself_and_all_else_is_ended_in_time) {
  const auto end = run("echo up; kill -STOP -1; kill -STOP $$; sleep 1000", 1s);
  EXPECT_TRUE(end.timed_out);
  EXPECT_TRUE(run("echo alive").ok());
}

TEST_P(zone_threats, T19_a_process_that_is_called_like_ours_confuses_nothing) {
  run("cp /usr/bin/sleep /job/ntrace-init; (setsid /job/ntrace-init 1000 &); (exec -a ntrace "
      "setsid "
      "sleep 1000 &) 2>/dev/null; true");
}

TEST_P(zone_threats, T20_deep_and_wide_trees_are_left_behind_at_once_and_deleted_later) {
  boot_spec spec;
  spec.limits.disk_bytes = 0;  // Else they are not made at all.
  ok(uut->boot(spec));
  EXPECT_TRUE(run("perl -e 'for (1..6000) { mkdir \"d\" or die; chdir \"d\" or die }'").ok())
      << out;
  EXPECT_TRUE(
      run("mkdir wide; cd wide; perl -e 'for (1..30000) { open my $f, q(>), $_ or die }'").ok())
      << out;
  ok(uut->boot({}));
  EXPECT_TRUE(run("ls").ok()) << "nobody waits for the deletion";
  ok(uut->end());
  test::eventually(60s, [&] {
    ok(helper->call({{"op", "facts"}, {"uuid", uuid}}));
    return zone_store{dir.path(), uuid}.trash_entries() == 0;
  });
}

TEST_P(zone_threats, T20_a_deleted_working_folder_is_an_error_and_no_end) {
  run("rm -rf /job/* /job/.[!.]*; rmdir /job; ls -d /job");
  run("echo alive");
}

TEST_P(zone_threats, T22_signals_reach_nobody_outside) {
  const int outside = [] {
    subprocess_spec spec;
    spec.argv = {"sleep", "1000"};
    return ok(test::spawn_guarded(spec, -1, -1, -1));
  }();
  run("for i in $(seq 2 40); do kill -9 $i; done; kill -9 " + std::to_string(outside) + " " +
      std::to_string(helper->pid().value()) + "; kill -9 -1; true");
  EXPECT_EQ(::kill(outside, 0), 0);
  ::kill(outside, SIGKILL);
  ::waitpid(outside, nullptr, 0);
}

TEST_P(zone_threats, T23_the_kernels_settings_cannot_be_written) {
  run("echo 1 > /proc/sys/kernel/core_pattern; echo x > /proc/sysrq-trigger; "
      "echo 0 > /proc/sys/net/ipv4/ip_forward; mount 2>&1 | head -1 >/dev/null; "
      "cat /proc/keys /proc/timer_list; ls /sys | head -1");
  EXPECT_EQ(out.find("unix"), out.npos);
}
