#include "tests/chaos/fleet.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "config/subprocess.hpp"
#include "net/rpc_client.hpp"
#include "tests/support/guardian.hpp"
#include "tests/support/leftovers.hpp"

namespace ntrace::chaos {
namespace {

using nlohmann::json;

constexpr const char* dispatcher_at = "127.0.0.1:9181";
constexpr const char* runner_at = "127.0.0.1:9182";
constexpr const char* shell_at = "127.0.0.1:9184";
constexpr const char* any_port = "127.0.0.1:0";
constexpr const char* disk_size = "size=192m";
constexpr int ssh_port = 2222;
constexpr milliseconds ask_max{2'000}, up_max{60'000};

std::string faketime_library() {
  for (const auto& folder : std::filesystem::directory_iterator{"/usr/lib"})
    if (const auto path = folder.path() / "faketime/libfaketimeMT.so.1";
        std::filesystem::exists(path))
      return path;
  return "";
}

bool all_run(const json& tree) {
  for (const auto& child : tree.value("children", json::array())) {
    if (child.value("state", "") != "running") return false;
    if (child.contains("tree") && !all_run(child["tree"])) return false;
  }
  return true;
}

}  // namespace

result<std::unique_ptr<fleet>> fleet::make(const chaos_options& options) {
  std::unique_ptr<fleet> out{new fleet{options}};
  if (auto done = out->set_up(); !done) return fail(done.error());
  return out;
}

fleet::~fleet() {
  for (std::size_t i = servers_.size(); i-- > 0;) servers_[i]->kill();
  if (sshd_) {
    const auto sessions = test::descendants(sshd_->pid(), "sshd");
    sshd_->kill();
    for (const int pid : sessions) ::kill(pid, SIGKILL);
  }
}

std::string fleet::data(std::size_t node) const { return disk(node) + "/data"; }

std::string fleet::disk(std::size_t node) const { return folder_ + "/node" + std::to_string(node); }

result<void> fleet::make_certificates() const {
  const auto in = [this](const char* name) { return folder_ + "/" + name; };
  const std::vector<std::vector<std::string>> all{
      {"openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
       "-keyout", in("ca.key"), "-out", in("ca.pem"), "-subj", "/CN=chaos", "-days", "3650"},
      {"openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
       "-keyout", in("node.key"), "-out", in("node.csr"), "-subj", "/CN=node"},
      {"openssl", "x509", "-req", "-in", in("node.csr"), "-CA", in("ca.pem"), "-CAkey",
       in("ca.key"), "-CAcreateserial", "-out", in("node.pem"), "-days", "3650"}};
  for (const auto& one : all)
    if (auto done = command(one); !done) return fail(done.error());
  return {};
}

std::vector<std::string> fleet::words_on(std::size_t node, const char* dispatcher) const {
  return {program_,
          node == 0 ? "dispatcher" : "runner",
          "--json",
          "--data",
          data(node),
          "--dispatcher",
          dispatcher,
          "--lease-ms",
          std::to_string(lease.count()),
          "--offer-ms",
          "500",
          "--attempts",
          std::to_string(attempts_max),
          "--backoff-min-ms",
          "20",
          "--backoff-max-ms",
          "500"};
}

std::vector<std::string> fleet::words_of(std::size_t node) const {
  auto out = words_on(node, dispatcher_at);
  out.insert(out.end(), {"--faults", "true", "--shell-operator", shell_at, "--shell-cert-file",
                         folder_ + "/node.pem", "--shell-key-file", folder_ + "/node.key",
                         "--shell-operator-ca-file", folder_ + "/ca.pem"});
  if (node > 0)
    out.insert(out.end(), {"--runner",
                           runner_at,
                           "--runner-name",
                           "runner" + std::to_string(node),
                           "--workers",
                           std::to_string(workers),
                           "--tunnel",
                           ssh_.url(),
                           "--tunnel-listen",
                           dispatcher_at,
                           "--tunnel-key-file",
                           ssh_.key_file(),
                           "--tunnel-known-hosts-file",
                           ssh_.known_hosts_file(),
                           "--tunnel-suspect-grace-ms",
                           "2000",
                           "--github-url",
                           forge_->url(),
                           "--ca-file",
                           folder_ + "/ca.pem"});
  return out;
}

result<subprocess_result> fleet::try_second(std::size_t node, milliseconds deadline) const {
  auto words = words_on(node, node == 0 ? any_port : dispatcher_at);
  if (node > 0) words.insert(words.end(), {"--runner", any_port, "--runner-name", "second"});
  return servers_.at(node)->run_beside(words, deadline);
}

result<void> fleet::set_up() {
  auto made = star_network::make(places);
  if (!made) return fail(made.error());
  network_ = std::move(*made);
  faketime_ = faketime_library();
  if (auto done = make_certificates(); !done) return done;
  ssh_.folder = folder_ + "/ssh";
  ssh_.port = ssh_port;
  ssh_.address = star_network::address(0);
  ssh_.target = {"127.0.0.1", 9181};
  if (auto keys = ssh_.make_keys(); !keys) return keys;
  if (auto config = ssh_.write_config(); !config) return config;
  auto sources = forge::make(folder_, network_->name(forge_node), network_->address(forge_node));
  if (!sources) return fail(sources.error());
  forge_ = std::move(*sources);
  sshd_ = std::make_unique<process>("sshd", network_->name(0), ssh_.argv(),
                                    std::vector<std::string>{}, folder_ + "/sshd.log");
  for (std::size_t i = 0; i < nodes; ++i) {
    const auto top = disk(i);
    if (auto folder = make_folders(top, 0711); !folder) return folder;
    if (i == 0) {
      if (const auto made_disk = dispatcher_disk().make(); !made_disk)
        no_dispatcher_disk_ = to_string(made_disk.error());
    }
    if ((i > 0 || !no_dispatcher_disk_.empty()) &&
        ::mount("ntrace-chaos", top.c_str(), "tmpfs", 0, disk_size) != 0)
      return fail(io_error("mount a disk at", top, errno));
    std::vector<std::string> env;
    if (has_clocks()) {
      set_clock(i, 0);
      env = {"LD_PRELOAD=" + faketime_, "DONT_FAKE_MONOTONIC=1", "FAKETIME_NO_CACHE=1",
             "FAKETIME_TIMESTAMP_FILE=" + folder_ + "/clock" + std::to_string(i)};
    }
    if (plant_ != 0) env.push_back("NTRACE_PLANT=" + std::to_string(plant_));
    servers_.push_back(std::make_unique<process>(
        i == 0 ? "dispatcher" : "runner" + std::to_string(i), network_->name(i), words_of(i), env,
        folder_ + "/node" + std::to_string(i) + ".log"));
  }
  return start_all();
}

result<void> fleet::start_all() {
  if (auto started = sshd_->start(); !started) return started;
  if (auto started = forge_->server().start(); !started) return started;
  for (const auto& one : servers_)
    if (auto started = one->start(); !started) return started;
  const auto end = steady_clock::now() + up_max;
  for (std::size_t i = 0; i < places; ++i)
    while (!is_well(i)) {
      auto& one = server(i);
      if (const auto why = one.died(); !why.empty() || steady_clock::now() > end)
        return fail(ec::io, "the fleet does not come up: " +
                                (why.empty() ? one.name() + " is not well" : why) + "; see " +
                                one.log());
      wait_a_little();
    }
  return {};
}

result<json> fleet::ask(std::size_t node, const char* method, const json& args) const {
  result<json> out = fail(ec::unreachable, "no network");
  network_->inside(node, [&] {
    auto client =
        net::rpc_client::connect(*parse_host_port(node == 0 ? dispatcher_at : runner_at), ask_max);
    out = client ? client->call(method, args, ask_max) : fail(client.error());
  });
  return out;
}

result<json> fleet::shell(std::size_t node, std::vector<std::string> words) const {
  std::vector<std::string> argv{"nsenter",
                                "--net=/run/netns/" + network_->name(node),
                                program_,
                                "shell",
                                "--json",
                                "--cert",
                                folder_ + "/node.pem",
                                "--key",
                                folder_ + "/node.key",
                                "--ca",
                                folder_ + "/ca.pem",
                                shell_at};
  argv.insert(argv.end(), words.begin(), words.end());
  const auto said = command(std::move(argv));
  if (!said) return fail(said.error());
  return json::parse(*said, nullptr, false);
}

bool fleet::is_forge_well() const {
  const auto status = ask(0, "status");
  if (!status) return false;
  for (const auto& one : status->value("outages", json::array()))
    if (one.value("host", "") == forge_->host()) return false;
  bool is_reached = false;
  network_->inside(0, [&] { is_reached = forge_->is_reached(ask_max); });
  return is_reached;
}

bool fleet::is_well(std::size_t node) const {
  if (node == forge_node) return is_forge_well();
  const auto status = ask(node, "status");
  if (!status) return false;
  const auto tree = ask(node, "tree");
  if (!tree || !all_run(*tree)) return false;
  if (node == 0) return true;
  if (!status->value("linked", false)) return false;
  const auto list = ask(node, "workers");
  if (!list || list->size() != workers) return false;
  for (const auto& w : *list)
    if (const auto state = w.value("state", ""); state != "free" && state != "busy") return false;
  return true;
}

bool fleet::set_clock(std::size_t node, int seconds) const {
  if (!has_clocks()) return false;
  const auto text = (seconds < 0 ? "" : "+") + std::to_string(seconds) + "s";
  return write_file_durably(folder_ + "/clock" + std::to_string(node), text, 0644).has_value();
}

std::vector<int> fleet::zone_inits(std::size_t node) const {
  return test::descendants(servers_[node]->pid(), "ntrace-init");
}

int fleet::helper(std::size_t node) const {
  const auto found = test::descendants(servers_[node]->pid(), "ntrace-helper");
  return found.empty() ? -1 : found.front();
}

}  // namespace ntrace::chaos
