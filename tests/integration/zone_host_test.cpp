// What a zone takes of the kernel is charged to the zone, what it does reaches no file of the host,
// and what it learns of the host is what docs/zones.md lists. The table "Who is charged" there
// names the test of each row, here, in zone_charges_test.cpp and in zone_threats_test.cpp.
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <set>

#include "actors/zone/linux/clean_proof.hpp"
#include "actors/zone/linux/host_files.hpp"
#include "actors/zone/linux/zone_mounts.hpp"
#include "tests/support/hostile_zone.hpp"

using namespace ntrace;
using namespace ntrace::zone;
using namespace std::chrono_literals;
using test::ok;

namespace {

/// A kind of thing that the kernel counts for each user.
struct counted {
  const char* name;
  const char* take;  ///< Takes as many as there are, counted in $c; $! says why no more.
  const char* look;  ///< True when one more can be had.
  int why;           ///< errno of the last one that was asked for; 0: it is not refused.
};

/// Sends the standard input 64 times over a socket pair, where it stays in flight.
constexpr const char* send_descriptors =
    "use Socket; sub fly { socketpair(my $a, my $b, AF_UNIX, SOCK_DGRAM, 0) or return -1; push "
    "@held, $a, $b; my $x = 'x'; my $part = pack('P Q', $x, 1); my $control = pack('Q l l l64', "
    "16 + 256, 1, 1, (0) x 64); my $m = pack('Q L x4 P Q P Q l x4', 0, 0, $part, 1, $control, "
    "16 + 256, 0); call('sendmsg', fileno($a), $m, 0) } ";

const counted counters[] = {
    {"inotify instances", "$c++ while call('inotify_init1', 0) >= 0;",
     "call('inotify_init1', 0) >= 0", EMFILE},
    {"message queues",
     "for (;;) { my $n = \"q$c\"; last if call('mq_open', $n, 66, 0600, 0) < 0; "
     "$c++ }",
     "do { my $n = \"look$$\"; my $got = call('mq_open', $n, 66, 0600, 0) >= 0; call('mq_unlink', "
     "$n) if $got; $got }",
     EMFILE},
    {"timers", "my $t = pack('l', 0); $c++ while call('timer_create', 0, 0, $t) >= 0;",
     "do { my $t = pack('l', 0); call('timer_create', 0, 0, $t) >= 0 }", EAGAIN},
    {"terminals", "while (open(my $f, '+<', '/dev/ptmx')) { push @held, $f; $c++ }",
     "open(my $f, '+<', '/dev/ptmx')", ENOSPC},
    {"pages of pipes",
     "while ($c < 2000 && pipe(my $r, my $w)) { push @held, $r, $w; $c++ } $! = 0;",
     "do { pipe(my $r, my $w); call('fcntl', fileno($w), 1032, 0) == 65536 }", 0},
    {"open files", "while (open(my $f, '<', '/dev/null')) { push @held, $f; $c++ }",
     "open(my $f, '<', '/dev/null')", EMFILE},
    {"queues of System V", "$c++ while defined msgget(0, 0600);",
     "do { my $q = msgget(0, 0600); defined $q && msgctl($q, 0, 0) }", ENOSPC},
    {"sets of semaphores", "$c++ while defined semget(0, 1, 0600);",
     "do { my $q = semget(0, 1, 0600); defined $q && semctl($q, 0, 0, 0) }", ENOSPC},
    {"descriptors in flight", "$c++ while fly() >= 0;", "fly() >= 0", ETOOMANYREFS}};

class zone_host : public test::hostile_zone {};

}  // namespace

NTRACE_ON_EACH_BACKEND(zone_host);

TEST_P(zone_host, nobody_else_notices_when_a_zone_takes_all_of_what_the_kernel_counts) {
  for (const auto& one : counters) {
    const auto look =
        std::string{send_descriptors} + "print((" + one.look + ") ? 'ok' : \"no $!\")";
    holder all{*uut, std::string{send_descriptors} + one.take};
    EXPECT_TRUE(all.said().ends_with(" " + std::to_string(one.why) + "\n"))
        << one.name << ": " << all.said();
    EXPECT_EQ(all.said().find("held  "), std::string::npos) << one.name << " has none at all";
    EXPECT_EQ(on_host(look), "ok") << one.name;
    EXPECT_EQ(perl(*neighbour_, look), "ok") << one.name;
    all.end();
    ok(uut->boot({}));
    // The kernel takes an old namespace apart in its own time.
    test::eventually(
        20s, [&] { return perl(*uut, look) == "ok"; },
        [&] { return std::string{one.name} + " are not given back"; });
  }
}

TEST_P(zone_host, user_namespace_was_made_by_the_zones_root) {
  const auto user = ok(open_user_namespace(uut->init_pid()));
  uid_t maker = 0;
  ASSERT_EQ(::ioctl(user.get(), _IO(0xb7, 4), &maker), 0) << "NS_GET_OWNER_UID";
  EXPECT_EQ(maker, (zone_store{dir.path(), uuid}.ids().root));
}

TEST_P(zone_host, calls_that_the_machine_counts_without_an_owner_are_denied) {
  const auto said = perl(
      *uut,
      "sub t { print call(@_) < 0 ? $! + 0 : 'allowed', ' ' } my $b = 'x' x (1 << 20);"
      "open(my $f, '+>', '/job/own'); pipe(my $r, my $w); socket(my $s, 10, 1, 0);"
      "t('io_setup', 1, $b);"
      // F_SETLEASE, F_NOTIFY and F_SETPIPE_SZ, also with bits that the kernel does not look at.
      "for my $high (0, 1 << 32) { t('fcntl', fileno($f), 1024 | $high, 1);"
      "  t('fcntl', fileno($f), 1026 | $high, 1); t('fcntl', fileno($w), 1031 | $high, 1 << 20);"
      "  t('setsockopt', fileno($s), 41, 32 | $high, $b, 32) }"
      "t('mlock', $b, 1 << 20);"
      "t('fcntl', fileno($w), 1032, 0); t('setsockopt', fileno($s), 41, 26, pack('l', 1), 4)");
  EXPECT_EQ(said, "38 1 1 1 1 1 1 1 1 12 allowed allowed ");
}

TEST_P(zone_host, owns_nothing_below_usr_and_reads_only_what_everybody_may) {
  const auto at = "/usr/local/ntrace-test-" + uuid;
  ok(write_file_durably(at, "secret"));
  ASSERT_EQ(::chown(at.c_str(), 1000, 1000), 0);
  ASSERT_EQ(::chmod(at.c_str(), 0600), 0);
  for (const bool as_root : {false, true}) {
    EXPECT_NE(in_zone(*uut, {"cat", at}, as_root).find("Permission denied"), std::string::npos);
    EXPECT_EQ(in_zone(*uut,
                      {"find", "/usr", "-maxdepth", "3", "(", "-uid", "-65534", "-o", "-gid",
                       "-65534", ")"},
                      as_root),
              "");
    const auto leased =
        perl(*uut, "open(my $f, '<', '/usr/bin/env'); print call('fcntl', fileno($f), 1024, 1)",
             as_root);
    EXPECT_EQ(leased, "-1");
  }
  ASSERT_EQ(::chmod(at.c_str(), 0644), 0);
  EXPECT_EQ(in_zone(*neighbour_, {"cat", at}), "secret");
  EXPECT_NE(in_zone(*uut, {"sh", "-c", "echo x > " + at}, true).find("Read-only"),
            std::string::npos);
  ::unlink(at.c_str());
}

TEST_P(zone_host, locks_are_shared_neither_with_the_host_nor_with_another_zone) {
  for (const std::string at : {"/usr/bin/env", "/dev/null"}) {
    const unique_fd ours{::open(at.c_str(), O_RDONLY | O_CLOEXEC)};
    ASSERT_TRUE(ours);
    const auto lock = "open(my $f, '<', '" + at + "'); flock($f, 6) or print \"no $!\"; ";
    holder theirs{*uut, lock};
    EXPECT_EQ(theirs.said().rfind("held", 0), 0u) << at << theirs.said();
    EXPECT_EQ(::flock(ours.get(), LOCK_EX | LOCK_NB), 0) << at;
    EXPECT_EQ(perl(*neighbour_, lock), "") << at;
    theirs.end();
    EXPECT_EQ(perl(*uut, lock), "") << at;
  }
}

TEST_P(zone_host, sees_nobody_else_open_a_file) {
  // Its standard input, too, where that is the null device.
  holder watch{*uut,
               "my $n = call('inotify_init1', 2048); for my $at ('/usr/bin', '/usr/bin/env', "
               "'/dev/null', '/dev') { my $a = $at; call('inotify_add_watch', $n, $a, 0xfff) >= 0 "
               "or print \"no watch $at $!\" } open(my $e, '<', '/usr/bin/env'); close $e;",
               "open(my $f, '<&=', $n); my $got = sysread($f, my $b, 1 << 16);"
               "print 'own ', $got > 0 ? 'seen' : 'unseen', ' '; <STDIN>;"};
  subprocess_spec spec;
  spec.argv = {"sh", "-c", "/usr/bin/env true </dev/null; cat /usr/bin/env > /dev/null"};
  ASSERT_TRUE(ok(run_subprocess(spec)).ok());
  in_zone(*neighbour_, spec.argv);
  const auto said = watch.end();
  EXPECT_NE(said.find("own seen"), std::string::npos) << said;
  // Again, with nothing of its own to see.
  holder blind{*uut,
               "my $n = call('inotify_init1', 2048); for my $at ('/usr/bin', '/usr/bin/env', "
               "'/dev/null', '/dev') { my $a = $at; call('inotify_add_watch', $n, $a, 0xfff) }",
               "open(my $f, '<&=', $n); my $got = sysread($f, my $b, 1 << 16);"
               "print 'others ', $got > 0 ? 'seen' : 'unseen'"};
  ASSERT_TRUE(ok(run_subprocess(spec)).ok());
  in_zone(*neighbour_, spec.argv);
  EXPECT_NE(blind.end().find("others unseen"), std::string::npos);
  EXPECT_EQ(perl(*uut,
                 "my @a = stat(STDIN); my @b = stat('/dev/null'); print $a[1] == $b[1] && "
                 "$a[0] == $b[0] ? 'own' : 'the host\\'s'"),
            "own");
}

TEST_P(zone_host, buffers_of_sockets_are_charged_to_its_memory) {
  const auto name = uut->cgroup_path().substr(uut->cgroup_path().rfind('/'));
  const auto layout = parse_cgroup_layout(ok(read_file("/proc/self/mountinfo")));
  const bool is_v1 = layout.v1.count("memory") != 0;
  const auto group = (is_v1 ? layout.v1.at("memory") : layout.v2) + "/ntrace" + name;
  const auto charged = [&] {
    const auto text =
        read_file(group + (is_v1 ? "/memory.kmem.tcp.usage_in_bytes" : "/memory.stat"), 1u << 20);
    if (!text) return std::uint64_t{0};
    const auto at = is_v1 ? 0 : text->find("\nsock ") + 6;
    return static_cast<std::uint64_t>(std::strtoull(text->c_str() + at, nullptr, 10));
  };
  holder full{*uut,
              "use Socket; socket(my $l, PF_INET, SOCK_STREAM, 0); listen($l, 64); my $to = "
              "getsockname($l); for (1 .. 32) { socket(my $s, PF_INET, SOCK_STREAM, 0); "
              "connect($s, $to); $s->blocking(0); my $b = 'x' x 65536; 1 while syswrite($s, $b); "
              "push @held, $s; $c++ } $! = 0;"};
  EXPECT_GT(charged(), 1u << 20) << full.said();
  full.end();
}

TEST_P(zone_host, learns_of_the_host_what_the_documentation_lists) {
  EXPECT_EQ(in_zone(*uut, {"sh", "-c", "grep -v ':/$' /proc/self/cgroup; uname -n"}), "zone\n");
  const auto mounts = in_zone(*uut, {"cat", "/proc/self/mountinfo", "/proc/self/mounts"});
  EXPECT_EQ(mounts.find(dir.path()), std::string::npos) << mounts;
  EXPECT_EQ(shared_with_host(mounts), std::vector<std::string>{});
  for (const auto at : masked_files)
    EXPECT_EQ(in_zone(*uut, {"sh", "-c", "test ! -e $0 || head -c 16 $0", std::string{at}}, true),
              "")
        << at;
  // docs/zones.md, "What a zone learns of the host".
  const std::set<std::string> listed{"cgroups", "cpuinfo", "filesystems", "loadavg",
                                     "meminfo", "stat",    "uptime",      "version"};
  std::istringstream seen{in_zone(
      *uut, {"sh", "-c",
             "cd /proc; for f in [a-z]*; do test -f $f -a ! -L $f && test -n \"$(head -c 1 $f "
             "2>/dev/null | tr '\\0' x)\" && echo $f; done; true"})};
  for (std::string name; std::getline(seen, name);)
    EXPECT_EQ(listed.count(name), 1u) << "/proc/" << name << " is not listed";
  EXPECT_EQ(in_zone(*uut, {"sh", "-c",
                           "cd /proc; for d in [a-z]*; do test -d $d -a ! -L $d && echo $d $(ls "
                           "$d | head -1); done | grep ' '"}),
            "sys abi\nsysvipc msg\ntty driver\n");
}

TEST(mounts_below_usr, are_found_whatever_their_names_are_and_the_outer_ones_come_first) {
  EXPECT_EQ(mounts_below_usr("1 0 8:1 / / rw - ext4 /dev/a rw\n"
                             "4 3 8:3 / /usr/local/a\\040b rw - ext4 /dev/c rw\n"
                             "3 1 8:2 / /usr/local rw - ext4 /dev/b rw\n"
                             "5 1 8:2 / /usr/local rw - ext4 /dev/d rw\n"
                             "2 1 8:2 / /usr rw - ext4 /dev/b rw\n"
                             "6 1 8:4 / /usrx rw - ext4 /dev/d rw\n"),
            (std::vector<std::string>{"/usr/local", "/usr/local/a b"}));
}

TEST(zone_rlimits, are_wrong_when_one_is_higher_or_missing) {
  const std::string held =
      "Limit                     Soft Limit           Hard Limit           Units     \n"
      "Max open files            4096                 4096                 files     \n"
      "Max core file size        0                    0                    bytes     \n"
      "Max locked memory         65536                65536                bytes     \n"
      "Max pending signals       4096                 4096                 signals   \n"
      "Max msgqueue size         819200               819200               bytes     \n"
      "Max nice priority         0                    0                    \n"
      "Max realtime priority     0                    0                    \n"
      "Max processes             64                   64                   processes \n";
  EXPECT_EQ(wrong_rlimit(held, 64), "");
  EXPECT_NE(wrong_rlimit(held, 63), "");
  std::istringstream lines{held.substr(held.find('\n') + 1)};
  for (std::string line; std::getline(lines, line);) {
    auto without = held, higher = held;
    without.erase(held.find(line), line.size());
    EXPECT_NE(wrong_rlimit(without, 64), "") << line;
    higher.replace(held.find(line) + 47, 21, "unlimited            ");
    EXPECT_NE(wrong_rlimit(higher, 64), "") << line;
  }
}
