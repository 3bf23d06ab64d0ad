#include "tests/bench/tunnel_peers.hpp"

#include <fcntl.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <list>
#include <memory>
#include <sstream>

#include "config/subprocess.hpp"
#include "net/socket.hpp"
#include "tests/support/guardian.hpp"

namespace ntrace::bench {
namespace {

host_port local(int port) { return {"127.0.0.1", static_cast<std::uint16_t>(port)}; }

void add_descendants(int pid, std::set<int>& out) {
  std::error_code ignored;
  for (const auto& task :
       std::filesystem::directory_iterator{"/proc/" + std::to_string(pid) + "/task", ignored}) {
    std::ifstream in{task.path() / "children"};
    for (int child = 0; in >> child;)
      if (out.insert(child).second) add_descendants(child, out);
  }
}

}  // namespace

bool enter_own_network() {
  if (::unshare(CLONE_NEWNET) != 0) return false;
  const unique_fd fd{::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)};
  ifreq lo{};
  std::strcpy(lo.ifr_name, "lo");
  lo.ifr_flags = IFF_UP | IFF_RUNNING;
  return ::ioctl(fd.get(), SIOCSIFFLAGS, &lo) == 0;
}

bool set_black_hole(int port, bool on) {
  bool out = true;
  for (const char* side : {"--dport", "--sport"}) {
    subprocess_spec spec;
    spec.argv = {"iptables", "-w", on ? "-A" : "-D",     "INPUT", "-i",  "lo", "-p",
                 "tcp",      side, std::to_string(port), "-j",    "DROP"};
    const auto done = run_subprocess(spec);
    out = out && done && done->ok();
  }
  return out;
}

bool wait_for_port(int port, milliseconds deadline) {
  const auto end = steady_clock::now() + deadline;
  while (steady_clock::now() < end) {
    if (net::connect_tcp(local(port), milliseconds{200})) return true;
    ::poll(nullptr, 0, 1);
  }
  return false;
}

unique_fd dial_port(int port, milliseconds patience) {
  auto fd = net::connect_tcp(local(port), patience);
  if (!fd) return {};
  const int flags = ::fcntl(fd->get(), F_GETFL);
  ::fcntl(fd->get(), F_SETFL, flags & ~O_NONBLOCK);
  const auto ms = patience.count();
  const timeval limit{ms / 1000, (ms % 1000) * 1000};
  ::setsockopt(fd->get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  ::setsockopt(fd->get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  return std::move(*fd);
}

process::process(std::vector<std::string> argv, std::vector<std::string> env,
                 const std::string& log) {
  subprocess_spec spec;
  spec.argv = std::move(argv);
  spec.env = std::move(env);
  const unique_fd out{::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600)};
  pid_ = test::spawn_guarded(spec, -1, out.get(), out.get()).value_or(-1);
}

process& process::operator=(process&& other) noexcept {
  stop();
  pid_ = std::exchange(other.pid_, -1);
  return *this;
}

std::set<int> process::all() const {
  std::set<int> out;
  if (pid_ <= 0) return out;
  out.insert(pid_);
  add_descendants(pid_, out);
  return out;
}

void process::stop() {
  if (pid_ <= 0) return;
  for (const int pid : all()) ::kill(pid, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
  pid_ = -1;
}

milliseconds process::cpu() const {
  long ticks = 0;
  for (const int pid : all()) {
    std::ifstream in{"/proc/" + std::to_string(pid) + "/stat"};
    std::string text((std::istreambuf_iterator<char>(in)), {});
    const auto name_end = text.rfind(')');
    if (name_end == text.npos) continue;
    std::istringstream rest{text.substr(name_end + 2)};
    std::string skipped;
    for (int field = 3; field < 14; ++field) rest >> skipped;  // proc(5): utime is field 14.
    long user = 0, system = 0;
    rest >> user >> system;
    ticks += user + system;
  }
  return milliseconds{ticks * 1000 / ::sysconf(_SC_CLK_TCK)};
}

std::size_t process::memory_bytes() const {
  std::size_t out = 0;
  for (const int pid : all()) {
    std::ifstream in{"/proc/" + std::to_string(pid) + "/statm"};
    std::size_t total = 0, resident = 0;
    in >> total >> resident;
    out += resident * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  }
  return out;
}

target_server::target_server() : port_{free_port()} {
  if (auto made = net::listen_tcp(local(port_), 1024)) listener_ = std::move(*made);
  thread_ = std::thread{[this] { run(); }};
}

target_server::~target_server() {
  stop_.raise();
  thread_.join();
}

void target_server::run() {
  std::list<std::thread> serving;
  while (net::wait_ready(listener_.get(), false, milliseconds{3'600'000}, &stop_)) {
    const int accepted = ::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC);
    if (accepted < 0) continue;
    serving.emplace_back([this, fd = std::make_shared<unique_fd>(accepted)] {
      const int one = 1;
      ::setsockopt(fd->get(), IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
      std::string bytes(64 << 10, '\0');
      char what = 0;
      std::uint64_t size = 0;
      const auto take = [&](void* to, std::size_t n) {
        return net::wait_ready(fd->get(), false, milliseconds{3'600'000}, &stop_) &&
               ::recv(fd->get(), to, n, MSG_WAITALL) == static_cast<ssize_t>(n);
      };
      if (!take(&what, 1) || (what != 'e' && !take(&size, sizeof size))) return;
      while (what == 'g' && size > 0) {
        const auto n = std::min<std::size_t>(size, bytes.size());
        if (!write_all(fd->get(), {bytes.data(), n})) return;
        size -= n;
      }
      while (what != 'g' && net::wait_ready(fd->get(), false, milliseconds{3'600'000}, &stop_)) {
        const auto n = ::recv(fd->get(), bytes.data(), bytes.size(), 0);
        if (n <= 0) return;
        if (what == 'e') {
          if (!write_all(fd->get(), {bytes.data(), static_cast<std::size_t>(n)})) return;
        } else if ((size -= static_cast<std::uint64_t>(n)) == 0) {
          (void)write_all(fd->get(), "k");
        }
      }
    });
  }
  for (auto& t : serving) t.join();
}

private_sshd::private_sshd(const std::string& folder, int target)
    : setup_{folder, free_port(), local(target), "MaxStartups 100:30:200\nMaxSessions 100"} {}

result<void> private_sshd::prepare() {
  if (auto made = setup_.make_keys(); !made) return made;
  return setup_.write_config();
}

bool private_sshd::start() {
  process_ = process{setup_.argv(), {}, setup_.folder + "/log"};
  return wait_for_port(setup_.port, milliseconds{5000});
}

void private_sshd::kill_all() { process_.stop(); }

std::set<int> private_sshd::sessions() const {
  auto out = process_.all();
  out.erase(process_.pid());
  return out;
}

std::vector<tunnel_kind> tunnel_kinds(const test::sshd_setup& to,
                                      std::vector<std::string>& missing) {
  const auto log = to.folder + "/tunnels.log";
  std::vector<tunnel_kind> out;
  out.push_back({"ntrace",
                 [to, log](int listen) {
                   return process{
                       {"/proc/self/exe", "tunnel", "run", to.url(), "--tunnel-listen",
                        local(listen).text(), "--dispatcher", to.target.text(), "--tunnel-key-file",
                        to.key_file(), "--tunnel-known-hosts-file", to.known_hosts_file(), "--data",
                        to.folder, "--log-level", "off"},
                       {},
                       log};
                 },
                 true});
  if (::access("/usr/bin/autossh", X_OK) != 0) {
    missing.push_back("autossh");
    return out;
  }
  const auto ssh = [to](int listen, std::vector<std::string> more) {
    std::vector<std::string> words{"-F", "/dev/null", "-N", "-T"};
    for (const auto* option :
         {"ExitOnForwardFailure=yes", "ServerAliveInterval=1", "ServerAliveCountMax=2",
          "StrictHostKeyChecking=yes", "BatchMode=yes", "IdentitiesOnly=yes"})
      words.insert(words.end(), {"-o", option});
    words.insert(words.end(),
                 {"-o", "UserKnownHostsFile=" + to.known_hosts_file(), "-i", to.key_file(), "-p",
                  std::to_string(to.port), "-L", local(listen).text() + ":" + to.target.text()});
    words.insert(words.end(), more.begin(), more.end());
    words.push_back(to.user() + "@127.0.0.1");
    return words;
  };
  for (const auto* poll : {"10", "30"})
    out.push_back(
        {std::string{"autossh-"} + poll, [ssh, log, poll](int listen) {
           auto words = ssh(listen, {});
           words.insert(words.begin(), {"autossh", "-M", "0"});
           return process{words, {std::string{"AUTOSSH_POLL="} + poll, "AUTOSSH_GATETIME=0"}, log};
         }});
  out.push_back({"ssh-aes128-ctr",
                 [ssh, log](int listen) {
                   auto words = ssh(listen, {"-c", "aes128-ctr", "-m", "hmac-sha2-256"});
                   words.insert(words.begin(), "ssh");
                   return process{words, {}, log};
                 },
                 false, true});
  return out;
}

}  // namespace ntrace::bench
