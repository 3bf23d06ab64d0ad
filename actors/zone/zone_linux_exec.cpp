// What runs in a booted zone: started by its init, pumped, watched and ended from outside.
#include <fcntl.h>
#include <fmt/core.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <cstring>

#include "actors/zone/disk_usage.hpp"
#include "actors/zone/job_input.hpp"
#include "actors/zone/linux/cgroup.hpp"
#include "actors/zone/zone_linux.hpp"
#include "config/gauges.hpp"
#include "config/limits.hpp"

namespace ntrace::zone {
namespace {

constexpr milliseconds last_words{1000};            // for output after the program's end
constexpr milliseconds init_deadline{2000};         // for init to kill what it was told to
constexpr std::uint64_t disk_room_min = 64u << 10;  // with less, a write has failed or soon does
constexpr milliseconds collect_deadline{60'000};
constexpr milliseconds final_look{1000};  // at the disk of who failed
constexpr std::uint64_t mib = 1u << 20;
constexpr milliseconds kill_deadline{10'000};  // docs/zones.md, "Exec, and the end"

struct pipe_ends {
  unique_fd read, write;
};

result<pipe_ends> make_pipe() {
  std::array<int, 2> fds{};
  if (::pipe2(fds.data(), O_CLOEXEC) != 0) return fail(io_error("pipe", "zone", errno));
  // Ours must never block; the job's end keeps its ordinary, blocking nature.
  ::fcntl(fds[0], F_SETFL, O_NONBLOCK);
  return pipe_ends{unique_fd{fds[0]}, unique_fd{fds[1]}};
}

result<pipe_ends> make_input_pipe() {
  std::array<int, 2> fds{};
  if (::pipe2(fds.data(), O_CLOEXEC) != 0) return fail(io_error("pipe", "zone", errno));
  ::fcntl(fds[1], F_SETFL, O_NONBLOCK);
  return pipe_ends{unique_fd{fds[0]}, unique_fd{fds[1]}};
}

}  // namespace

/// The output of one exec on its way to the sink.
struct zone_linux::pumped {
  std::array<unique_fd, 2> pipes;
  output_limits limits;
  output_sink sink;
  std::array<unique_fd, 3> job_ends{};  ///< Closed once sent, or the streams would never end.
  job_input input{};
  std::array<std::uint64_t, 2> bytes{0, 0};

  /// Reads what is there; closes at the end of the stream.
  void read(std::size_t i) {
    static constexpr std::array<std::string_view, 2> names{"stdout", "stderr"};
    std::array<char, 65536> block;
    const auto n = ::read(pipes[i].get(), block.data(), block.size());
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) return;
    if (n <= 0) return pipes[i].reset();
    const auto got = static_cast<std::size_t>(n);
    const auto room = limits.kept_bytes - std::min(limits.kept_bytes, bytes[i]);
    bytes[i] += got;
    const auto kept = static_cast<std::size_t>(std::min<std::uint64_t>(room, got));
    if (kept < got)
      gauges::value("zone_output_dropped_bytes") += static_cast<std::int64_t>(got - kept);
    if (kept > 0) sink(names[i], {block.data(), kept});
  }
  /// Our ends of the streams, and room for what else is waited for.
  std::array<pollfd, 6> awaited() const {
    constexpr pollfd none{-1, POLLIN, 0};
    return {{{pipes[0].get(), POLLIN, 0},
             {pipes[1].get(), POLLIN, 0},
             none,
             none,
             none,
             input.awaited()}};
  }
  bool over_hard_limit() const { return bytes[0] + bytes[1] > limits.hard_bytes; }
  bool open() const { return pipes[0] || pipes[1]; }
};

void zone_linux::give_to_job(int fd) const {
  // /dev/stdout opens the pipe again, which needs its owner. Only root can give it away.
  if (::geteuid() == 0) [[maybe_unused]]
    const int ignored = ::fchown(fd, job_id_, job_id_);
}

result<exec_end> zone_linux::start_and_pump(init_record record, const std::array<int, 3>& stdio,
                                            pumped& streams, milliseconds deadline,
                                            const cancellation* stop) {
  if (pid_ < 0) return fail(ec::invalid_state, "zone " + uuid_ + " is not up");
  record.id = next_exec_++;
  const bool is_watched = !limits_.disk_in_memory;
  if (is_watched && record.op != init_op::collect)  // What it collects goes elsewhere.
    record.file_mib_max = static_cast<std::uint32_t>(
        std::min<std::uint64_t>((limits_.disk_bytes + mib - 1) / mib, UINT32_MAX));
  const auto oom_before = oom_kills(memory_path_);
  if (auto sent = send(record, stdio); !sent) return fail(sent.error());
  streams.job_ends = {};
  exec_end out;
  bool ended = false;
  bool killing = false, is_last = false;
  auto until = steady_clock::now() + deadline;
  disk_watch watch{upper_, cgroup_, fmt::format("/proc/{}/root", pid_), limits_.disk_bytes};
  auto look_at = steady_clock::now() + disk_watch::every;
  const auto kill = [&](bool& cause) {
    cause = true;
    killing = true;
    until = steady_clock::now() + init_deadline;
    kill_all();
  };
  while (!ended || streams.open()) {
    if (ended) streams.input.close();
    auto fds = streams.awaited();
    if (!ended) fds[2].fd = control_.get();
    if (!ended) fds[3].fd = pidfd_.get();
    if (stop && !killing && !ended) fds[4].fd = stop->fd();
    const bool may_fill = is_watched && !killing && !ended;
    const auto left = std::chrono::ceil<milliseconds>(until - steady_clock::now());
    const auto wait = std::clamp(may_fill ? std::min(left, disk_watch::every) : left,
                                 milliseconds{0}, milliseconds{INT_MAX});
    const int n = ::poll(fds.data(), fds.size(), static_cast<int>(wait.count()));
    if (n < 0 && errno != EINTR) return fail(io_error("poll", "zone", errno));
    if (const auto now = steady_clock::now(); may_fill && now >= look_at) {
      look_at = now + disk_watch::every;
      const auto found = watch.look(now);
      if (found == disk_watch::finding::beyond_bound) kill(out.disk_full);
      if (found == disk_watch::finding::no_reserve) kill(out.no_reserve);
      if (n == 0 && (killing || now < until)) continue;
    }
    if (n == 0 && ended) break;
    // Also when there is always something to pass on.
    const bool is_late = n == 0 || (!ended && steady_clock::now() >= until);
    if (is_late && is_last)
      return fail(ec::zone_failed, "a program in zone " + uuid_ + " survives SIGKILL");
    if (is_late && killing) {
      // Init does not do it: it is frozen, perhaps. With it everything in the zone dies.
      is_last = true;
      until = steady_clock::now() + kill_deadline;
      ++gauges::value("zone_inits_killed");
      ::syscall(SYS_pidfd_send_signal, pidfd_.get(), SIGKILL, nullptr, 0);
      continue;
    }
    if (is_late) kill(out.timed_out);
    if (n <= 0) continue;
    if (fds[5].revents != 0) streams.input.pass_on();
    for (std::size_t i = 0; i < 2; ++i)
      if (fds[i].revents != 0) streams.read(i);
    if (fds[4].revents != 0) kill(out.cancelled);
    if (streams.over_hard_limit() && !killing && !ended) kill(out.output_limit);
    if (fds[2].revents != 0) {
      if (auto answered = on_init_answer(record.id, out); !answered)
        return fail(answered.error());
      else
        ended = *answered;
    } else if (fds[3].revents != 0) {
      out.init_died = ended = true;
    }
    if (ended && (fds[2].revents != 0 || fds[3].revents != 0))
      until = steady_clock::now() + last_words;
  }
  if (!out.ok() && is_lease_over()) {  // Whatever it looks like: what killed it shows nowhere.
    out.lease_over = true;
    ++gauges::value("zone_leases_over");
    return out;
  }
  out.oom = oom_kills(memory_path_) > oom_before;
  if (!killing && !out.ok() && !out.init_died && limits_.disk_bytes > 0)
    out.disk_full = is_watched ? watch.is_beyond_bound(final_look) : is_disk_full();
  return out;
}

/// Seen through init's root: an overlay tells of the file system of its writable layer.
bool zone_linux::is_disk_full() const {
  const auto room = room_on_disk_of(fmt::format("/proc/{}/root", pid_));
  return room && (room->bytes < disk_room_min || room->files == 0);
}

/// One record of init while exec `id` runs: true when that is over.
result<bool> zone_linux::on_init_answer(std::uint32_t id, exec_end& out) {
  const auto got = receive();
  if (!got) {
    out.init_died = true;
    return true;
  }
  if (got->id != id) return false;
  if (got->op == init_op::refused)
    return fail(ec::zone_failed,
                std::string{"zone init cannot start it: "} + std::strerror(got->status));
  if (got->op != init_op::exited) return false;
  if (WIFEXITED(got->status)) out.exit_code = WEXITSTATUS(got->status);
  if (WIFSIGNALED(got->status)) out.signal = WTERMSIG(got->status);
  kill_all();  // What it left running must not hold up or bend what comes next.
  return true;
}

init_record zone_linux::record_of(init_op op, const exec_spec& spec) const {
  init_record out;
  out.op = op;
  out.uid = spec.as_root ? 0 : job_uid_;
  out.cwd = spec.cwd;
  out.argv = spec.argv;
  out.env = spec.env;
  return out;
}

result<exec_end> zone_linux::attend(const exec_spec& spec, unique_fd terminal) {
  if (!spec.as_root) give_to_job(terminal.get());
  pumped streams{{}, {}, {}};
  const int fd = terminal.get();
  streams.job_ends[0] = std::move(terminal);
  return start_and_pump(record_of(init_op::attend, spec), {fd, fd, fd}, streams, spec.deadline,
                        nullptr);
}

result<exec_end> zone_linux::exec(const exec_spec& spec, const output_limits& limits,
                                  const output_sink& sink, const cancellation* stop, int stdin_fd) {
  auto out = make_pipe();
  auto err = make_pipe();
  const unique_fd null{::open("/dev/null", O_RDONLY | O_CLOEXEC)};
  if (!out || !err || !null) return fail(ec::io, "no descriptors left for the zone's output");
  give_to_job(out->write.get());
  give_to_job(err->write.get());
  pumped streams{{std::move(out->read), std::move(err->read)}, limits, sink};
  streams.job_ends = {std::move(out->write), std::move(err->write), unique_fd{}};
  int in = stdin_fd >= 0 ? stdin_fd : null.get();
  if (stdin_fd >= 0 && !spec.input_is_its_own) {
    auto pipe = make_input_pipe();
    if (!pipe) return fail(ec::io, "no descriptors left for the zone's input");
    give_to_job(pipe->read.get());
    in = pipe->read.get();
    streams.job_ends[2] = std::move(pipe->read);
    streams.input = job_input{stdin_fd, std::move(pipe->write)};
  }
  auto ended = start_and_pump(record_of(init_op::exec, spec),
                              {in, streams.job_ends[0].get(), streams.job_ends[1].get()}, streams,
                              spec.deadline, stop);
  if (ended && streams.input.failed()) return fail(*streams.input.failed());
  return ended;
}

result<void> zone_linux::unpack(const std::string& folder, int bundle_fd, milliseconds deadline,
                                const cancellation* stop) {
  auto err = make_pipe();
  const unique_fd null{::open("/dev/null", O_RDWR | O_CLOEXEC)};
  if (!err || !null) return fail(ec::io, "no descriptors left for unpacking");
  init_record record;
  record.op = init_op::unpack;
  record.uid = job_uid_;
  record.cwd = folder;
  std::string words;
  pumped streams{{unique_fd{}, std::move(err->read)},
                 {4096, 1u << 20},
                 [&words](std::string_view, std::string_view data) { words.append(data); }};
  streams.job_ends[1] = std::move(err->write);
  const auto ended =
      start_and_pump(std::move(record), {bundle_fd, null.get(), streams.job_ends[1].get()}, streams,
                     deadline, stop);
  if (!ended) return fail(ended.error());
  if (ended->init_died || ended->lease_over) return gone();
  if (ended->cancelled) return fail(ec::cancelled, "unpacking was cancelled");
  if (ended->timed_out) return fail(ec::timed_out, "unpacking took too long");
  if (ended->disk_full) return fail(ec::disk_full, "the source needs more than zone_disk_bytes");
  if (ended->no_reserve)
    return fail(ec::io, "the disk of the runner's data folder is too full for the source");
  if (!ended->ok()) return fail(ec::source_failed, "the source cannot be unpacked: " + words);
  return {};
}

result<collected> zone_linux::collect(const std::string& folder, const std::string& prefix) {
  auto pipe = make_pipe();
  const unique_fd null{::open("/dev/null", O_RDWR | O_CLOEXEC)};
  if (!pipe || !null) return fail(ec::io, "no descriptors left for collecting");
  init_record record;
  record.op = init_op::collect;
  record.uid = job_uid_;
  record.cwd = folder;
  record.argv = {prefix};
  collected_reader reader;
  constexpr auto bytes_max = collect_bounds{}.bytes + collect_bounds{}.files * mib;
  pumped streams{{std::move(pipe->read), unique_fd{}},
                 {bytes_max, bytes_max},
                 [&reader](std::string_view, std::string_view data) { reader.on_bytes(data); }};
  streams.job_ends[0] = std::move(pipe->write);
  const auto ended =
      start_and_pump(std::move(record), {null.get(), streams.job_ends[0].get(), null.get()},
                     streams, collect_deadline, nullptr);
  if (!ended) return fail(ended.error());
  if (ended->init_died || ended->lease_over) return gone();
  auto out = reader.take();
  if (!out.is_whole) ++gauges::value("zone_collections_broken_off");
  gauges::value("zone_files_left_out") += static_cast<std::int64_t>(out.left_out);
  gauges::value("zone_files_cut") += static_cast<std::int64_t>(out.cut);
  return out;
}

}  // namespace ntrace::zone
