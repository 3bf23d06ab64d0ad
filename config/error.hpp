#pragma once
// Every error of ntrace: one enum, one struct, and the exit code that each error maps to.
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace ntrace {

/// Stable error codes. The word of each (to_string) is what stands on the wire, in logs and in
/// `--json`; it never changes its meaning. CAF keeps codes in 8 bits, and 0 means no error.
enum class ec : std::uint8_t {
  none = 0,
  // wire
  bad_request,       ///< A line that is not a request or reply of the protocol.
  line_too_long,     ///< A line above limits::line_bytes_max; framing is lost.
  no_such_method,    ///< A request whose name the server does not have.
  bad_argument,      ///< An argument of the wrong type or outside its range; names the field.
  overloaded,        ///< A bounded queue is full; try again later.
  unreachable,       ///< Nobody answers at that address.
  connection_lost,   ///< The peer went away before it answered.
  version_mismatch,  ///< hello: no protocol version in common.
  // dispatcher
  not_found,      ///< No run, source or revision of that name.
  invalid_state,  ///< The run is not in a state that allows the request.
  stale_lease,    ///< The fencing token is not the live one of its run.
  gap,            ///< A chunk that does not follow the highest stored one.
  lease_held,     ///< Another attempt holds the lease.
  draining,       ///< The server takes no new work.
  key_conflict,   ///< The idempotency key belongs to another push; names its run.
  // journal
  journal_full,     ///< No room on the journal's disk; nothing was acknowledged.
  journal_failed,   ///< The journal could not be written or read.
  journal_lost,     ///< A write or fsync failed: the file is read again first.
  journal_corrupt,  ///< The journal's file is damaged.
  journal_schema,   ///< The journal was written by a newer ntrace.
  // runner
  not_enrolled,  ///< No worker of that uuid.
  no_such_zone,  ///< No zone of that uuid on this machine.
  no_clean,      ///< The zone has no snapshot `clean`.
  zone_busy,     ///< The zone runs an attempt, or another process owns it.
  no_worker,     ///< No worker is free.
  forbidden,     ///< The caller may not, or the configuration does not allow it.
  // zone
  zone_unsupported,  ///< The kernel or our rights do not allow zones; see `ntrace doctor`.
  zone_failed,       ///< A step of making, booting or ending a zone failed.
  zone_dirty,        ///< The proof of clean failed.
  init_died,         ///< The zone's init ended while an attempt was in the zone.
  helper_lost,       ///< The privileged helper is gone.
  // attempt
  source_failed,   ///< The source could not be fetched.
  source_hostile,  ///< The archive holds something that is never unpacked.
  source_limit,    ///< The archive is above a size or count limit.
  no_script,       ///< package.json has no benchmark, benchmarks or test script.
  install_failed,  ///< `npm install` failed.
  script_failed,   ///< The script ended with a non-zero status.
  timed_out,       ///< A deadline passed.
  output_limit,    ///< The run wrote more than output_hard_bytes.
  disk_full,       ///< The run wrote more than zone_disk_bytes to its disk.
  out_of_memory,   ///< The zone's memory limit was hit.
  cancelled,       ///< A person, a drain or a stop ended it.
  profile_failed,  ///< The sampler broke; the script's own result stands.
  // profiling engine
  not_perf_text,    ///< Most lines are not what `perf script` prints.
  not_recognised,   ///< No known stack format.
  unsupported,      ///< A known format in a form that cannot be folded.
  bad_profile,      ///< A .cpuprofile that contradicts itself.
  overflow,         ///< Counts above 2^64-1.
  too_many_stacks,  ///< More distinct frames or stacks than the bound.
  truncated,        ///< A compressed input that ends early or expands above its bound.
  // tunnel
  tunnel_down,       ///< The tunnel has no SSH session at the moment.
  host_key_unknown,  ///< No line of known_hosts names this server.
  host_key_changed,  ///< The server shows another key than the pinned one, or a revoked one.
  key_refused,       ///< The server does not accept our key.
  bad_key,           ///< A key or known_hosts file that cannot be used as it is.
  ssh_failed,        ///< The SSH protocol could not be spoken.
  no_common_method,  ///< Our offer and the SSH server's have no method in common.
  // supervision
  child_failed,      ///< A supervised child did not start, or ended abnormally.
  no_such_child,     ///< The child behind an address is gone for good.
  bad_spec,          ///< A child or supervisor specification that cannot be; names the field.
  already_started,   ///< A child of that id runs.
  already_present,   ///< A child of that id is there, stopped.
  child_running,     ///< Only a stopped child can be restarted or deleted.
  child_restarting,  ///< The same, and the child waits for its restart.
  // program
  bad_config,   ///< A setting that is unknown, ill-typed or out of range.
  folder_busy,  ///< Another process owns the data folder in the same role; names it.
  io,           ///< A file, socket or process operation failed.
  defect,       ///< A state that only a bug in ntrace can cause.
  last = defect,
};

/// The stable word of a code, e.g. "stale_lease".
std::string_view to_string(ec code) noexcept;
/// The code of a word; ec::none for an unknown one.
ec ec_from_string(std::string_view word) noexcept;
/// The exit code of docs/protocol.md, "Exit codes": 2, 3, 4, 5 or 70.
int exit_code(ec code) noexcept;

/// What happened, to what, and what to do next. `facts` are extra members of an error reply.
struct error {
  ec code = ec::none;
  std::string message;
  std::vector<std::pair<std::string, std::string>> facts;
  bool operator==(const error&) const = default;
};

/// "code: message".
std::string to_string(const error& e);
/// ec::io with the operation, its object and strerror(errno_value).
error io_error(std::string_view operation, std::string_view object, int errno_value);

}  // namespace ntrace
