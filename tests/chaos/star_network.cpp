#include "tests/chaos/star_network.hpp"

#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

#include <cerrno>
#include <thread>

#include "config/file.hpp"
#include "config/subprocess.hpp"
#include "tests/support/stale_networks.hpp"

namespace ntrace::chaos {
namespace {

const std::string prefix = "ntrace-chaos-";

}  // namespace

result<std::string> command(std::vector<std::string> argv) {
  subprocess_spec spec;
  spec.argv = std::move(argv);
  const auto done = run_subprocess(spec);
  if (!done) return fail(done.error());
  if (done->ok()) return done->out;
  std::string words;
  for (const auto& w : spec.argv) words += w + " ";
  return fail(ec::io, words + "failed: " + done->err);
}

result<std::unique_ptr<star_network>> star_network::make(std::size_t nodes) {
  std::unique_ptr<star_network> out{new star_network{nodes}};
  if (auto done = out->set_up(); !done) return fail(done.error());
  return out;
}

std::string star_network::name(std::size_t node) const {
  return prefix + std::to_string(::getpid()) + "-" + (node < nodes_ ? std::to_string(node) : "hub");
}

std::string star_network::address(std::size_t node) {
  return "10.231.9." + std::to_string(node + 1);
}

result<void> star_network::set_up() const {
  test::remove_stale_networks(prefix);
  const auto hub = name(nodes_);
  std::vector<std::vector<std::string>> all{
      {"ip", "netns", "add", hub},
      {"ip", "-n", hub, "link", "add", "star", "type", "bridge"},
      {"ip", "-n", hub, "link", "set", "star", "up"}};
  for (std::size_t i = 0; i < nodes_; ++i) {
    const auto node = name(i), port = "port" + std::to_string(i);
    all.push_back({"ip", "netns", "add", node});
    all.push_back({"ip", "link", "add", port, "netns", hub, "type", "veth", "peer", "name", "net",
                   "netns", node});
    all.push_back({"ip", "-n", hub, "link", "set", port, "master", "star", "up"});
    all.push_back({"ip", "-n", node, "address", "add", address(i) + "/24", "dev", "net"});
    all.push_back({"ip", "-n", node, "link", "set", "lo", "up"});
    all.push_back({"ip", "-n", node, "link", "set", "net", "up"});
  }
  for (auto& one : all)
    if (auto done = command(std::move(one)); !done) return fail(done.error());
  return {};
}

star_network::~star_network() {
  // What is left of a namespace goes with its last process.
  for (std::size_t i = 0; i <= nodes_; ++i) test::remove_network(name(i));
}

result<void> star_network::enter(std::size_t node) const {
  const auto path = "/run/netns/" + name(node);
  const unique_fd ns{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  if (!ns || ::setns(ns.get(), CLONE_NEWNET) != 0) return fail(io_error("enter", path, errno));
  return {};
}

void star_network::inside(std::size_t node, const std::function<void()>& what) const {
  std::thread{[&] {
    if (enter(node)) what();
  }}.join();
}

result<void> star_network::set_link(std::size_t node, bool is_up) const {
  auto done = command({"ip", "-n", name(nodes_), "link", "set", "port" + std::to_string(node),
                       is_up ? "up" : "down"});
  return done ? result<void>{} : fail(done.error());
}

result<void> star_network::lose(std::size_t node, double share) const {
  auto done = command({"nsenter", "--net=/run/netns/" + name(node), "iptables", "-w", "-A", "INPUT",
                       "-i", "net", "-m", "statistic", "--mode", "random", "--probability",
                       std::to_string(share), "-j", "DROP"});
  return done ? result<void>{} : fail(done.error());
}

result<void> star_network::slow_down(std::size_t node, const std::string& rate) const {
  auto done = command({"tc", "-n", name(node), "qdisc", "add", "dev", "net", "root", "tbf", "rate",
                       rate, "burst", "10k", "latency", "10s"});
  return done ? result<void>{} : fail(done.error());
}

result<void> star_network::heal(std::size_t node) const {
  auto done =
      command({"nsenter", "--net=/run/netns/" + name(node), "iptables", "-w", "-F", "INPUT"});
  if (!done) return fail(done.error());
  // There may be none to delete.
  [[maybe_unused]] const auto gone =
      command({"tc", "-n", name(node), "qdisc", "delete", "dev", "net", "root"});
  return {};
}

}  // namespace ntrace::chaos
