// Many runs over several processes, and what they must have met.
#include <sys/wait.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "config/file.hpp"
#include "tests/sim/simulation.hpp"

namespace ntrace::sim {
namespace {

using nlohmann::json;

void send_campaign(int fd, const campaign& c) {
  const json out{{"runs", c.runs},
                 {"steps", c.steps},
                 {"failed", c.failed},
                 {"first", c.first_failing ? json(*c.first_failing) : json(nullptr)},
                 {"seen", c.seen}};
  const auto text = out.dump();
  for (std::size_t at = 0; at < text.size();) {
    const auto n = ::write(fd, text.data() + at, text.size() - at);
    if (n <= 0) return;  // The parent counts the missing runs.
    at += static_cast<std::size_t>(n);
  }
}

void add_campaign(int fd, campaign& to) {
  std::string text;
  char buffer[65536];
  for (ssize_t n = 0; (n = ::read(fd, buffer, sizeof buffer)) > 0;)
    text.append(buffer, static_cast<std::size_t>(n));
  const auto in = json::parse(text, nullptr, false);
  if (!in.is_object()) return;
  to.runs += in["runs"].get<std::uint64_t>();
  to.steps += in["steps"].get<std::uint64_t>();
  to.failed += in["failed"].get<std::uint64_t>();
  if (!in["first"].is_null()) {
    const auto first = in["first"].get<std::uint64_t>();
    to.first_failing = to.first_failing ? std::min(*to.first_failing, first) : first;
  }
  for (const auto& [what, n] : in["seen"].items()) to.seen[what] += n.get<std::uint64_t>();
}

}  // namespace

campaign simulate_many(std::uint64_t seed, std::uint64_t runs, bool stop_at_first) {
  campaign out;
  for (std::uint64_t i = 0; i < runs; ++i) {
    run_options options;
    options.seed = seed + i;
    const auto one = simulate(options);
    ++out.runs;
    out.steps += one.steps;
    for (const auto& [what, n] : one.seen) out.seen[what] += n;
    if (one.violations.empty()) continue;
    ++out.failed;
    if (!out.first_failing) out.first_failing = options.seed;
    if (stop_at_first) break;
  }
  return out;
}

campaign simulate_forked(std::uint64_t seed, std::uint64_t runs, unsigned processes) {
  campaign out;
  std::vector<std::pair<int, unique_fd>> children;
  for (unsigned p = 0; p < processes; ++p) {
    const auto from = runs * p / processes, to = runs * (p + 1) / processes;
    int ends[2];
    if (::pipe(ends) != 0) break;
    const int pid = ::fork();
    if (pid == 0) {
      ::close(ends[0]);
      send_campaign(ends[1], simulate_many(seed + from, to - from));
      ::_exit(0);
    }
    ::close(ends[1]);
    children.emplace_back(pid, unique_fd{ends[0]});
  }
  for (auto& [pid, fd] : children) {
    add_campaign(fd.get(), out);
    ::waitpid(pid, nullptr, 0);
  }
  out.lost = runs - out.runs;
  return out;
}

std::vector<std::string> missing_coverage(const coverage& seen) {
  std::vector<std::string> wanted{
      // Faults and what the disk made of them.
      "disk.unsynced_kept", "disk.unsynced_lost", "disk.refused_full", "disk.sync_failed",
      "link.up", "link.lost", "link.dial_failed", "zone.killed", "attempt.killed",
      "zone.lease_over", "zone.lease_over_while_stopped",
      // What the dispatcher answers.
      "push.ok", "push.journal_full", "push.journal_failed", "cancel.ok", "cancel.journal_full",
      "cancel.invalid_state", "requeue.ok", "requeue.invalid_state", "requeue.not_found",
      "disk.run_deleted", "hello.ok", "accept.ok", "accept.stale_lease", "refuse.ok", "started.ok",
      "started.stale_lease", "heartbeat.ok", "append.ok", "append.gap", "append.stale_lease",
      "append.journal_failed", "finish.ok", "finish.stale_lease", "queue.revived",
      "finish.journal_failed", "queue.offer", "queue.abort", "drain.ok", "resume.ok",
      "push.draining", "next.ok", "next.connection_lost", "result.ok", "result.stale_lease",
      "result.journal_full", "result.journal_failed",
      // Consumers of the old protocol.
      "consumer.job", "consumer.done", "consumer.failed", "consumer.lost", "consumer.told_stale",
      "client.key_conflict", "consumer.duplicate", "consumer.died_unheard", "consumer.died_midway",
      "consumer.fell_silent", "consumer.vanished", "consumer.half_closed", "consumer.came_back",
      // Supervisors and façades.
      "dispatcher.kill_journal", "dispatcher.kill_dispatcher", "dispatcher.kill_rpc_server",
      "dispatcher.stop", "dispatcher.gave_up", "dispatcher.restart_after_stable",
      "dispatcher.restart_backed_off", "runner.kill_outbox", "runner.kill_runner",
      "runner.kill_tunnel", "runner.kill_link", "runner.kill_zone", "runner.stop", "runner.gave_up",
      "runner.restart_after_stable", "runner.restart_backed_off", "zone_sup.child_died",
      "zone_sup.stop", "attempt_sup.child_died", "attempt_sup.stop", "invariant.V1",
      "facade.passed_on", "facade.held", "facade.sent_again", "facade.denied_child_failed",

      // The tunnel.
      "tunnel.up>draining", "tunnel.draining>idle", "tunnel.suspect>draining",
      "facade.denied_timed_out", "tunnel.dialling>parked", "tunnel.parked>dialling",
      "child.starting>running", "child.starting>stopping", "child.running>restarting",
      "child.running>stopping", "child.running>stopped", "child.restarting>starting",
      "child.restarting>stopped", "child.stopping>restarting", "child.stopping>stopped",
      "outbox.started.stored", "outbox.started.retried", "outbox.started.stale",
      "outbox.append.stored", "outbox.append.retried", "outbox.append.stale",
      "outbox.finish.stored", "outbox.finish.retried", "outbox.finish.stale",
      "tunnel.idle>dialling", "tunnel.dialling>up", "tunnel.dialling>backoff",
      "tunnel.backoff>dialling", "tunnel.up>suspect", "tunnel.up>backoff", "tunnel.suspect>up",
      "tunnel.suspect>dialling", "tunnel.suspect>backoff", "tunnel.accepted", "tunnel.held",
      "tunnel.connection_reset", "tunnel.open_refused", "tunnel.dial_failed",
      // What runners go through.
      "client.half_closed", "client.refused", "peer.gone", "runner.lease_ended",
      "runner.not_accepted", "runner.refused", "runner.stale", "worker.free", "worker.busy",
      "worker.proving", "worker.repairing", "zone.proved", "zone.proof_failed", "outbox.stale",
      "outbox.recovered", "outbox.kept", "outbox.write_failed", "outbox.gave_up", "outbox.full",
      "outbox.has_room", "outbox.word_dropped", "outbox.retry", "zone.ended", "zone.end_failed",
      "attempt.passed", "attempt.script_failed", "attempt.timed_out", "attempt.infrastructure",
      "attempt.source_failed", "attempt.outage"};
  for (int k = 0; k <= static_cast<int>(fault_kind::last); ++k)
    wanted.push_back("fault." + std::string{to_string(static_cast<fault_kind>(k))});
  for (const auto* step : {"rollback", "profiler", "fetch", "install", "run", "capture", "fold"})
    for (const auto* end : {".ok", ".failed"}) wanted.push_back(std::string{"step."} + step + end);
  wanted.emplace_back("step.unpack.ok");
  for (const auto* from_to :
       {"queued>queued", "queued>leased", "leased>running", "leased>queued", "running>queued",
        "running>done", "running>failed", "running>quarantined", "queued>cancelled",
        "running>cancelled", "failed>queued", "done>queued", "cancelled>queued",
        "quarantined>queued"})
    wanted.push_back(std::string{"run."} + from_to);
  for (int i = 1; i <= 20; ++i) wanted.push_back("invariant.S" + std::to_string(i));
  for (int i = 1; i <= 5; ++i) wanted.push_back("invariant.L" + std::to_string(i));
  std::vector<std::string> out;
  for (auto& w : wanted)
    if (seen.count(w) == 0) out.push_back(std::move(w));
  return out;
}

}  // namespace ntrace::sim
