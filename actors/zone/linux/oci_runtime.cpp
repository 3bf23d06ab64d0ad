#include "actors/zone/linux/oci_runtime.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>

#include "actors/zone/linux/init_wire.hpp"
#include "actors/zone/linux/mounts.hpp"
#include "actors/zone/linux/oci_bundle.hpp"
#include "config/crash_point.hpp"
#include "config/json_parse.hpp"
#include "config/subprocess.hpp"

namespace ntrace::zone {
namespace {

constexpr milliseconds step_deadline{10'000};
constexpr std::size_t log_bytes_max = 64u << 10;

/// What `create` is started with, beside its command line.
struct surroundings {
  made_mounts mounts;
  int control, image, log;
};

/// The files of one container in its generation's folder.
struct bundle_files {
  explicit bundle_files(const std::string& generation)
      : folder{generation + "/bundle"},
        config{folder + "/config.json"},
        log{folder + "/log"},
        pid{folder + "/pid"} {}
  std::string folder, config, log, pid;
};

/// In a child: what the runtime must find, in a mount namespace that ends with it. Returns what
/// cannot be done.
const char* become_create(const surroundings& with, char* const* argv) {
  const std::string root{oci_root};
  if (::unshare(CLONE_NEWNS) != 0) return "unshare the mounts";
  if (::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0)
    return "make mounts private";
  if (!attach(with.mounts.root, root)) return "attach the zone's root at /mnt";
  if (!attach(with.mounts.usr, root + "/usr")) return "attach /usr below /mnt";
  if (with.mounts.devices >= 0 && !attach(with.mounts.devices, root + "/dev"))
    return "attach /dev below /mnt";
  // Out of the way first: each may have the other's number.
  const int control = ::fcntl(with.control, F_DUPFD, 10), image = ::fcntl(with.image, F_DUPFD, 10);
  const int null = ::open("/dev/null", O_RDWR), log = ::fcntl(with.log, F_DUPFD_CLOEXEC, 10);
  if (control < 0 || image < 0 || null < 0 || log < 0 || ::dup2(control, init_control_fd) < 0 ||
      ::dup2(image, oci_init_fd) < 0)
    return "place descriptors";
  for (int fd = 0; fd < 3; ++fd)
    if (::dup2(null, fd) < 0) return "set up stdio";
  ::umask(022);  // Ours is stricter, and the job has to find its way.
  ::syscall(SYS_close_range, oci_init_fd + 1, log - 1, 0);
  ::syscall(SYS_close_range, log + 1, ~0u, 0);
  char* env[] = {nullptr};
  ::execve(argv[0], argv, env);
  return "start the runtime";
}

/// The last line of the runtime's log that tells of an error.
std::string words_of(const std::string& log) {
  const auto text = read_file(log, log_bytes_max).value_or("");
  std::string out = "it said nothing";
  for (std::size_t at = 0; at < text.size();) {
    const auto end = std::min(text.find('\n', at), text.size());
    const auto line = parse_or_discard(text.substr(at, end - at));
    if (line.is_object() && line.value("level", "") == "error") out = line.value("msg", out);
    at = end + 1;
  }
  return out;
}

error failed(const std::string& program, const char* step, const std::string& why) {
  return {ec::zone_failed, program + " " + step + ": " + why, {}};
}

/// Without an fsync: nobody reads it after a crash.
result<void> write_config(const std::string& path, const std::string& text) {
  const unique_fd file{
      ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600)};
  if (!file || !write_all(file.get(), text)) return fail(io_error("write", path, errno));
  return {};
}

/// The program's exit code, or why there is none.
result<int> wait_for(int pid, milliseconds deadline) {
  const unique_fd ended{static_cast<int>(::syscall(SYS_pidfd_open, pid, 0))};
  pollfd one{ended.get(), POLLIN, 0};
  const bool is_over = ended && ::poll(&one, 1, static_cast<int>(deadline.count())) > 0;
  if (!is_over) ::kill(pid, SIGKILL);
  int status = 0;
  ::waitpid(pid, &status, 0);
  if (!is_over)
    return fail(ec::timed_out, "it did not end in " + std::to_string(deadline.count()) + " ms");
  if (!WIFEXITED(status)) return fail(ec::zone_failed, "a signal ended it");
  return WEXITSTATUS(status);
}

int pid_in(const std::string& file) {
  const auto text = read_file(file, 32).value_or("");
  int pid = -1;
  std::from_chars(text.data(), text.data() + text.size(), pid);
  return pid;
}

}  // namespace

result<oci_runtime> oci_runtime::find() {
  for (const char* name : {"runc", "crun"})
    for (const char* folder : {"/usr/local/sbin/", "/usr/local/bin/", "/usr/sbin/", "/usr/bin/"})
      if (auto path = std::string{folder} + name; ::access(path.c_str(), X_OK) == 0)
        return oci_runtime{std::move(path)};
  return fail(ec::zone_unsupported,
              "zone_backend is oci, and there is neither runc nor crun → apt-get install runc");
}

result<booted> oci_runtime::boot(const boot_plan& plan, const std::string& name,
                                 const std::string& state) const {
  std::array<int, 2> pair{};
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair.data()) != 0)
    return fail(io_error("socketpair", "zone", errno));
  booted out;
  out.control = unique_fd{pair[0]};
  const unique_fd control{pair[1]};
  const bundle_files files{plan.root.folder};
  for (const auto& folder : {files.folder, state})
    if (auto made = make_folders(folder); !made) return fail(made.error());
  // The runtime would make one as root, who would then be charged for all that the zone does.
  auto user = make_user_namespace(plan.ids);
  if (!user) return fail(user.error());
  out.user = std::move(*user);
  const auto user_path =
      "/proc/" + std::to_string(::getpid()) + "/fd/" + std::to_string(out.user.get());
  if (auto put = write_config(files.config, oci_bundle(plan, name, user_path).dump()); !put)
    return fail(put.error());
  const unique_fd log{
      ::open(files.log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600)};
  if (!log) return fail(io_error("open", files.log, errno));
  std::array<std::string, 14> words{
      program_, "--root",   state,        "--log",      files.log, "--log-format",     "json",
      "create", "--bundle", files.folder, "--pid-file", files.pid, "--preserve-fds=2", name};
  std::array<char*, words.size() + 1> argv{};
  for (std::size_t i = 0; i < words.size(); ++i) argv[i] = words[i].data();
  const auto undo = [&](const error& why) {
    // The first error is the one that counts.
    [[maybe_unused]] const auto gone = forget(name, state);
    return fail(why);
  };
  const int runtime = ::fork();
  if (runtime < 0) return fail(io_error("fork", program_, errno));
  if (runtime == 0) {
    const char* step =
        become_create({plan.mounts, control.get(), plan.init_image, log.get()}, argv.data());
    const auto why = io_error(step, "for zone " + name, errno).message;
    [[maybe_unused]] const bool told =
        write_all(log.get(), nlohmann::json{{"level", "error"}, {"msg", why}}.dump() + "\n");
    _exit(1);
  }
  const auto created = wait_for(runtime, step_deadline);
  if (!created) return undo(failed(program_, "create", created.error().message));
  if (*created != 0) return undo(failed(program_, "create", words_of(files.log)));
  crash_point("zone.step");
  out.pid = pid_in(files.pid);
  // It was left to us as the nearest subreaper, so the number stays its own until we reap it.
  out.pidfd = unique_fd{static_cast<int>(::syscall(SYS_pidfd_open, out.pid, 0))};
  if (!out.pidfd) return undo(io_error("open the pidfd of", "zone " + name, errno));
  subprocess_spec start;
  start.argv = {program_, "--root", state, "start", name};
  start.deadline = step_deadline;
  const auto started = run_subprocess(start);
  if (!started || !started->ok())
    return undo(failed(program_, "start", started ? started->err : started.error().message));
  crash_point("zone.step");
  return out;
}

result<void> oci_runtime::forget(const std::string& name, const std::string& state) const {
  if (::access((state + "/" + name).c_str(), F_OK) != 0) return {};
  subprocess_spec spec;
  spec.argv = {program_, "--root", state, "delete", "--force", name};
  spec.deadline = step_deadline;
  const auto done = run_subprocess(spec);
  if (!done || !done->ok())
    return fail(failed(program_, "delete", done ? done->err : done.error().message));
  return {};
}

}  // namespace ntrace::zone
