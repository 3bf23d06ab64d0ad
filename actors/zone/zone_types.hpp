#pragma once
// Values about zones that other features may use.
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "config/clock.hpp"

namespace ntrace::zone {

/// What one boot may use; see docs/zones.md, "Limits".
struct zone_limits {
  std::uint64_t memory_bytes = 1ull << 30;
  std::uint64_t pids = 512;
  std::uint64_t cpu_percent = 100;  ///< 100 is one CPU.
  /// The writable layer; 0: no limit. On the disk it is watched, and a run beyond it is ended.
  std::uint64_t disk_bytes = 2ull << 30;
  /// The layer lies in memory, on top of memory_bytes, in a file system of disk_bytes.
  bool disk_in_memory = false;
  std::uint64_t tmpfs_bytes() const { return disk_in_memory ? disk_bytes : 0; }
};

/// One check of the proof of clean.
struct clean_check {
  std::string id;  ///< P1 … as in docs/zones.md, "Proof of clean".
  bool ok = false;
  std::string seen;  ///< What was seen, when it is not ok.
};

/// How a zone was proved clean before it ran anything. `ok` is computed from the checks.
struct clean_receipt {
  std::string zone;
  std::uint64_t generation = 0;
  std::string snapshot;
  std::string backend;
  std::int64_t at_ms = 0;           ///< Wall clock, of the proof.
  std::string kernel;               ///< uname(2)'s release.
  std::vector<std::string> layers;  ///< Digests of the snapshot's layers, lowest first.
  zone_limits limits;
  std::vector<clean_check> checks;
  std::vector<std::string> degraded;  ///< What this machine could not give.
  bool ok() const {
    for (const auto& c : checks)
      if (!c.ok) return false;
    return !checks.empty();
  }
};

nlohmann::json to_json(const clean_receipt& r);
/// Missing members are empty; `ok` is not believed.
clean_receipt receipt_from_json(const nlohmann::json& value);

/// A program to run in a zone as the job's user.
struct exec_spec {
  std::vector<std::string> argv;
  std::vector<std::string> env;  ///< The whole environment.
  std::string cwd = "/job";
  milliseconds deadline{900'000};
  bool as_root = false;  ///< The zone's root, without any capability: to prepare a snapshot.
  /// It gets the descriptor of its standard input, for it seeks there: a file that nobody else has.
  bool input_is_its_own = false;
};

/// How an exec ended. Exactly one of the causes is set when it did not end by itself.
struct exec_end {
  int exit_code = -1;  ///< -1 when a signal ended it.
  int signal = 0;
  bool timed_out = false;
  bool cancelled = false;
  bool oom = false;           ///< The memory limit struck meanwhile.
  bool disk_full = false;     ///< It wrote more than disk_bytes, and failed or was ended for it.
  bool no_reserve = false;    ///< It was ended, for the machine's own disk was nearly full.
  bool output_limit = false;  ///< It wrote more than output_hard_bytes.
  bool init_died = false;     ///< The zone is gone.
  bool lease_over = false;    ///< So is the lease that the zone was booted for.
  bool ok() const {
    return exit_code == 0 && !timed_out && !cancelled && !output_limit && !disk_full &&
           !no_reserve && !init_died;
  }
};

/// A zone on disk, for lists.
struct zone_facts {
  std::string uuid;
  std::uint64_t generation = 0;
  std::string snapshot;                ///< The one that boots start from.
  std::vector<std::string> snapshots;  ///< In order of their making.
};

}  // namespace ntrace::zone
