// What a tunnel's engine does for commands on the server.
#include <utility>

#include "actors/tunnel/engine_loop.hpp"
#include "config/gauges.hpp"
#include "config/log.hpp"
#include "config/overload.hpp"

namespace ntrace::tunnel {

void tunnel_engine::loop::exec(exec_id id, exec_request request, exec_function then) {
  exec_asked_.emplace(id, std::move(then));
  perform(exec_.on_exec(now_, id, std::move(request)));
}

void tunnel_engine::loop::end_exec_session() {
  if (std::exchange(exec_over_, 0) != 0) perform(exec_.on_session_lost(now_));
}

/// True when the event was one of a command's channel.
bool tunnel_engine::loop::take_exec_event(net::ssh_event& event) {
  const auto id = std::visit(overload{[](const net::ssh_opened& e) { return e.id; },
                                      [](const net::ssh_open_refused& e) { return e.id; },
                                      [](const net::ssh_bytes& e) { return e.id; },
                                      [](const net::ssh_error_bytes& e) { return e.id; },
                                      [](const net::ssh_exit& e) { return e.id; },
                                      [](const net::ssh_took& e) { return e.id; },
                                      [](const net::ssh_end_of_file& e) { return e.id; },
                                      [](const net::ssh_closed& e) { return e.id; },
                                      [](const auto&) { return net::channel_id{0}; }},
                             event);
  if (!exec_.owns(id)) return false;
  std::visit(
      overload{
          [&](const net::ssh_open_refused& e) {
            const auto before = exec_.limit();
            perform(exec_.on_refused(now_, e.id, e.reason));
            if (exec_.limit() != before)
              log::warn("tunnel.exec_limit", {{"places", exec_.limit()}, {"reason", e.reason}});
          },
          [&](const net::ssh_bytes& e) { exec_.on_output(e.id, e.data); },
          [&](const net::ssh_error_bytes& e) {
            perform(exec_.on_error_output(now_, e.id, e.data));
          },
          [&](const net::ssh_exit& e) {
            if (e.status) exec_.on_exit_status(e.id, *e.status);
            if (!e.signal.empty()) exec_.on_exit_signal(e.id, e.signal);
          },
          [&](const net::ssh_closed& e) { perform(exec_.on_closed(now_, e.id)); },
          [](const auto&) {}},
      event);
  return true;
}

void tunnel_engine::loop::perform(exec_effects todo) {
  for (auto& one : todo)
    std::visit(overload{[&](run_remote& e) {
                          auto* s = live_session();
                          if (!s) return;  // Its loss is about to be told.
                          s->exec(e.of, std::move(e.line));
                          s->write(e.of, std::move(e.input));
                          s->send_eof(e.of);
                        },
                        [&](const close_remote& e) {
                          if (auto* s = live_session()) s->close(e.of);
                        },
                        [&](exec_done& e) {
                          if (auto asked = exec_asked_.extract(e.of))
                            asked.mapped()(std::move(e.outcome));
                        },
                        [&](const exec_look_again& e) { exec_wake_ = std::min(exec_wake_, e.at); }},
               one);
  static auto& used = gauges::value("tunnel_exec_used");
  static auto& limit = gauges::value("tunnel_exec_limit");
  static auto& waiting = gauges::value("tunnel_exec_waiting");
  static auto& to_kill = gauges::value("tunnel_exec_to_kill");
  used = static_cast<std::int64_t>(exec_.used());
  limit = static_cast<std::int64_t>(exec_.limit());
  waiting = static_cast<std::int64_t>(exec_.waiting());
  to_kill = static_cast<std::int64_t>(exec_.leftovers());
}

}  // namespace ntrace::tunnel
