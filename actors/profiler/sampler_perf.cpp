#include "actors/profiler/sampler_perf.hpp"

#include <fcntl.h>
#include <fmt/core.h>
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

// Perf opens an event on each CPU; a loaded machine is slow.
constexpr milliseconds command_deadline{10'000};
constexpr milliseconds stop_deadline{20'000};  // perf writes its last buffers, then it is killed
constexpr milliseconds pid_poll{50};  // A process that lives shorter keeps its JIT frames unnamed.

/// In pages for each CPU. The kernel counts what an ordinary user's recordings hold, of all his
/// processes together (perf_event_mlock_kb): the first takes what is there, others take less.
constexpr std::array ring_pages{128, 32, 8};

auto broken(std::string message) { return fail(ec::profile_failed, std::move(message)); }

/// perf explains itself in paragraphs. An error is one line.
std::string on_one_line(const std::string& words) {
  constexpr std::size_t bytes_max = 400;
  std::istringstream in{words};
  std::string out;
  for (std::string word; in >> word && out.size() < bytes_max;)
    out += (out.empty() ? "" : " ") + word;
  return out;
}

/// The setting as the kernel prints it; empty where there is none.
std::string paranoia() {
  auto text = read_file("/proc/sys/kernel/perf_event_paranoid", 64).value_or("");
  while (text.ends_with('\n')) text.pop_back();
  return text;
}

/// perf_event_open(2): from 2 on, only a privileged process samples the kernel.
bool may_sample_kernel() {
  if (::geteuid() == 0) return true;
  const auto level = paranoia();
  return level == "1" || level == "0" || level == "-1";
}

/// What perf said when it could not record, and the setting that mostly decides it.
auto not_recording(const std::string& words) {
  const auto level = paranoia();
  return broken("perf cannot record: " + on_one_line(words) +
                (::geteuid() == 0 || level.empty() ? ""
                                                   : "; kernel.perf_event_paranoid is " + level +
                                                         ", and an ordinary user needs 2 or less"));
}

/// The last number of the NSpid line: the pid in the innermost namespace (proc_pid_status(5)).
int zone_pid_of(int pid) {
  std::istringstream in{read_file(fmt::format("/proc/{}/status", pid), 1u << 16).value_or("")};
  for (std::string line; std::getline(in, line);) {
    if (!line.starts_with("NSpid:")) continue;
    std::istringstream numbers{line.substr(6)};
    int last = 0, count = 0;
    for (int value = 0; numbers >> value; ++count) last = value;
    return count > 1 ? last : 0;
  }
  return 0;
}

/// All descendants. proc(5) lists the children of each thread. Bounded: a fork bomb may be there.
void append_children(int pid, std::vector<int>& out) {
  const auto base = fmt::format("/proc/{}/task", pid);
  std::error_code code;
  for (const auto& task : std::filesystem::directory_iterator{base, code}) {
    std::istringstream in{read_file(task.path().string() + "/children", 1u << 20).value_or("")};
    for (int child = 0; in >> child;) {
      out.push_back(child);
      if (out.size() < 65536) append_children(child, out);
    }
  }
}

/// The pids to record: of the cgroup, or without one init's descendants.
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
          "-F",          "comm,pid,tid,time,period,event,ip,sym,symoff,dso"};
}

result<void> sampler_perf::record(int pages) {
  std::array<int, 2> control{}, ack{}, errors{};
  if (::pipe2(control.data(), O_CLOEXEC) != 0 || ::pipe2(ack.data(), O_CLOEXEC) != 0 ||
      ::pipe2(errors.data(), O_CLOEXEC) != 0)
    return broken("no descriptors left for perf");
  control_ = unique_fd{control[1]};
  ack_ = unique_fd{ack[0]};
  errors_ = unique_fd{errors[0]};
  const unique_fd control_child{control[0]}, ack_child{ack[1]}, errors_child{errors[1]};
  subprocess_spec perf;
  perf.argv = {"perf",
               "record",
               "-e",
               event_,
               "-F",
               std::to_string(spec_.frequency),
               "-g",
               "-N",
               "-B",
               "-D",
               "-1",
               "-m",
               std::to_string(pages),
               "--control",
               fmt::format("fd:{},{}", control_child.get(), ack_child.get()),
               "-o",
               folder_->path() + "/perf.data"};
  if (spec_.cgroup.empty())
    perf.argv.insert(perf.argv.end(), {"-p", std::to_string(spec_.init_pid)});
  else
    perf.argv.insert(perf.argv.end(), {"-a", "-G", relative_group(spec_.cgroup)});
  const auto pid =
      spawn_subprocess(perf, -1, -1, errors_child.get(), {control_child.get(), ack_child.get()});
  if (!pid) return broken(pid.error().message + "; install linux-perf");
  pid_ = *pid;
  return {};
}

void sampler_perf::end_perf() {
  if (pid_ <= 0) return;
  ::kill(-pid_, SIGKILL);
  ::waitpid(std::exchange(pid_, -1), nullptr, 0);
}

result<std::unique_ptr<sampler_perf>> sampler_perf::start(const sampler_spec& spec) {
  std::unique_ptr<sampler_perf> out{new sampler_perf};
  out->spec_ = spec;
  out->folder_.emplace(spec.scratch, "perf");
  if (out->folder_->path().empty()) return broken("no folder for perf in " + spec.scratch);
  out->event_ = sampling_event();
  if (spec.cgroup.empty() && !may_sample_kernel()) out->event_ += ":u";
  // Only its answer says that the kernel let it open its events.
  auto armed = result<void>{};
  for (const int pages : ring_pages) {
    if (auto spawned = out->record(pages); !spawned) return fail(spawned.error());
    armed = out->command("ping");
    if (armed) break;
    out->end_perf();
  }
  if (!armed) return fail(armed.error());
  out->watcher_ = std::thread{[self = out.get()] { self->watch_pids(); }};
  return out;
}

result<void> sampler_perf::command(std::string_view word) {
  std::string line{word};
  line += "\n";
  // When it cannot be written, perf has ended, and its standard error says why.
  [[maybe_unused]] const bool is_written = write_all(control_.get(), line);
  const auto until = steady_clock::now() + command_deadline;
  std::string answer;
  std::string words;
  for (;;) {
    std::array<pollfd, 2> fds{{{ack_.get(), POLLIN, 0}, {errors_.get(), POLLIN, 0}}};
    const auto left = std::chrono::ceil<milliseconds>(until - steady_clock::now()).count();
    const int n = left > 0 ? ::poll(fds.data(), fds.size(), static_cast<int>(left)) : 0;
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0)
      return broken(fmt::format("perf does not answer \"{}\": {}", word, on_one_line(words)));
    char block[512];
    if (fds[1].revents != 0) {
      const auto got = ::read(errors_.get(), block, sizeof block);
      if (got > 0 && words.size() < 4096) words.append(block, static_cast<std::size_t>(got));
      // The end of its standard error is the end of perf: it could not record.
      if (got <= 0) return not_recording(words);
    }
    if (fds[0].revents != 0) {
      const auto got = ::read(ack_.get(), block, sizeof block);
      if (got > 0) answer.append(block, static_cast<std::size_t>(got));
      if (answer.find("ack") != std::string::npos) return {};
      if (got <= 0) return not_recording(words);
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
  end_perf();
}

}  // namespace ntrace::profiler
