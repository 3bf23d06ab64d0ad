#pragma once
// Planted bugs, to show that the simulator and chaos find them. As config/crash_point.hpp's, they
// are for tests: in a release build mutated() is false at compile time and nothing of them is left.

namespace ntrace {

/// Numbered as in docs/simulator.md, "Planted bugs".
enum class mutation {
  none = 0,
  ack_before_commit = 1,
  token_counter_in_memory = 2,
  no_lease_margin = 3,
  chunk_without_token_check = 4,
  finish_before_last_chunk = 5,
  dedupe_forgets = 6,
  offer_counts_as_accepted = 7,
  outbox_deletes_on_send = 8,
  no_lease_after_restart = 9,
  cancel_in_memory = 10,
  pending_counter_leaks = 11,
  rollback_error_ignored = 12,
  backoff_never_reset = 13,
  facade_resends_without_id = 14,
  held_bytes_into_new_session = 15,
  fsync_error_ignored = 16,
  attempts_off_by_one = 17,
  script_failure_retried = 18,
  half_close_closes = 19,
  requeue_keeps_epoch = 20,
  recovery_does_not_wait = 21,
  push_not_given_to_queue = 22,
  first_outcome_for_all = 23,
  port_forgets_its_peers = 24,
  drain_in_memory = 25,
  ticks_multiply = 26,
  deleted_run_is_requeued = 27,
  retention_forgets_tokens = 28,
  outage_counts_as_attempt = 29,
  zone_ignores_its_lease = 30,
  // Orders that lose pushes: docs/protocol.md, P1 to P11. P4 is pending_counter_leaks.
  handed_is_given_for_good = 31,
  unbegun_job_is_nobodys = 32,
  dead_requests_are_kept = 33,
  failed_run_keeps_its_worker = 35,
  late_answer_completes_twice = 36,
  runs_share_one_queue = 37,
  broken_worker_is_put_away = 38,
  restart_forgets_who_had_what = 39,
  malformed_result_throws = 40,
  work_begins_before_boot = 41,
  folder_without_owner = 46,
  key_conflict_ignored = 47,
};

#ifdef NTRACE_CRASH_POINTS
/// Set once, before anything runs; at first what NTRACE_PLANT=NUMBER in the environment says.
extern mutation planted;
inline bool mutated(mutation m) { return planted == m; }
#else
constexpr bool mutated(mutation) { return false; }
#endif

}  // namespace ntrace
