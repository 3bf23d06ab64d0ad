// What the kernel counts for the whole machine, and what it charges to nobody: a zone has none of
// it, or a part that is bounded. docs/zones.md, "Who is charged".
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <set>

#include "actors/zone/linux/newer_calls.hpp"
#include "tests/support/hostile_zone.hpp"

using namespace ntrace;
using namespace ntrace::zone;
using namespace std::chrono_literals;
using test::ok;

namespace {

/// What a call with these words answers: its errno, else "done".
constexpr const char* tell = "sub t { print call(@_) < 0 ? $! + 0 : 'done', ' ' } ";

class zone_charges : public test::hostile_zone {
protected:
  std::uint64_t sockets_max(std::uint64_t memory_bytes) {
    const auto queue = std::stoull(ok(read_file("/proc/sys/net/core/rmem_default", 64)));
    return std::max<std::uint64_t>(256, memory_bytes / queue);
  }
  void boot_with_memory(std::uint64_t bytes) {
    boot_spec spec;
    spec.limits.memory_bytes = bytes;
    ok(uut->boot(spec));
  }
  /// What its memory cgroup is charged with.
  std::uint64_t charged() {
    const auto name = uut->cgroup_path().substr(uut->cgroup_path().rfind('/'));
    const auto layout = parse_cgroup_layout(ok(read_file("/proc/self/mountinfo")));
    const bool is_v1 = layout.v1.count("memory") != 0;
    const auto group = (is_v1 ? layout.v1.at("memory") : layout.v2) + "/ntrace" + name;
    return std::stoull(
        ok(read_file(group + (is_v1 ? "/memory.usage_in_bytes" : "/memory.current"), 64)));
  }
};

/// Of the host's file: its pages in memory, and how many of them the disk does not have yet.
struct cached_pages {
  std::uint64_t all = 0, dirty = 0, others[3]{};
};
std::optional<cached_pages> pages_of(const std::string& path) {
  constexpr long cachestat = 451;
  const unique_fd file{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  std::uint64_t whole[2] = {0, 0};
  cached_pages out;
  if (::syscall(cachestat, file.get(), whole, &out, 0) != 0) return {};
  return out;
}

}  // namespace

NTRACE_ON_EACH_BACKEND(zone_charges);

TEST_P(zone_charges, calls_that_are_newer_than_the_filter_are_unknown) {
  std::set<std::uint32_t> allowed;
  for (const auto& one : newer_calls) allowed.insert(one.number);
  std::string numbers, expected;
  const auto expect_denied = [&](std::uint32_t from, std::uint32_t to) {
    for (auto number = from; number < to; ++number) {
      if (allowed.count(number) != 0) continue;
      numbers += std::to_string(number) + ", ";
      expected += std::to_string(number) + " 38\n";
    }
  };
  // statmount, listmount, cachestat, file_setattr, open_tree_attr … and what is still to come.
  expect_denied(newer_calls_begin, 1200);
  expect_denied(free_calls_begin, free_calls_end);
  EXPECT_EQ(perl(*uut, "for my $n (" + numbers +
                           ") { $! = 0; my $r = syscall($n, 0, 0, 0, 0, 0, 0); print \"$n \", "
                           "$r < 0 ? $! + 0 : 'done', \"\\n\" }"),
            expected);
  // fchmodat2 of no folder: what is allowed reaches the kernel.
  EXPECT_NE(perl(*uut, "syscall(452, -1, my $n = 'x', 0, 0); print $! + 0"), "");
}

TEST_P(zone_charges, programs_of_packet_filters_are_denied) {
  // Each one's machine code is charged to net.core.bpf_jit_limit, and then nobody's fits.
  EXPECT_EQ(perl(*uut, std::string{tell} +
                           "my $p = pack('S x6 P', 1, my $i = pack('S C C L', 6, 0, 0, 0));"
                           "socket(my $s, 1, 2, 0);"
                           "for my $high (0, 1 << 32) { t('setsockopt', fileno($s), 1 | $high, $_ "
                           "| $high, $p, 16) for (26, 50, 51, 52) }"
                           "t('seccomp', 1, 0, $p); t('prctl', 22, 2, $p, 0, 0);"
                           "t('seccomp', 2, 0, my $a = pack('L', 0)); t('prctl', 38, 1, 0, 0, 0);"),
            "1 1 1 1 1 1 1 1 22 22 done done ");
}

TEST_P(zone_charges, sockets_are_bounded_whatever_waits_in_them) {
  boot_with_memory(64u << 20);
  const auto most = sockets_max(64u << 20);
  const std::string look = "print call('socket', 2, 2, 0) >= 0 ? 'ok' : 'no ' . ($! + 0)";
  holder all{*uut,
             "for (;;) { my $s = call('socket', 16, 3, 0); last if $s < 0; $c++;"
             "open(my $f, '+<&=', $s); push @held, $f; $f->blocking(0);"
             // Answers of the kernel, which nobody fetches.
             "1 while $c < 8 && syswrite($f, pack('L S S L L C x3', 20, 18, 0x301, 1, 0, 0)) && "
             "$n++ < 4000 }"};
  const auto said = all.said();
  EXPECT_TRUE(said.ends_with(" " + std::to_string(ENOBUFS) + "\n")) << said;
  EXPECT_LE(std::stoull(said.substr(5)), most);
  EXPECT_GT(std::stoull(said.substr(5)), most / 2);
  EXPECT_EQ(perl(*neighbour_, look), "ok");
  EXPECT_EQ(on_host(look), "ok");
  all.end();
  test::eventually(20s, [&] { return perl(*uut, look) == "ok"; });
}

TEST_P(zone_charges, connections_that_were_closed_with_data_unsent_are_sockets_still) {
  boot_with_memory(64u << 20);
  const auto most = sockets_max(64u << 20);
  holder orphans{
      *uut,
      "use Socket; my $x = 'x' x 65536; socket(my $l, 2, 1, 0); listen($l, 4096); my $to = "
      "getsockname($l); for (;;) { socket(my $s, 2, 1, 0) or last; setsockopt($s, 1, 7, pack('l', "
      "1)); connect($s, $to) or last; $s->blocking(0); 1 while syswrite($s, $x, 4096); close($s); "
      "$c++ }"};
  EXPECT_TRUE(orphans.said().ends_with(" " + std::to_string(ENOBUFS) + "\n")) << orphans.said();
  EXPECT_LE(std::stoull(orphans.said().substr(5)), most);
  orphans.end();
}

TEST_P(zone_charges, kernel_memory_is_charged_to_its_cgroup) {
  const auto before = charged();
  // Unix sockets and pipes that nobody reads, and files in memory.
  holder full{*uut,
              "use Socket; use IO::Handle; my $b = 'x' x 4096; for (1 .. 100) { socketpair(my $a, "
              "my $d, 1, 1, 0); $a->blocking(0); 1 while syswrite($a, $b); pipe(my $r, my $w); "
              "$w->blocking(0); 1 while syswrite($w, $b); push @held, $a, $d, $r, $w; $c++ } "
              "for (1 .. 2000) { open(my $f, '>', \"/tmp/$_\") } $! = 0;"};
  EXPECT_GT(charged(), before + (24u << 20)) << full.said();
  full.end();
}

TEST_P(zone_charges, its_users_are_nobody_elses) {
  const auto ids = zone_store{dir.path(), uuid}.ids(),
             others = zone_store{dir.path(), neighbour_->uuid()}.ids();
  EXPECT_TRUE(ids.root + 65536 <= others.root || others.root + 65536 <= ids.root);
  holder here{*uut, ""};
  std::set<std::string> seen;
  std::istringstream pids{ok(read_file(uut->cgroup_path() + "/cgroup.procs", 4096))};
  for (std::string pid; std::getline(pids, pid);) {
    const auto status = ok(read_file("/proc/" + pid + "/status", 65536));
    const auto at = status.find("\nUid:\t") + 6;
    seen.insert(status.substr(at, status.find('\t', at) - at));
  }
  EXPECT_EQ(seen, (std::set<std::string>{std::to_string(ids.root), std::to_string(ids.job)}));
  here.end();
}

TEST_P(zone_charges, huge_pages_are_denied) {
  // Of a pool that the machine's operator made, and that no memory cgroup counts.
  EXPECT_EQ(perl(*uut, std::string{tell} +
                           "t('mmap', 0, 2 << 20, 3, 0x40022, -1, 0); t('memfd_create', my $n = "
                           "'x', 4); t('shmget', 0, 2 << 20, 07600);"
                           "t('mmap', 0, 4096, 3, 0x22, -1, 0); t('memfd_create', $n, 1);"
                           "t('shmget', 0, 4096, 0600)"),
            "1 1 1 done done done ");
}

TEST_P(zone_charges, priorities_are_not_raised) {
  EXPECT_EQ(perl(*uut, std::string{tell} +
                           "t('sched_setscheduler', 0, 1, my $p = pack('l', 1));"
                           "print setpriority(0, 0, -5) ? 'done' : $! + 0, ' ';"
                           "my $before = call('ioprio_get', 1, 0);"
                           "t('ioprio_set', 1, 0, 2 << 13); print call('ioprio_get', 1, 0) == "
                           "$before ? 'same ' : 'raised '; t('prctl', 62, 1, 0, 0, 0)"),
            "1 13 done same 22 ");
}

TEST_P(zone_charges, no_module_is_loaded_for_it) {
  // SCTP, DCCP, UDP-Lite, L2TP, SMC, MPTCP; then ping, TCP and UDP. A discipline of a terminal's
  // line; TLS in the kernel.
  EXPECT_EQ(
      perl(*uut, std::string{tell} +
                     "for my $f (2, 10) { t('socket', $f, 1, 132); t('socket', $f, 6, 33);"
                     "t('socket', $f, 2, 136); t('socket', $f, 2, 115); t('socket', $f, 1, 256);"
                     "t('socket', $f, 1, 262); t('socket', $f, 1, 6); t('socket', $f, 2, 17) }"
                     "open(my $m, '+<', '/dev/ptmx'); t('ioctl', fileno($m), 0x5423, my $d = "
                     "pack('l', 0)); socket(my $s, 2, 1, 0);"
                     "t('setsockopt', fileno($s), 6, 31, my $u = 'tls', 3)"),
      "93 93 93 93 93 93 done done 93 93 93 93 93 93 done done 1 1 ");
}

TEST_P(zone_charges, a_crash_starts_nothing_of_the_host) {
  // core(5): of one byte, no program is started that `kernel.core_pattern` names.
  EXPECT_EQ(
      in_zone(*uut, {"sed", "-n", "s/^Max core file size *//p", "/proc/self/limits"}).substr(0, 21),
      "1                    ");
}

TEST_P(zone_charges, the_hosts_dirty_pages_stay_where_they_are) {
  const auto file = dir / "dirty";
  // Others may write them out meanwhile, but not each time.
  for (int round = 0; round < 10; ++round) {
    const unique_fd fd{::open(file.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600)};
    ASSERT_TRUE(write_all(fd.get(), std::string(1u << 20, 'x')));
    const auto before = pages_of(file);
    if (!before || before->dirty == 0) GTEST_SKIP() << "the kernel does not tell of dirty pages";
    in_zone(*uut, {"perl", "-e", test::perl_script("call('sync')")});
    if (pages_of(file)->dirty > 0) return;
  }
  ADD_FAILURE() << "a zone writes out what others have written";
}

TEST_P(zone_charges, the_hosts_files_stay_in_memory) {
  const auto at = "/usr/local/ntrace-test-" + uuid;
  ok(write_file_durably(at, std::string(1u << 20, 'x'), 0644));
  const auto before = pages_of(at);
  perl(*uut, "open(my $f, '<', '" + at + "') or die; call('fadvise64', fileno($f), 0, 0, 4);" +
                 "call('fadvise64', fileno($f), 0, 0, 4 | 1 << 32)");
  const auto after = pages_of(at);
  ::unlink(at.c_str());
  if (!before || before->all == 0) GTEST_SKIP() << "the kernel does not tell of pages";
  EXPECT_GT(after->all, 0u);
}
