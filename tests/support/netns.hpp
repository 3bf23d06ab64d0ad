#pragma once
// Two machines on one: network namespaces with a link between them, which tests cut, drop and
// throttle. Gone with the object.
#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

#include <functional>
#include <thread>

#include "tests/support/program.hpp"
#include "tests/support/stale_networks.hpp"

namespace ntrace::test {

class network_pair {
public:
  network_pair() {
    remove_stale_networks("ntrace-");
    command({"ip", "netns", "add", a()});
    command({"ip", "netns", "add", b()});
    command({"ip", "link", "add", "left", "netns", a(), "type", "veth", "peer", "name", "right",
             "netns", b()});
    in_a({"ip", "address", "add", address_a + std::string{"/24"}, "dev", "left"});
    in_b({"ip", "address", "add", address_b + std::string{"/24"}, "dev", "right"});
    for (const char* device : {"lo", "left"}) in_a({"ip", "link", "set", device, "up"});
    for (const char* device : {"lo", "right"}) in_b({"ip", "link", "set", device, "up"});
  }
  ~network_pair() {
    for (const auto& name : {a(), b()}) remove_network(name);
  }
  network_pair(const network_pair&) = delete;
  network_pair& operator=(const network_pair&) = delete;

  static constexpr const char *address_a = "10.231.7.1", *address_b = "10.231.7.2";
  std::string a() const { return name_ + "-a"; }
  std::string b() const { return name_ + "-b"; }

  /// Calls it on a thread that lives in the namespace; what it starts lives there too.
  static void inside(const std::string& name, const std::function<void()>& what) {
    std::exception_ptr thrown;
    std::thread{[&] {
      try {
        const unique_fd ns{::open(("/run/netns/" + name).c_str(), O_RDONLY | O_CLOEXEC)};
        if (::setns(ns.get(), CLONE_NEWNET) != 0) throw std::runtime_error("setns " + name);
        what();
      } catch (...) {
        thrown = std::current_exception();
      }
    }}.join();
    if (thrown) std::rethrow_exception(thrown);
  }
  void in_a(std::vector<std::string> argv) const { command_in(a(), std::move(argv)); }
  void in_b(std::vector<std::string> argv) const { command_in(b(), std::move(argv)); }

  void set_link(bool up) const { in_b({"ip", "link", "set", "right", up ? "up" : "down"}); }
  /// Drops what reaches b ("INPUT") or leaves it ("OUTPUT"); `how` of iptables(8).
  void drop(const char* chain, std::vector<std::string> how = {"-j", "DROP"}) const {
    how.insert(how.begin(), {"iptables", "-w", "-A", chain, "!", "-i", "lo"});
    if (std::string_view{chain} == "OUTPUT") how[5] = "-o";
    in_b(how);
  }
  void heal() const { in_b({"iptables", "-w", "-F"}); }
  void set_mtu(int bytes) const {
    in_a({"ip", "link", "set", "left", "mtu", std::to_string(bytes)});
    in_b({"ip", "link", "set", "right", "mtu", std::to_string(bytes)});
  }
  void throttle(const std::string& rate) const {
    in_a({"tc", "qdisc", "add", "dev", "left", "root", "tbf", "rate", rate, "burst", "10k",
          "latency", "10s"});
  }

private:
  static void command(std::vector<std::string> argv) {
    subprocess_spec spec;
    spec.argv = std::move(argv);
    const auto done = ok(run_subprocess(spec));
    if (!done.ok()) throw std::runtime_error(spec.argv[0] + " " + spec.argv[1] + ": " + done.err);
  }
  static void command_in(const std::string& name, std::vector<std::string> argv) {
    argv.insert(argv.begin(), {"ip", "netns", "exec", name});
    command(std::move(argv));
  }
  std::string name_ = "ntrace-" + std::to_string(::getpid());
};

/// Why two machines cannot be made here; empty when they can.
inline std::string networks_missing() {
  if (::geteuid() != 0) return "network namespaces need root";
  subprocess_spec spec;
  spec.argv = {"ip", "netns", "list"};
  const auto done = run_subprocess(spec);
  return done && done->ok() ? "" : "there is no ip(8)";
}

}  // namespace ntrace::test

/// Skips the test by name with the reason; fails in CI.
#define NTRACE_NEEDS_NETWORKS()                                          \
  if (const auto why = ntrace::test::networks_missing(); !why.empty()) { \
    if (std::getenv("CI")) FAIL() << why;                                \
    GTEST_SKIP() << why;                                                 \
  }
