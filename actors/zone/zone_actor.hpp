#pragma once
// One worker zone as an actor on its own thread: its calls block.
#include <caf/actor.hpp>
#include <caf/actor_system.hpp>
#include <caf/typed_actor.hpp>

#include "actors/zone/zone.hpp"
#include "net/egress_proxy.hpp"
#include "supervision/held_bytes.hpp"

namespace ntrace::zone {

struct boot_request {
  boot_spec spec;
  std::uint64_t token = 0;
};
struct boot_answer {
  clean_receipt receipt;
  std::string cgroup;  ///< For perf.
  int init_pid = -1;
};
/// What an exec may reach through the proxy while it runs.
struct egress_spec {
  net::egress_options options;
  std::function<void(const net::egress_report&)> report;  ///< Called from the proxy's threads.
};
struct exec_request {
  exec_spec spec;
  output_limits limits;
  output_sink sink;  ///< Called on the zone's thread.
  cancellation_ptr stop;
  std::shared_ptr<unique_fd> input;  ///< Standard input; may be null.
  std::optional<egress_spec> egress;
  std::uint64_t token = 0;  ///< Of the attempt; see zone_fence.
};
struct unpack_request {
  std::string folder;
  std::shared_ptr<unique_fd> bundle;
  milliseconds deadline{60'000};
  cancellation_ptr stop;
  std::uint64_t token = 0;
};
struct collect_request {
  std::string folder, prefix;
  std::uint64_t token = 0;
};
using end_atom = caf::atom_constant<caf::atom("end")>;

using zone_actor = caf::typed_actor<
    /// Rolls back, boots and proves; zone_dirty, zone_failed, timed_out. This and all that uses the
    /// zone: stale_lease to a token that is not the one it was booted for.
    caf::replies_to<boot_request>::with<boot_answer>,
    /// Runs a program to its end.
    caf::replies_to<exec_request>::with<exec_end>,
    caf::replies_to<unpack_request>::with<caf::ok_atom>,
    caf::replies_to<collect_request>::with<collected>,
    /// Everything in it dies, its writable layer is dropped.
    caf::replies_to<end_atom>::with<caf::ok_atom>>;

/// Spawned detached; owns the zone.
caf::actor spawn_zone(caf::actor_system& system, std::shared_ptr<zone> z);

}  // namespace ntrace::zone

template <>
inline constexpr bool ntrace::supervision::is_handle<ntrace::zone::zone_lease> = true;

NTRACE_LOCAL_MESSAGE(ntrace::zone::boot_request)
NTRACE_LOCAL_MESSAGE(ntrace::zone::boot_answer)
NTRACE_LOCAL_MESSAGE(ntrace::zone::exec_request)
NTRACE_LOCAL_MESSAGE(ntrace::zone::exec_end)
NTRACE_LOCAL_MESSAGE(ntrace::zone::unpack_request)
NTRACE_LOCAL_MESSAGE(ntrace::zone::collect_request)
NTRACE_LOCAL_MESSAGE(ntrace::zone::collected)
