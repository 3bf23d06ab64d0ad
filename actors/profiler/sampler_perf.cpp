#include "actors/profiler/sampler_perf.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <filesystem>
#include <sstream>

#include "config/subprocess.hpp"

namespace ntrace::profiler {
namespace {

constexpr milliseconds command_deadline{10'000};
constexpr milliseconds stop_deadline{20'000};
constexpr milliseconds pid_poll{50};  // A process that lives shorter keeps its JIT frames unnamed.

auto broken(std::string message) { return fail(ec::profile_failed, std::move(message)); }

/// The last number of the NSpid line: the pid in the innermost namespace (proc_pid_status(5)).
int zone_pid_of(int pid) {
  std::istringstream in{
      read_file("/proc/" + std::to_string(pid) + "/status", 1u << 16).value_or("")};
  for (std::string line; std::getline(in, line);) {
    if (!line.starts_with("NSpid:")) continue;
    std::istringstream numbers{line.substr(6)};
    int last = 0, count = 0;
    for (int value = 0; numbers >> value; ++count) last = value;
    return count > 1 ? last : 0;
  }
  return 0;
}

void append_children(int pid, std::vector<int>& out) {
  const auto base = "/proc/" + std::to_string(pid) + "/task";
  std::error_code code;
  for (const auto& task : std::filesystem::directory_iterator{base, code}) {
    std::istringstream in{read_file(task.path().string() + "/children", 1u << 20).value_or("")};
    for (int child = 0; in >> child;) {
      out.push_back(child);
      if (out.size() < 65536) append_children(child, out);
    }
  }
}

std::vector<int> members(const sampler_spec& spec) {
  std::vector<int> out;
  if (spec.cgroup.empty()) {
    append_children(spec.init_pid, out);
  } else {
    std::istringstream in{read_file(spec.cgroup + "/cgroup.procs", 1u << 20).value_or("")};
    for (int pid = 0; in >> pid;) out.push_back(pid);
  }
  return out;
}

/// What follows the v2 mount point in the group's path, as perf's -G wants it.
std::string relative_group(const std::string& cgroup) {
  const auto at = cgroup.find("/ntrace/");
  return at == std::string::npos ? cgroup : cgroup.substr(at + 1);
}

}  // namespace

std::string sampling_event() {
  static const std::string event = [] {
    subprocess_spec spec;
    spec.argv = {"perf", "stat", "-x,", "-e", "cycles", "true"};
    spec.deadline = milliseconds{5000};
    const auto done = run_subprocess(spec);
    const bool counts = done && done->ok() && done->err.find("<not") == std::string::npos &&
                        done->err.find("cycles") != std::string::npos;
    return std::string{counts ? "cycles" : "cpu-clock"};
  }();
  return event;
}

std::shared_ptr<const kernel_symbols> host_kernel_symbols() {
  static const auto symbols = []() -> std::shared_ptr<const kernel_symbols> {
    auto out = std::make_shared<kernel_symbols>();
    out->add(read_file("/proc/kallsyms").value_or(""));
    return out->is_empty() ? nullptr : out;
  }();
  return symbols;
}

std::string sampler_perf::node_options(const std::string& node_options) {
  const std::string ours = "--perf-basic-prof --interpreted-frames-native-stack";
  if (node_options.find("--perf-basic-prof") != std::string::npos) return node_options;
  return node_options.empty() ? ours : node_options + " " + ours;
}

std::vector<std::string> sampler_perf::script_command() {
  return {"perf",        "script",
          "-f",          "-i",
          "/dev/stdin",  "--no-inline",
          "--max-stack", "127",
          "-F",          "comm,pid,tid,cpu,time,period,event,ip,sym,symoff,dso"};
}

result<std::unique_ptr<sampler_perf>> sampler_perf::start(const sampler_spec& spec) {
  std::unique_ptr<sampler_perf> out{new sampler_perf};
  out->spec_ = spec;
  out->folder_.emplace(spec.scratch, "perf");
  if (out->folder_->path().empty()) return broken("no folder for perf in " + spec.scratch);
  std::array<int, 2> control{}, ack{}, errors{};
  if (::pipe2(control.data(), O_CLOEXEC) != 0 || ::pipe2(ack.data(), O_CLOEXEC) != 0 ||
      ::pipe2(errors.data(), O_CLOEXEC) != 0)
    return broken("no descriptors left for perf");
  out->control_ = unique_fd{control[1]};
  out->ack_ = unique_fd{ack[0]};
  out->errors_ = unique_fd{errors[0]};
  const unique_fd control_child{control[0]}, ack_child{ack[1]}, errors_child{errors[1]};
  const bool by_group = !spec.cgroup.empty();
  out->event_ = sampling_event();
  subprocess_spec perf;
  perf.argv = {"perf",
               "record",
               "-e",
               by_group ? out->event_ : out->event_ + ":u",
               "-F",
               std::to_string(spec.frequency),
               "-g",
               "-N",
               "-B",
               "-D",
               "-1",
               "--control",
               "fd:" + std::to_string(control_child.get()) + "," + std::to_string(ack_child.get()),
               "-o",
               out->folder_->path() + "/perf.data"};
  if (by_group)
    perf.argv.insert(perf.argv.end(), {"-a", "-G", relative_group(spec.cgroup)});
  else
    perf.argv.insert(perf.argv.end(), {"-p", std::to_string(spec.init_pid)});
  const auto pid =
      spawn_subprocess(perf, -1, -1, errors_child.get(), {control_child.get(), ack_child.get()});
  if (!pid) return broken(pid.error().message + "; install linux-perf");
  out->pid_ = *pid;
  out->watcher_ = std::thread{[self = out.get()] { self->watch_pids(); }};
  return out;
}

result<void> sampler_perf::command(std::string_view word) {
  std::string line{word};
  line += "\n";
  if (!write_all(control_.get(), line)) return broken("perf is gone");
  const auto until = steady_clock::now() + command_deadline;
  std::string answer;
  std::string words;
  for (;;) {
    std::array<pollfd, 2> fds{{{ack_.get(), POLLIN, 0}, {errors_.get(), POLLIN, 0}}};
    const auto left = std::chrono::ceil<milliseconds>(until - steady_clock::now()).count();
    const int n = left > 0 ? ::poll(fds.data(), fds.size(), static_cast<int>(left)) : 0;
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return broken("perf does not answer \"" + std::string{word} + "\": " + words);
    char block[512];
    if (fds[1].revents != 0) {
      const auto got = ::read(errors_.get(), block, sizeof block);
      if (got > 0 && words.size() < 4096) words.append(block, static_cast<std::size_t>(got));
      // The end of its standard error is the end of perf: it could not record.
      if (got <= 0) return broken("perf record ended: " + words);
    }
    if (fds[0].revents != 0) {
      const auto got = ::read(ack_.get(), block, sizeof block);
      if (got > 0) answer.append(block, static_cast<std::size_t>(got));
      if (answer.find("ack") != std::string::npos) return {};
      if (got <= 0) return broken("perf record ended: " + words);
    }
  }
}

result<void> sampler_perf::enable() { return command("enable"); }

void sampler_perf::watch_pids() {
  for (;;) {
    for (const int pid : members(spec_)) {
      {
        const std::lock_guard lock{guard_};
        if (zone_pids_.count(pid) != 0) continue;
      }
      if (const int inside = zone_pid_of(pid); inside > 0) {
        const std::lock_guard lock{guard_};
        zone_pids_[pid] = inside;
      }
    }
    pollfd stop{done_.fd(), POLLIN, 0};
    if (::poll(&stop, 1, static_cast<int>(pid_poll.count())) > 0) return;
  }
}

result<raw_capture> sampler_perf::stop() {
  raw_capture out;
  out.event = event_;
  auto disabled = command("disable");
  done_.raise();
  watcher_.join();
  const unique_fd process{static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0))};
  ::kill(pid_, SIGINT);
  const auto until = steady_clock::now() + stop_deadline;
  for (bool alive = true; alive;) {
    std::array<pollfd, 2> fds{{{process.get(), POLLIN, 0}, {errors_.get(), POLLIN, 0}}};
    const auto left = std::chrono::ceil<milliseconds>(until - steady_clock::now()).count();
    if (left <= 0) {
      out.truncated = true;
      ::kill(pid_, SIGKILL);
      break;
    }
    if (::poll(fds.data(), fds.size(), static_cast<int>(left)) < 0 && errno != EINTR) break;
    // Its chatter is read so that it never blocks on writing it.
    char block[4096];
    if (fds[1].revents != 0 && ::read(errors_.get(), block, sizeof block) <= 0) errors_.reset();
    alive = fds[0].revents == 0;
  }
  ::waitpid(pid_, nullptr, 0);
  pid_ = -1;
  if (!disabled && !out.truncated) return fail(disabled.error());
  const auto path = folder_->path() + "/perf.data";
  ::chmod(path.c_str(), 0644);
  out.data = unique_fd{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  if (!out.data) return broken("perf left no data");
  out.zone_pids = std::move(zone_pids_);
  return out;
}

sampler_perf::~sampler_perf() {
  if (watcher_.joinable()) {
    done_.raise();
    watcher_.join();
  }
  if (pid_ > 0) {
    ::kill(-pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
}

}  // namespace ntrace::profiler
