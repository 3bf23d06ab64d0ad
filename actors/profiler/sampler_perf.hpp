#pragma once
// perf(1) as the sampler of a zone: by cgroup where we may, else by following the zone's init.
#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "actors/profiler/fold.hpp"
#include "config/cancellation.hpp"
#include "config/clock.hpp"
#include "config/file.hpp"
#include "config/temporary_folder.hpp"

namespace ntrace::profiler {

struct sampler_spec {
  std::string cgroup;  ///< The zone's v2 group; empty: follow init_pid.
  int init_pid = -1;
  std::uint64_t frequency = 999;  ///< Not 1000, so as not to march in step with timers.
  std::string scratch = "/tmp";
};

/// What was captured, before symbols.
struct raw_capture {
  unique_fd data;     ///< perf.data, readable by everybody.
  std::string event;  ///< "cycles" or "cpu-clock"; with ":u" when the kernel is not in it.
  std::map<int, int> zone_pids;  ///< Host pid → pid inside the zone.
  bool truncated = false;        ///< perf had to be killed.
};

/// One recording. start() returns once perf has all its events, enable() once it counts, so that no
/// sleep is needed anywhere; errors are ec::profile_failed.
class sampler_perf {
public:
  static result<std::unique_ptr<sampler_perf>> start(const sampler_spec& spec);
  ~sampler_perf();
  sampler_perf(const sampler_perf&) = delete;
  sampler_perf& operator=(const sampler_perf&) = delete;

  result<void> enable();
  result<raw_capture> stop();

  /// The environment that makes Node leave perf maps; `node_options` is what the user set.
  static std::string node_options(const std::string& node_options);
  /// The command that prints a capture given as its standard input, to be run inside the zone.
  static std::vector<std::string> script_command();

private:
  sampler_perf() = default;
  /// Starts perf, which has asked the kernel for nothing yet.
  result<void> record(int pages);
  void end_perf();
  result<void> command(std::string_view word);
  void watch_pids();

  sampler_spec spec_;
  std::optional<temporary_folder> folder_;
  std::string event_;
  int pid_ = -1;
  unique_fd control_, ack_, errors_;
  cancellation done_;
  std::thread watcher_;
  std::mutex guard_;
  std::map<int, int> zone_pids_;
};

/// The running kernel's symbols, read once; null where kptr_restrict hides them.
std::shared_ptr<const kernel_symbols> host_kernel_symbols();

/// "cycles" where the machine counts them, else "cpu-clock"; tried once per process.
std::string sampling_event();

}  // namespace ntrace::profiler
