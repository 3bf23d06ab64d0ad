#include "tools/role_settings.hpp"

#include <unistd.h>

#include <algorithm>

#include "tools/attempt_settings.hpp"
#include "tools/command.hpp"

namespace ntrace::tools {
namespace {

std::string host_name() {
  char host[256] = "runner";
  ::gethostname(host, sizeof host - 1);
  return host;
}

template <class T>
result<void> keep(std::optional<T>& to, result<T> from) {
  if (!from) return fail(from.error());
  to = std::move(*from);
  return {};
}

}  // namespace

process_settings process_settings_from(const settings& s) {
  return {s.text("data"), s.text("log_level"), s.duration("drain_ms"), s.duration("stop_ms")};
}

result<dispatcher_settings> dispatcher_settings_from(const settings& s) {
  dispatcher_settings out;
  const auto at = parse_host_port(s.text("dispatcher"));
  if (!at) return fail(at.error());
  out.listen = *at;
  out.journal = s.text("data") + "/journal.sqlite";
  out.queue.lease = s.duration("lease_ms");
  out.queue.offer = s.duration("offer_ms");
  out.queue.consumer_silence = s.duration("consumer_silence_ms");
  out.queue.attempts = static_cast<unsigned>(s.number("attempts"));
  out.queue.backoff = {s.duration("backoff_min_ms"), s.duration("backoff_max_ms")};
  out.queue.outage_patience = s.duration("outage_patience_ms");
  out.queue.source_template = s.text("source_template");
  out.keep = {std::chrono::hours{24} * s.number("retain_days"), s.number("journal_bytes")};
  if (s.text("webhook").empty()) return out;
  const auto listen = parse_host_port(s.text("webhook"));
  if (!listen) return fail(listen.error());
  out.webhook = dashboard::webhook_options{*listen, s.text("webhook_secret_file")};
  return out;
}

result<runner_settings> runner_settings_from(const settings& s) {
  runner_settings out;
  const auto at = parse_host_port(s.text("runner"));
  const auto to = parse_host_port(s.text("dispatcher"));
  if (!at || !to) return fail(at ? to.error() : at.error());
  out.listen = *at;
  out.dispatcher = *to;
  auto attempt = attempt_options_from(s);
  if (!attempt) return fail(attempt.error());
  out.attempt = std::move(*attempt);
  out.helper = helper_options_from(s);
  out.data = s.text("data");
  out.name = s.text("runner_name").empty() ? host_name() : s.text("runner_name");
  out.workers = static_cast<std::size_t>(s.number("workers"));
  out.outbox.path = out.data + "/outbox.sqlite";
  auto& bounds = out.outbox.bounds;
  bounds.bytes_max = static_cast<std::size_t>(s.number("outbox_bytes"));
  bounds.attempt_bytes_max = std::min(bounds.attempt_bytes_max, bounds.bytes_max / 2);
  if (!s.text("tunnel").empty())
    if (auto kept = keep(out.tunnel, tunnel::tunnel_settings_from(s)); !kept)
      return fail(kept.error());
  return out;
}

result<role_settings> role_settings_from(const settings& s, role_set roles) {
  role_settings out;
  out.process = process_settings_from(s);
  if (roles.dispatcher)
    if (auto kept = keep(out.dispatcher, dispatcher_settings_from(s)); !kept)
      return fail(kept.error());
  if (roles.runner)
    if (auto kept = keep(out.runner, runner_settings_from(s)); !kept) return fail(kept.error());
  if (!s.text("shell").empty() || !s.text("shell_operator").empty()) {
    if (auto kept = keep(out.shell, shell::shell_options_from(s)); !kept) return fail(kept.error());
    out.shell->program = program_version();
  }
  return out;
}

}  // namespace ntrace::tools
