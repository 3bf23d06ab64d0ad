// What a tunnel's engine does with its SSH sessions, and the effects of both machines.
#include <utility>

#include "actors/tunnel/engine_loop.hpp"
#include "config/gauges.hpp"
#include "config/log.hpp"
#include "config/overload.hpp"
#include "net/socket.hpp"

namespace ntrace::tunnel {
namespace {

constexpr std::chrono::minutes hint_interval{1};

dial_failure kind_of(ec code) {
  switch (code) {
    case ec::key_refused:
      return dial_failure::refused;
    case ec::no_common_method:
      return dial_failure::mismatch;
    case ec::host_key_unknown:
    case ec::host_key_changed:
    case ec::bad_key:
    case ec::bad_config:
      return dial_failure::needs_operator;
    default:
      return dial_failure::transient;
  }
}

/// The first, second, fourth, eighth … of a repeated fact is logged.
bool is_worth_a_line(std::uint64_t n) { return (n & (n - 1)) == 0; }

/// A log's value is cut at 256 bytes, and a list of methods is often longer: a line for each part.
void log_mismatches(const error& why) {
  constexpr std::size_t part_bytes_max = 240;
  for (const auto& [what, text] : why.facts) {
    std::string_view rest = text;
    while (!rest.empty()) {
      auto end = std::min(rest.size(), part_bytes_max);
      if (end < rest.size())
        if (const auto space = rest.rfind(' ', end); space != rest.npos && space > 0) end = space;
      log::error("tunnel.mismatch", {{"what", what}, {"offers", std::string{rest.substr(0, end)}}});
      rest.remove_prefix(std::min(rest.size(), end + (end < rest.size() ? 1 : 0)));
    }
  }
}

}  // namespace

net::ssh_session* tunnel_engine::loop::live_session() {
  const auto at = lines_.find(tunnel_.live());
  if (at == lines_.end() || at->second.is_over || !at->second.session) return nullptr;
  at->second.is_due = true;
  return at->second.session.get();
}

void tunnel_engine::loop::perform_dial(const dial& e) {
  ++gauges::value("tunnel_dials");
  lines_[e.of].connector = std::make_unique<net::tcp_connector>(
      settings_.to.at, now_, tunnel_.connect_deadline(), e.first_address);
}

void tunnel_engine::loop::begin_session(generation of, line& l, net::tcp_connection connected) {
  // Read for each dial, so that an operator's correction counts at once.
  auto options = session_options(settings_);
  if (!options) return on_line_failed(of, options.error());
  options->deadlines.banner = tunnel_.banner_deadline();
  options->deadlines.open = tunnel_.open_deadline();
  options->next_id = [this] { return next_id_++; };
  net::limit_unacknowledged(connected.fd.get(), settings_.machine.suspect_grace);
  l.session =
      std::make_unique<net::ssh_session>(std::move(connected.fd), std::move(*options), now_);
  l.connector.reset();
  l.is_due = true;
  perform(tunnel_.on_connected(now_, of, connected.round_trip, connected.address));
}

void tunnel_engine::loop::on_line_failed(generation of, const error& why) {
  last_failure_ = to_string(why);
  lines_[of].is_over = true;
  if (is_live(of)) {
    ++lost_;
    ++gauges::value("tunnel_lost_" + std::string{to_string(why.code)});
    perform(tunnel_.on_session_lost(now_, of, to_string(why), why.code == ec::ssh_failed));
    if (tunnel_.damages() >= tunnel_fsm::damages_max)
      log::error("tunnel.damaged", {{"sessions", tunnel_.damages()}, {"reason", to_string(why)}});
    return;
  }
  ++gauges::value("tunnel_dials_failed");
  if (why.code == ec::no_common_method) log_mismatches(why);
  if (is_worth_a_line(++repeated_))
    log::warn("tunnel.dial_failed",
              {{"to", settings_.to.text()}, {"reason", to_string(why)}, {"failures", repeated_}});
  perform(tunnel_.on_dial_failed(now_, of, kind_of(why.code), to_string(why)));
}

void tunnel_engine::loop::serve_line(generation of, line& l) {
  if (l.connector) {
    auto connected = l.connector->pump(now_);
    if (!connected) return;
    if (!*connected) return on_line_failed(of, connected->error());
    begin_session(of, l, std::move(**connected));
  }
  if (!l.session || l.is_over) return;
  for (auto& event : l.session->pump(now_, std::exchange(l.is_ready, false)))
    on_session_event(of, std::move(event));
}

void tunnel_engine::loop::on_session_event(generation of, net::ssh_event&& event) {
  if (of == exec_over_ && take_exec_event(event)) return;
  std::visit(overload{[&](const net::ssh_banner&) { perform(tunnel_.on_banner(now_, of)); },
                      [&](const net::ssh_authenticated& e) {
                        server_ = e.server;
                        log::info("tunnel.authenticated", {{"generation", of},
                                                           {"server", e.server},
                                                           {"kex", e.key_exchange},
                                                           {"cipher", e.cipher}});
                        perform(tunnel_.on_authenticated(now_, of));
                      },
                      [&](const net::ssh_inbound&) {
                        if (is_live(of)) is_unheard_ = false;
                        perform(tunnel_.on_inbound(now_, of));
                      },
                      [&](const net::ssh_probe_answered&) {
                        perform(tunnel_.on_probe_answered(now_, of));
                      },
                      [&](const net::ssh_opened& e) {
                        if (is_live(of)) perform(forward_.on_opened(now_, e.id));
                      },
                      [&](const net::ssh_open_refused& e) {
                        ++gauges::value("tunnel_opens_refused");
                        if (!e.is_forbidden || now_ >= forbidden_logged_) {
                          log::warn("tunnel.open_refused", {{"reason", e.reason}});
                          if (e.is_forbidden) forbidden_logged_ = now_ + hint_interval;
                        }
                        if (is_live(of)) perform(forward_.on_open_refused(now_, e.id, e.reason));
                      },
                      [&](net::ssh_bytes& e) {
                        if (is_live(of))
                          perform(forward_.on_channel_bytes(now_, e.id, std::move(e.data)));
                      },
                      [](const net::ssh_error_bytes&) {}, [](const net::ssh_exit&) {},
                      [&](const net::ssh_took& e) {
                        if (!is_live(of)) return;
                        is_unheard_ = true;
                        perform(forward_.on_channel_took(now_, e.id, e.bytes));
                      },
                      [&](const net::ssh_end_of_file& e) {
                        if (is_live(of)) perform(forward_.on_channel_end(now_, e.id));
                      },
                      [&](const net::ssh_closed& e) {
                        if (is_live(of)) perform(forward_.on_channel_closed(now_, e.id));
                      },
                      [&](const net::ssh_listening& e) {
                        reverse_[e.reverse] = "up";
                        log::info("tunnel.reverse_up",
                                  {{"listen", settings_.reverse[e.reverse].listen.text()}});
                      },
                      [&](const net::ssh_listen_refused& e) {
                        reverse_[e.reverse] = e.reason;
                        ++gauges::value("tunnel_listens_refused");
                        log::warn("tunnel.reverse_refused", {{"reason", e.reason}});
                      },
                      [&](const net::ssh_accepted& e) {
                        local_.connect(e.id, settings_.reverse[e.reverse].target);
                        perform(forward_.on_channel_accepted(now_, e.id, of));
                      },
                      [&](const net::ssh_ended& e) { on_line_failed(of, e.why); }},
             event);
}

void tunnel_engine::loop::note(const report& r) {
  why_ = r.reason;
  const auto in_state =
      std::chrono::duration_cast<milliseconds>(now_ - std::exchange(state_since_, now_)).count();
  const auto round_trip = static_cast<std::int64_t>(tunnel_.round_trip_ms().value_or(0) * 1000);
  switch (r.to) {
    case tunnel_state::up:
      repeated_ = 0;
      ++ups_;
      log::info(
          "tunnel.up",
          {{"generation", tunnel_.live()},
           {"to", settings_.to.text()},
           {"by", r.reason},
           {"down_ms", r.from == tunnel_state::suspect
                           ? 0
                           : std::chrono::duration_cast<milliseconds>(now_ - down_since_).count()},
           {"rtt_us", round_trip}});
      break;
    case tunnel_state::suspect:
      log::warn("tunnel.suspect", {{"generation", tunnel_.live()}, {"reason", r.reason}});
      break;
    case tunnel_state::idle:
      log::info("tunnel.stopped", {{"reason", r.reason}});
      break;
    case tunnel_state::parked:
      log::error("tunnel.parked", {{"reason", r.reason}});
      break;
    default:
      if (r.from == tunnel_state::up || r.from == tunnel_state::suspect) {
        down_since_ = now_;
        log::warn("tunnel.lost", {{"reason", r.reason}, {"in_state_ms", in_state}});
      } else {
        log::debug("tunnel.state", {{"state", std::string{to_string(r.to)}}, {"reason", r.reason}});
      }
  }
}

void tunnel_engine::loop::perform(const tunnel_effects& todo) {
  for (const auto& one : todo)
    std::visit(overload{[&](const dial& e) { perform_dial(e); },
                        [&](const abandon& e) {
                          const auto at = lines_.find(e.of);
                          if (at == lines_.end()) return;
                          if (at->second.session) at->second.session->disconnect();
                          at->second.is_over = true;
                        },
                        [&](const probe& e) {
                          const auto at = lines_.find(e.of);
                          if (at == lines_.end() || !at->second.session) return;
                          at->second.session->probe();
                          at->second.is_due = true;
                        },
                        [&](const switch_to& e) {
                          is_unheard_ = false;
                          const auto at = lines_.find(e.of);
                          if (at != lines_.end() && at->second.session)
                            at->second.session->listen_reverse();
                          perform(forward_.on_session(now_, e.of));
                          end_exec_session();
                          exec_over_ = e.of;
                          perform(exec_.on_session(now_));
                        },
                        [&](const reset_connections& e) {
                          for (auto& r : reverse_) r = "waits for a session";
                          perform(forward_.on_session_lost(now_, e.of));
                          if (e.of == exec_over_) end_exec_session();
                        },
                        [&](const wake& e) { tunnel_wake_ = std::min(tunnel_wake_, e.at); },
                        [&](const report& e) { note(e); }},
               one);
}

void tunnel_engine::loop::perform(forward_effects todo) {
  for (auto& one : todo)
    std::visit(
        overload{[&](const open_channel& e) {
                   if (auto* s = live_session()) s->open(e.of);
                 },
                 [&](write_channel& e) {
                   if (auto* s = live_session()) s->write(e.of, std::move(e.data));
                 },
                 [&](write_local& e) { local_.write(e.of, std::move(e.data)); },
                 [&](const end_channel& e) {
                   if (auto* s = live_session()) s->send_eof(e.of);
                 },
                 [&](const end_local& e) { local_.end(e.of); },
                 [&](const stop_local& e) { local_.set_reading(e.of, false); },
                 [&](const read_local& e) { local_.set_reading(e.of, true); },
                 [&](const stop_channel& e) {
                   if (auto* s = live_session()) s->set_reading(e.of, false);
                 },
                 [&](const read_channel& e) {
                   if (auto* s = live_session()) s->set_reading(e.of, true);
                 },
                 [&](const close_channel& e) {
                   if (auto* s = live_session()) s->close(e.of);
                 },
                 [&](const close_local& e) {
                   if (e.is_reset) {
                     ++gauges::value("tunnel_resets");
                     log::debug("tunnel.reset", {{"reason", e.reason}});
                   }
                   local_.close(now_, e.of, e.is_reset);
                 },
                 [&](const look_again& e) { forward_wake_ = std::min(forward_wake_, e.at); }},
        one);
}

}  // namespace ntrace::tunnel
