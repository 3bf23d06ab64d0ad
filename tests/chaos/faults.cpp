#include "tests/chaos/faults.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <functional>

#include "actors/zone/linux/cgroup.hpp"
#include "net/socket.hpp"
#include "tests/chaos/judged_faults.hpp"
#include "tests/support/leftovers.hpp"

namespace ntrace::chaos {
namespace {

using nlohmann::json;

constexpr int flood_lines = 20'000;

result<void> kill_one(const std::vector<int>& pids, random_source& random) {
  if (pids.empty()) return fail(ec::not_found, "there is none now");
  ::kill(pids[random.below(pids.size())], SIGKILL);
  return {};
}

/// What the zone's init has around it, by the cgroup's own kill.
result<void> kill_zone(scene& s) {
  const auto inits = s.all.zone_inits(s.node);
  if (inits.empty()) return fail(ec::not_found, "no zone is up now");
  const auto pid = std::to_string(inits[s.random.below(inits.size())]);
  const auto groups = read_file("/proc/" + pid + "/cgroup").value_or("");
  const auto at = groups.find("/ntrace/");
  if (at == std::string::npos) return fail(ec::not_found, "it is gone");
  const auto path = groups.substr(at, groups.find('\n', at) - at);
  for (const char* top : {"/sys/fs/cgroup/unified", "/sys/fs/cgroup"}) {
    const unique_fd file{::open((top + path + "/cgroup.kill").c_str(), O_WRONLY | O_CLOEXEC)};
    if (file && write_all(file.get(), "1")) return {};
  }
  return fail(ec::not_found, "it is gone");
}

/// An actor that is neither a supervisor nor the shell by which we speak.
result<std::string> any_actor(scene& s) {
  const auto rows = s.all.shell(s.node, {"actors"});
  if (!rows) return fail(rows.error());
  std::vector<std::string> names;
  for (const auto& row : *rows)
    if (const auto name = row.value("actor", "");
        row.value("type", "") == "worker" && name != "shell")
      names.push_back(name);
  if (names.empty()) return fail(ec::not_found, "there are no actors");
  return names[s.random.below(names.size())];
}

auto in_an_actor(const char* fault) {
  return [fault](scene& s) -> result<void> {
    const auto actor = any_actor(s);
    if (!actor) return fail(actor.error());
    auto done = s.all.shell(s.node, {"inject", fault, *actor});
    return done ? result<void>{} : fail(done.error());
  };
}

/// Requests without end, and nobody reads the answers.
result<void> flood(scene& s) {
  result<void> out;
  s.all.network().inside(s.node, [&] {
    auto fd = net::connect_tcp({"127.0.0.1", static_cast<std::uint16_t>(s.node == 0 ? 9181 : 9182)},
                               milliseconds{2'000});
    if (!fd) {
      out = fail(fd.error());
      return;
    }
    std::string lines;
    for (int i = 0; i < flood_lines; ++i) lines += "[\"status\",[]," + std::to_string(i) + "]\n";
    std::size_t at = 0;
    pollfd one{fd->get(), POLLOUT, 0};
    while (at < lines.size() && ::poll(&one, 1, 500) > 0 &&
           (one.revents & (POLLERR | POLLHUP)) == 0) {
      const auto n =
          ::send(fd->get(), lines.data() + at, lines.size() - at, MSG_NOSIGNAL | MSG_DONTWAIT);
      if (n <= 0) break;
      at += static_cast<std::size_t>(n);
    }
  });
  return out;
}

/// The memory cgroup that a node's server is put into, to be starved.
std::string starving_group(const scene& s) {
  const auto layout = zone::parse_cgroup_layout(read_file("/proc/self/mountinfo").value_or(""));
  const auto v1 = layout.v1.find("memory");
  return (v1 == layout.v1.end() ? layout.v2 : v1->second) + "/" + s.all.network().name(s.node);
}

/// What it has it keeps; the next page that it needs ends it.
result<void> starve(scene& s) {
  const auto group = starving_group(s);
  if (::mkdir(group.c_str(), 0755) != 0) return fail(io_error("mkdir", group, errno));
  const auto put = [&](const char* file, const std::string& text) {
    const unique_fd fd{::open((group + file).c_str(), O_WRONLY | O_CLOEXEC)};
    return fd && write_all(fd.get(), text);
  };
  const bool is_limited = put("/memory.limit_in_bytes", "65536") || put("/memory.max", "65536");
  if (!is_limited || !put("/cgroup.procs", std::to_string(s.all.server(s.node).pid())))
    return fail(ec::io, "no memory cgroup takes it");
  return {};
}

result<void> feed(scene& s) {
  s.all.server(s.node).kill();  // When nothing needed a page meanwhile.
  ::rmdir(starving_group(s).c_str());
  return s.all.server(s.node).start();
}

/// The node's disk as its helper has it, where zones are made.
result<void> remount(scene& s, const std::string& how) {
  const auto disk = s.all.disk(s.node);
  const int pid = s.all.helper(s.node);
  if (pid <= 0) return how == "rw" ? result<void>{} : fail(ec::not_found, "there is no helper now");
  auto done = command(
      {"nsenter", "-m", "-t", std::to_string(pid), "mount", "-o", "remount,bind," + how, disk});
  return done ? result<void>{} : fail(done.error());
}

/// No sync may be under way at that moment. Linux (6.18, ext4) answers one that an abort of the
/// journal overtakes with success, and the metadata that it was for is gone: nobody can keep a
/// promise over that. A sync that begins after the abort fails, as one on a broken disk does.
result<void> fail_disk(scene& s) {
  constexpr milliseconds stop_max{10'000};
  const auto& server = s.all.server(s.node);
  const bool is_stopped = server.stop_all_threads(stop_max);
  auto done = is_stopped ? s.all.dispatcher_disk().give_up()
                         : fail(ec::timed_out, "the dispatcher does not stop");
  server.signal(SIGCONT);
  return done;
}

/// As an operator does: the process ends, the disk is repaired, the process starts.
result<void> mend_disk(scene& s) {
  s.all.server(s.node).kill();
  if (auto mended = s.all.dispatcher_disk().mend(); !mended) return mended;
  return s.all.server(s.node).start();
}

std::string filler(const scene& s) { return s.all.data(s.node) + "/filler"; }

result<void> fill_disk(scene& s) {
  const auto path = filler(s);
  const unique_fd file{::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600)};
  if (!file) return fail(ec::io, "no room for a file that takes the room");
  const std::string block(256u << 10, 'x');
  while (write_all(file.get(), block)) {
  }
  return {};
}

/// For good: a disk that fails a moment later must not have the file again when it is repaired.
result<void> make_room(scene& s) {
  ::unlink(filler(s).c_str());
  const auto folder = s.all.data(s.node);
  const unique_fd at{::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  if (!at || ::syncfs(at.get()) != 0) return fail(io_error("sync", folder, errno));
  return {};
}

}  // namespace

const std::vector<kind_of_fault>& kinds_of_faults() {
  using std::chrono::milliseconds;
  static const std::vector<std::size_t> runners{1, 2, 3}, dispatcher{0}, everyone{0, 1, 2, 3},
      forge{fleet::forge_node};
  static const auto start = [](scene& s) { return s.all.server(s.node).start(); };
  static const auto kill = [](scene& s) -> result<void> {
    s.all.server(s.node).kill();
    return {};
  };
  static const auto stop = [](scene& s) -> result<void> {
    s.all.server(s.node).signal(SIGSTOP);
    return {};
  };
  static const auto go_on = [](scene& s) -> result<void> {
    s.all.server(s.node).signal(SIGCONT);
    return {};
  };
  static const auto heal = [](scene& s) { return s.all.network().heal(s.node); };
  static const std::vector<kind_of_fault> all{
      {"zone_init_kill",
       runners,
       {},
       {},
       [](scene& s) { return kill_one(s.all.zone_inits(s.node), s.random); },
       {}},
      {"zone_kill", runners, {}, {}, kill_zone, {}},
      {"helper_kill",
       runners,
       {},
       {},
       [](scene& s) -> result<void> {
         const int pid = s.all.helper(s.node);
         return pid > 0 ? kill_one({pid}, s.random) : fail(ec::not_found, "there is none now");
       },
       {}},
      {"actor_kill", everyone, {}, {}, in_an_actor("kill"), {}},
      {"actor_throw", everyone, {}, {}, in_an_actor("throw"), {}},
      {"actor_hang", runners, {}, {}, in_an_actor("hang"), {}},
      {"mailbox_flood", everyone, {}, {}, flood, {}},
      {"second_owner", everyone, {}, {}, second_owner, {}},
      {"tunnel_kill",
       runners,
       {},
       {},
       [](scene& s) -> result<void> {
         auto done = s.all.shell(s.node, {"inject", "kill", "runner_sup/tunnel"});
         return done ? result<void>{} : fail(done.error());
       },
       {}},
      {"ssh_session_kill",
       dispatcher,
       {},
       {},
       [](scene& s) { return kill_one(test::descendants(s.all.sshd().pid(), "sshd"), s.random); },
       {}},
      {"sshd_kill", dispatcher, milliseconds{200}, milliseconds{1000},
       [](scene& s) -> result<void> {
         const auto sessions = test::descendants(s.all.sshd().pid(), "sshd");
         s.all.sshd().kill();
         for (const int pid : sessions) ::kill(pid, SIGKILL);
         return {};
       },
       [](scene& s) { return s.all.sshd().start(); }},
      {"sshd_stop", dispatcher, milliseconds{200}, milliseconds{2000},
       [](scene& s) -> result<void> {
         for (const int pid : test::descendants(s.all.sshd().pid(), "sshd")) ::kill(pid, SIGSTOP);
         s.all.sshd().signal(SIGSTOP);
         return {};
       },
       [](scene& s) -> result<void> {
         s.all.sshd().signal(SIGCONT);
         for (const int pid : test::descendants(s.all.sshd().pid(), "sshd")) ::kill(pid, SIGCONT);
         return {};
       }},
      {"link_down", runners, milliseconds{100}, milliseconds{3000},
       [](scene& s) { return s.all.network().set_link(s.node, false); },
       [](scene& s) { return s.all.network().set_link(s.node, true); }},
      {"link_drop", runners, milliseconds{500}, milliseconds{3000},
       [](scene& s) {
         return s.all.network().lose(s.node, 0.1 + 0.3 * static_cast<double>(s.random.below(4)));
       },
       heal},
      {"link_slow", runners, milliseconds{500}, milliseconds{3000},
       [](scene& s) { return s.all.network().slow_down(s.node, "256kbit"); }, heal},
      {"runner_kill", runners, {}, milliseconds{500}, kill, start},
      {"dispatcher_oom", dispatcher, milliseconds{500}, milliseconds{1500}, starve, feed},
      {"runner_oom", runners, milliseconds{500}, milliseconds{1500}, starve, feed},
      {"runner_stop", runners, milliseconds{200}, milliseconds{5000}, stop, go_on},
      {"lease_outlived", runners, {}, milliseconds{3000}, outlive_lease, go_on_all},
      {"dispatcher_kill", dispatcher, {}, milliseconds{500}, kill, start},
      {"dispatcher_stop", dispatcher, milliseconds{200}, milliseconds{2000}, stop, go_on},
      {"outage", forge, milliseconds{200}, milliseconds{3000}, take_forge_away,
       [](scene& s) { return s.all.sources().bring_back(s.all.network(), s.node); }},
      {"disk_full", everyone, milliseconds{200}, milliseconds{2000}, fill_disk, make_room},
      {"disk_readonly", runners, milliseconds{200}, milliseconds{2000},
       [](scene& s) { return remount(s, "ro"); }, [](scene& s) { return remount(s, "rw"); }},
      {"disk_failure", dispatcher, milliseconds{500}, milliseconds{2000}, fail_disk, mend_disk,
       [](const fleet& whose) { return whose.no_dispatcher_disk(); }},
      {"clock_jump", everyone, milliseconds{500}, milliseconds{3000},
       [](scene& s) -> result<void> {
         const int hours = static_cast<int>(s.random.below(97)) - 48;
         return s.all.set_clock(s.node, hours * 3600) ? result<void>{}
                                                      : fail(ec::io, "the clock cannot be set");
       },
       [](scene& s) -> result<void> {
         s.all.set_clock(s.node, 0);
         return {};
       },
       [](const fleet& whose) {
         return std::string{whose.has_clocks() ? "" : "libfaketime is not installed"};
       }},
  };
  return all;
}

}  // namespace ntrace::chaos
