// Plants each bug of docs/simulator.md into the pure machines, and shows that the simulator finds
// it, with the number of runs that it took.
// usage: sim_mutants [NUMBER…]; ends with 1 when a bug was not found within runs_max.
#include <cstdlib>
#include <iostream>

#include "config/mutation.hpp"
#include "tests/sim/simulation.hpp"

using namespace ntrace;

namespace {

constexpr std::uint64_t runs_max = 3000;

struct planted_bug {
  mutation what;
  const char* name;
};
constexpr planted_bug bugs[] = {
    {mutation::ack_before_commit, "ack before commit"},
    {mutation::token_counter_in_memory, "token counter not durable"},
    {mutation::no_lease_margin, "expiry judged alike on both sides, without a margin"},
    {mutation::chunk_without_token_check, "chunk stored without token check"},
    {mutation::finish_before_last_chunk, "finish before last chunk"},
    {mutation::dedupe_forgets, "dedupe forgets after restart"},
    {mutation::offer_counts_as_accepted, "offer counted as accepted"},
    {mutation::outbox_deletes_on_send, "outbox deletes on send"},
    {mutation::no_lease_after_restart, "lease not extended after dispatcher restart"},
    {mutation::cancel_in_memory, "cancel in memory only"},
    {mutation::pending_counter_leaks, "pending counter not decreased on error"},
    {mutation::rollback_error_ignored, "rollback error ignored"},
    {mutation::backoff_never_reset, "supervisor restarts without backoff reset"},
    {mutation::facade_resends_without_id, "façade re-sends without id"},
    {mutation::held_bytes_into_new_session, "tunnel flushes held bytes into a new session"},
    {mutation::fsync_error_ignored, "fsync error ignored"},
    {mutation::attempts_off_by_one, "attempts limit off by one"},
    {mutation::script_failure_retried, "retry of script failure"},
    {mutation::half_close_closes, "half-close treated as close"},
    {mutation::requeue_keeps_epoch, "requeue keeps the old epoch's verdict"},
    {mutation::recovery_does_not_wait, "recovery does not wait for writes under way"},
    {mutation::push_not_given_to_queue, "an acknowledged push is not given to the queue"},
    {mutation::first_outcome_for_all, "pushes written together are all told of the first"},
    {mutation::port_forgets_its_peers, "a port that starts again forgets who was connected"},
    {mutation::drain_in_memory, "drain in memory only"},
    {mutation::ticks_multiply, "each tick leaves others behind"},
    {mutation::deleted_run_is_requeued, "a run that was deleted meanwhile is requeued"},
    {mutation::retention_forgets_tokens, "retention forgets which tokens were given"},
    {mutation::outage_counts_as_attempt, "an outage uses up an attempt"},
    {mutation::zone_ignores_its_lease, "a zone does not end with its lease"},
    {mutation::handed_is_given_for_good, "a job that was handed out is given for good"},
    {mutation::dead_requests_are_kept, "requests of a connection that ended are kept"},
    {mutation::key_conflict_ignored, "a push with another's key is taken for that one"},
};

/// Runs until the bug shows; what it broke, or nothing.
std::string found_by(std::uint64_t& runs) {
  for (runs = 1; runs <= runs_max; ++runs) {
    sim::run_options o;
    o.seed = runs;
    const auto seen = sim::simulate(o).violations;
    if (seen.empty()) continue;
    const auto small = sim::simulate(sim::shrink(o, seen.front().invariant));
    if (small.violations.empty()) return {};
    return seen.front().invariant + ", shrunk to " + std::to_string(small.faults.size()) +
           " faults and " + std::to_string(small.pushes) +
           " pushes: " + small.violations.front().what;
  }
  return {};
}

}  // namespace

int main(int argc, char** argv) {
  int missed = 0;
  for (const auto& bug : bugs) {
    bool wanted = argc == 1;
    for (int i = 1; i < argc; ++i) wanted |= std::atoi(argv[i]) == static_cast<int>(bug.what);
    if (!wanted) continue;
    planted = bug.what;
    std::uint64_t runs = 0;
    const auto how = found_by(runs);
    std::cout << "bug " << static_cast<int>(bug.what) << " (" << bug.name << "): "
              << (how.empty() ? "NOT FOUND within " + std::to_string(runs_max) + " runs"
                              : "found in run " + std::to_string(runs) + " by " + how)
              << std::endl;
    missed += how.empty() ? 1 : 0;
  }
  return missed == 0 ? 0 : 1;
}
