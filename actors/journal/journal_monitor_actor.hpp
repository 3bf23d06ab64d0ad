#pragma once
// The live invariant monitor: reads after the writer, on its own thread and connection, and holds
// each run that has changed against the invariants. It judges; it never stops anything.
#include <caf/actor.hpp>
#include <caf/actor_system.hpp>
#include <caf/typed_actor.hpp>

#include "actors/journal/journal_actor.hpp"

namespace ntrace::journal {

using poll_atom = caf::atom_constant<caf::atom("poll")>;
using findings_atom = caf::atom_constant<caf::atom("findings")>;

using journal_monitor = caf::typed_actor<
    /// {"runs_checked", "lines_behind", "violations", "list": [{"invariant", "run", "what",
    /// "at_ms"}]}: since its start; the list has the first 100.
    caf::replies_to<findings_atom>::with<read_answer>,
    /// From itself.
    caf::reacts_to<poll_atom>>;

/// Judges what is written from now on. `attempts_max`: as the dispatcher has it.
result<caf::actor> spawn_journal_monitor(caf::actor_system& system, const std::string& path,
                                         std::uint64_t attempts_max);

}  // namespace ntrace::journal
