// `ntrace bench tunnel`: our tunnel and autossh with ssh, on one sshd, under the same faults.
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstdio>
#include <deque>
#include <filesystem>
#include <future>
#include <map>

#include "config/random.hpp"
#include "net/socket.hpp"
#include "tests/bench/tunnel_peers.hpp"

namespace ntrace::bench {
namespace {

using nlohmann::json;
using std::chrono::duration_cast;
using std::chrono::microseconds;

constexpr milliseconds message_interval{10}, echo_patience{5000}, recovery_max{30'000};
constexpr std::uint64_t stream_bytes = 256u << 20;

/// One numbered message every 10 ms, echoed. It reconnects as soon as its connection ends, or after
/// 5 s without an echo. Without replay, what was sent and not echoed is lost; with it, it is sent
/// again first.
class stream {
public:
  stream(int port, bool has_replay)
      : port_{port}, has_replay_{has_replay}, thread_{[this] { run(); }} {}
  ~stream() { end(); }
  void end() {
    stop_.raise();
    if (thread_.joinable()) thread_.join();
  }
  bool wait_for_echo(milliseconds deadline) const {
    const auto before = echoed_.load();
    const auto end = steady_clock::now() + deadline;
    while (echoed_ == before && steady_clock::now() < end) ::poll(nullptr, 0, 1);
    return echoed_ != before;
  }
  /// The fault begins; with `over_new` only an echo over a connection made after it counts.
  void begin_fault(bool over_new) { new_since_us_ = over_new ? now_us() : 0; }
  /// From now on the first echo is looked for.
  void mark() {
    first_us_ = 0;
    marked_us_ = now_us();
  }
  /// From the mark to the first echo; nothing within the deadline is -1.
  double first_echo_ms() const {
    const auto end = steady_clock::now() + recovery_max;
    while (first_us_ == 0 && steady_clock::now() < end) ::poll(nullptr, 0, 1);
    return first_us_ == 0 ? -1 : static_cast<double>(first_us_ - marked_us_) / 1000;
  }
  std::uint64_t lost() const { return made_ - echoed_; }

private:
  static std::int64_t now_us() {
    return duration_cast<microseconds>(steady_clock::now().time_since_epoch()).count();
  }
  bool send_message(int fd) {
    const auto text = std::to_string(++made_) + "\n";
    if (has_replay_) unechoed_.push_back(text);
    return fd >= 0 && net::send_all(fd, text, echo_patience);
  }
  void run() {
    auto next = steady_clock::now();
    while (!stop_.is_raised()) {
      auto fd = net::connect_tcp({"127.0.0.1", static_cast<std::uint16_t>(port_)}, echo_patience);
      const auto since = now_us();
      bool is_open = fd && net::send_all(fd->get(), "e", echo_patience);
      for (const auto& text : unechoed_)
        is_open = is_open && net::send_all(fd->get(), text, echo_patience);
      auto heard = steady_clock::now();
      do {
        if (steady_clock::now() >= next) {
          next += message_interval;
          is_open = send_message(is_open ? fd->get() : -1) && is_open;
        }
        if (!is_open) {
          ::poll(nullptr, 0, 1);
          continue;
        }
        const auto left = std::chrono::ceil<milliseconds>(next - steady_clock::now());
        if (net::wait_ready(fd->get(), false, std::max(left, milliseconds{0}))) {
          char bytes[4096];
          const auto n = ::recv(fd->get(), bytes, sizeof bytes, 0);
          if (n <= 0) is_open = false;
          const auto lines = n > 0 ? std::count(bytes, bytes + n, '\n') : 0;
          if (lines > 0) {
            heard = steady_clock::now();
            if (first_us_ == 0 && marked_us_ != 0 && since > new_since_us_) first_us_ = now_us();
            echoed_ += static_cast<std::uint64_t>(lines);
            for (auto i = lines; i > 0 && !unechoed_.empty(); --i) unechoed_.pop_front();
          }
        }
        if (steady_clock::now() - heard > echo_patience) is_open = false;
      } while (is_open && !stop_.is_raised());
    }
  }

  int port_;
  bool has_replay_;
  cancellation stop_;
  std::atomic<std::uint64_t> made_{0}, echoed_{0};
  std::atomic<std::int64_t> first_us_{0}, marked_us_{0}, new_since_us_{0};
  std::deque<std::string> unechoed_;
  std::thread thread_;
};

struct fault {
  std::string name;
  bool over_new = true;
  /// Causes it and ends it; recovery may begin when it returns. `sessions` is of one tunnel, when
  /// each is to be hit alone, so that what a dial costs, it costs alone; else empty.
  std::function<bool(random_source&, const std::set<int>& sessions)> cause;
  bool is_for_each = false;
};

void wait_for(milliseconds time) { ::poll(nullptr, 0, static_cast<int>(time.count())); }

std::vector<fault> faults(private_sshd& sshd, bool has_network) {
  const auto jitter = [](random_source& r) { return milliseconds{r.below(1000)}; };
  std::vector<fault> out;
  out.push_back({"killed", true,
                 [](random_source&, const std::set<int>& sessions) {
                   for (const int pid : sessions) ::kill(pid, SIGKILL);
                   return true;
                 },
                 true});
  out.push_back({"sshd down 3 s", true, [&sshd, jitter](random_source& r, const std::set<int>&) {
                   sshd.kill_all();
                   wait_for(milliseconds{3000} + jitter(r));
                   return sshd.start();
                 }});
  if (!has_network) return out;
  for (const int seconds : {1, 5})
    out.push_back({"black hole " + std::to_string(seconds) + " s", false,
                   [&sshd, jitter, seconds](random_source& r, const std::set<int>&) {
                     if (!set_black_hole(sshd.setup().port, true)) return false;
                     wait_for(milliseconds{seconds * 1000} + jitter(r));
                     return set_black_hole(sshd.setup().port, false);
                   }});
  return out;
}

struct running {
  const tunnel_kind* kind;
  int port;
  process held;
  std::set<int> sessions{};  ///< Of the sshd, for this tunnel.
};

double per_second(std::uint64_t bytes, time_point began) {
  return static_cast<double>(bytes) / (1u << 20) /
         std::chrono::duration<double>(steady_clock::now() - began).count();
}

/// MiB/s of `connections` at once, together `bytes` in one direction; -1 when one broke.
double throughput(int port, unsigned connections, char direction, std::uint64_t bytes) {
  const auto began = steady_clock::now();
  std::vector<std::future<bool>> all;
  for (unsigned i = 0; i < connections; ++i)
    all.push_back(std::async(std::launch::async, [port, direction, bytes, connections] {
      const auto fd = dial_port(port, milliseconds{30'000});
      std::uint64_t left = bytes / connections;
      std::string head{direction};
      head.append(reinterpret_cast<const char*>(&left), sizeof left);
      std::string data(64 << 10, 'x');
      if (!fd || !write_all(fd.get(), head)) return false;
      while (left > 0) {
        const auto n = std::min<std::size_t>(left, data.size());
        if (direction == 's') {
          if (!write_all(fd.get(), {data.data(), n})) return false;
          left -= n;
        } else {
          const auto got = ::recv(fd.get(), data.data(), data.size(), 0);
          if (got <= 0) return false;
          left -= static_cast<std::uint64_t>(got);
        }
      }
      return direction == 'g' || ::recv(fd.get(), data.data(), 1, 0) == 1;
    }));
  bool is_whole = true;
  for (auto& one : all) is_whole = one.get() && is_whole;
  return is_whole ? per_second(bytes, began) : -1;
}

/// Round trips of 64 bytes over one connection.
sample round_trips(int port, unsigned count) {
  sample out;
  const auto fd = dial_port(port, echo_patience);
  if (!fd || !write_all(fd.get(), "e")) return out;
  const std::string text(64, 'x');
  char back[64];
  for (unsigned i = 0; i < count; ++i) {
    const auto began = steady_clock::now();
    if (!write_all(fd.get(), text) || ::recv(fd.get(), back, sizeof back, MSG_WAITALL) != 64) break;
    out.us.push_back(
        std::chrono::duration<double, std::micro>(steady_clock::now() - began).count());
  }
  std::sort(out.us.begin(), out.us.end());
  return out;
}

result<std::vector<running>> start_all(const std::vector<tunnel_kind>& kinds,
                                       const private_sshd& sshd, std::size_t first) {
  std::vector<running> out;
  for (std::size_t i = 0; i < kinds.size(); ++i) {
    const auto& kind = kinds[(first + i) % kinds.size()];
    const int port = free_port();
    out.push_back({&kind, port, kind.start(port)});
    if (!wait_for_port(port, milliseconds{10'000}))
      return fail(ec::timed_out, kind.name + " does not listen");
    if (round_trips(port, 1).us.empty()) return fail(ec::timed_out, kind.name + " carries nothing");
    out.back().sessions = sshd.sessions();
    for (std::size_t other = 0; other < i; ++other)
      for (const int pid : out[other].sessions) out.back().sessions.erase(pid);
  }
  return out;
}

/// Connections, each with one byte there and back, one after the other, per second.
double connections_per_second(int port, unsigned count) {
  const auto began = steady_clock::now();
  for (unsigned i = 0; i < count; ++i) {
    const auto fd = dial_port(port, echo_patience);
    char byte = 0;
    if (!fd || !write_all(fd.get(), "ex") || ::recv(fd.get(), &byte, 1, 0) != 1) return -1;
  }
  return count / std::chrono::duration<double>(steady_clock::now() - began).count();
}

double median(std::vector<double> all) {
  if (all.empty()) return -1;
  std::sort(all.begin(), all.end());
  return all[all.size() / 2];
}

void measure_steady(json& out, const std::vector<tunnel_kind>& kinds, private_sshd& sshd,
                    unsigned repeats) {
  std::map<std::string, std::map<std::string, std::vector<double>>> seen;
  for (unsigned repeat = 0; repeat < repeats; ++repeat) {
    auto tunnels = start_all(kinds, sshd, repeat);
    if (!tunnels) continue;
    for (auto& t : *tunnels) {
      auto& of = seen[t.kind->name];
      (void)round_trips(t.port, 200);  // The session is up and warm.
      if (!t.kind->only_throughput) {
        const auto trips = round_trips(t.port, 3000);
        of["round trip median us"].push_back(trips.at(0.5));
        of["round trip p99 us"].push_back(trips.at(0.99));
        of["connections/s"].push_back(connections_per_second(t.port, 500));
      }
      of["memory MiB"].push_back(static_cast<double>(t.held.memory_bytes()) / (1u << 20));
      const auto cpu = t.held.cpu(), server_cpu = sshd.cpu();
      for (const unsigned n : {1u, 64u})
        for (const char direction : {'s', 'g'})
          of[std::string{direction == 's' ? "up" : "down"} + " MiB/s, " + std::to_string(n)]
              .push_back(throughput(t.port, n, direction, stream_bytes));
      of["CPU s/GiB"].push_back(static_cast<double>((t.held.cpu() - cpu).count()) / 1000);
      of["sshd CPU s/GiB"].push_back(static_cast<double>((sshd.cpu() - server_cpu).count()) / 1000);
      of["memory after MiB"].push_back(static_cast<double>(t.held.memory_bytes()) / (1u << 20));
      const auto idle = t.held.cpu();
      wait_for(milliseconds{3000});
      of["idle CPU ms/min"].push_back(static_cast<double>((t.held.cpu() - idle).count()) * 20);
    }
  }
  for (const auto& [name, figures] : seen)
    for (const auto& [what, values] : figures)
      out["steady"].push_back(
          {{"tunnel", name}, {"what", what}, {"median", median(values)}, {"raw", values}});
}

result<void> measure_faults(json& out, const std::vector<tunnel_kind>& all, private_sshd& sshd,
                            unsigned rounds, bool has_network, std::uint64_t seed) {
  random_source random{seed};
  std::vector<tunnel_kind> kinds;
  for (const auto& k : all)
    if (!k.only_throughput) kinds.push_back(k);
  for (const auto& f : faults(sshd, has_network)) {
    std::map<std::string, std::vector<double>> times;
    std::map<std::string, std::uint64_t> lost, lost_with_replay;
    for (unsigned round = 0; round < rounds; ++round) {
      auto tunnels = start_all(kinds, sshd, round);
      if (!tunnels) return fail(tunnels.error());
      std::vector<std::unique_ptr<stream>> bare, replayed;
      for (const auto& t : *tunnels) {
        bare.push_back(std::make_unique<stream>(t.port, false));
        replayed.push_back(std::make_unique<stream>(t.port, true));
      }
      for (std::size_t i = 0; i < bare.size(); ++i)
        if (!bare[i]->wait_for_echo(milliseconds{10'000}))
          return fail(ec::timed_out, (*tunnels)[i].kind->name + " carries nothing");
      // Long enough for ours to take the session for stable, and out of step with every timer.
      wait_for(milliseconds{2200 + static_cast<std::int64_t>(random.below(1000))});
      const auto hit = [&](std::size_t from, std::size_t to) -> result<void> {
        for (auto i = from; i < to; ++i) bare[i]->begin_fault(f.over_new);
        // A session that is killed is looked at from the kill on.
        if (f.is_for_each) bare[from]->mark();
        if (!f.cause(random, f.is_for_each ? (*tunnels)[from].sessions : std::set<int>{}))
          return fail(ec::io, "the fault \"" + f.name + "\" cannot be caused");
        for (auto i = from; i < to && !f.is_for_each; ++i) bare[i]->mark();
        for (auto i = from; i < to; ++i)
          times[(*tunnels)[i].kind->name].push_back(bare[i]->first_echo_ms());
        return {};
      };
      for (std::size_t i = 0; i < (f.is_for_each ? bare.size() : 1); ++i)
        if (auto done = hit(i, f.is_for_each ? i + 1 : bare.size()); !done) return done;
      for (std::size_t i = 0; i < bare.size(); ++i) {
        replayed[i]->wait_for_echo(recovery_max);
        wait_for(milliseconds{200});
        bare[i]->end();
        replayed[i]->end();
        lost[(*tunnels)[i].kind->name] += bare[i]->lost();
        // What is still on its way at the end is not lost: at most a round trip's worth.
        const auto left = replayed[i]->lost();
        lost_with_replay[(*tunnels)[i].kind->name] += left > 5 ? left : 0;
      }
    }
    for (const auto& [name, values] : times)
      out["faults"].push_back({{"fault", f.name},
                               {"tunnel", name},
                               {"median_ms", median(values)},
                               {"max_ms", *std::max_element(values.begin(), values.end())},
                               {"lost", lost[name]},
                               {"lost_with_replay", lost_with_replay[name]},
                               {"raw_ms", values}});
  }
  return {};
}

}  // namespace

result<json> tunnel(const std::string& parent, unsigned rounds, std::uint64_t seed) {
  std::string folder = parent + "/ntrace-bench.XXXXXX";
  if (::mkdtemp(folder.data()) == nullptr) return fail(io_error("mkdtemp", parent, errno));
  const std::unique_ptr<std::string, void (*)(std::string*)> gone{&folder, [](std::string* path) {
                                                                    std::error_code ignored;
                                                                    std::filesystem::remove_all(
                                                                        *path, ignored);
                                                                  }};
  if (::access("/usr/sbin/sshd", X_OK) != 0)
    return fail(ec::io, "there is no sshd to measure over; tools/install_dependencies bench");
  const bool has_network = enter_own_network();
  json out{{"seed", seed},
           {"rounds", rounds},
           {"faults", json::array()},
           {"steady", json::array()},
           {"missing", json::array()}};
  target_server target;
  private_sshd sshd{folder, target.port()};
  if (auto ready = sshd.prepare(); !ready) return fail(ready.error());
  if (!sshd.start()) return fail(ec::timed_out, "sshd does not start");
  std::vector<std::string> missing;
  const auto kinds = tunnel_kinds(sshd.setup(), missing);
  if (!has_network || ::access("/usr/sbin/iptables", X_OK) != 0)
    missing.push_back("a network namespace and iptables, for black holes");
  out["missing"] = missing;
  measure_steady(out, kinds, sshd, std::max(1u, rounds / 4));
  const bool has_holes = has_network && ::access("/usr/sbin/iptables", X_OK) == 0;
  if (auto done = measure_faults(out, kinds, sshd, rounds, has_holes, seed); !done)
    return fail(done.error());
  out["ratios"] = tunnel_ratios(out);
  return out;
}

}  // namespace ntrace::bench
