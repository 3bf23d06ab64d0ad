#include "actors/rpc/rpc_server_actor.hpp"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <caf/io/middleman.hpp>

#include <algorithm>
#include <cerrno>
#include <map>
#include <optional>

#include "config/file.hpp"
#include "config/gauges.hpp"
#include "config/limits.hpp"
#include "config/log.hpp"
#include "config/overload.hpp"
#include "net/rpc_peer_fsm.hpp"
#include "supervision/caf_types.hpp"
#include "supervision/closing_broker.hpp"

namespace ntrace::rpc {
namespace {

using sweep_atom = caf::atom_constant<caf::atom("sweep")>;
constexpr auto sweep_every = std::chrono::seconds{5};
/// CAF clears as much before each read: little for those that ask little.
constexpr std::size_t read_bytes_min = 1u << 10, read_bytes_max = 16u << 10;

/// CAF ends a scribe when the peer half-closes, and what was asked must still be answered: so we
/// write on a duplicate of the descriptor. It takes nearly all answers at once; for a peer that is
/// slow to read, a second scribe that never reads waits and writes the rest.
struct peer {
  net::rpc_peer_fsm fsm;
  /// None once CAF has closed it: its number, the descriptor's, may be another connection's by
  /// then.
  std::optional<caf::io::connection_handle> reader, writer;
  unique_fd out;  ///< None once the connection is broken.
  std::size_t read_bytes = read_bytes_min;
  std::string address;
};

struct server_state {
  const char* name = "rpc_server";
  caf::actor handler;
  std::uint16_t port = 0;
  std::map<peer_id, peer> peers;
  std::map<caf::io::connection_handle, peer_id> by_handle;
  peer_id next_peer = 1;
};
using server_self = caf::stateful_actor<server_state, supervision::closing_broker>*;

void perform(server_self self, peer_id id, net::peer_effects todo);

void serve(server_self self, peer_id id, net::rpc_request request) {
  auto args = std::exchange(request.args, {});
  call said{id, request.method, std::move(args), self->state.peers.at(id).address};
  auto answer = [self, id, request = std::move(request)](const result<nlohmann::json>& value) {
    const auto at = self->state.peers.find(id);
    if (at == self->state.peers.end()) return;
    if (!value && !request.wants_reply)
      log::warn("rpc.request_failed",
                {{"peer", id}, {"method", request.method}, {"reason", to_string(value.error())}});
    perform(self, id, at->second.fsm.on_answer(supervision::now_of(self), request, value));
  };
  self->request(self->state.handler, caf::infinite, std::move(said))
      .then([answer](const served& s) { answer(s.value); },
            [answer](const caf::error& e) {
              auto ours = supervision::from_caf(e);
              if (ours.code == ec::child_failed)
                ours.message =
                    "the server restarts; it is not known whether it was done: try again";
              answer(fail(std::move(ours)));
            });
}

void forget(server_self self, peer_id id) {
  auto& state = self->state;
  const auto at = state.peers.find(id);
  const auto writer = at->second.writer, reader = at->second.reader;
  state.peers.erase(at);
  for (const auto& handle : {writer, reader}) {
    if (!handle) continue;
    state.by_handle.erase(*handle);
    self->close(*handle);
  }
  --gauges::value("rpc_connections");
}

/// What the socket does not take at once is left to a scribe.
void write(server_self self, peer_id id, std::string_view text) {
  auto& p = self->state.peers.at(id);
  if (!p.out) return;
  const auto broken = [&] {
    p.out.reset();
    perform(self, id, p.fsm.on_broken());
  };
  if (!p.writer) {
    const auto sent = ::send(p.out.get(), text.data(), text.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN && errno != EINTR) return broken();
    text.remove_prefix(static_cast<std::size_t>(std::max<ssize_t>(sent, 0)));
    if (text.empty()) return perform(self, id, p.fsm.on_written(supervision::now_of(self), 0));
    const int copy = ::fcntl(p.out.get(), F_DUPFD_CLOEXEC, 0);
    if (copy < 0) {
      log::error("rpc.no_descriptors", {{"connections", self->state.peers.size()}});
      return broken();
    }
    p.writer = self->add_scribe(copy);
    self->state.by_handle[*p.writer] = id;
    self->ack_writes(*p.writer, true);
  }
  self->write(*p.writer, text.size(), text.data());
  self->flush(*p.writer);
}

void perform(server_self self, peer_id id, net::peer_effects todo) {
  for (auto& one : todo) {
    const auto at = self->state.peers.find(id);
    if (at == self->state.peers.end()) return;
    auto& p = at->second;
    std::visit(
        overload{[&](net::serve_request& e) { serve(self, id, std::move(e.request)); },
                 [&](const net::write_bytes& e) { write(self, id, e.text); },
                 [&](const net::stop_reading&) {
                   if (p.reader) self->halt(*p.reader);
                 },
                 [&](const net::read_again&) {
                   if (!p.reader) return;
                   self->trigger(*p.reader);
                   self->configure_read(*p.reader, caf::io::receive_policy::at_most(p.read_bytes));
                 },
                 [&](const net::peer_is_gone&) { self->send(self->state.handler, peer_gone{id}); },
                 [&](const net::close_connection&) { forget(self, id); }},
        one);
  }
}

/// A peer whose machine vanished sends no end: the kernel asks, and gives up within a lease.
void tune(int fd) {
  struct option {
    int level, name, value;
  };
  for (const auto& o : {option{IPPROTO_TCP, TCP_NODELAY, 1}, option{SOL_SOCKET, SO_KEEPALIVE, 1},
                        option{IPPROTO_TCP, TCP_KEEPIDLE, limits::keepalive_idle_s},
                        option{IPPROTO_TCP, TCP_KEEPINTVL, limits::keepalive_interval_s},
                        option{IPPROTO_TCP, TCP_KEEPCNT, limits::keepalive_probes},
                        option{IPPROTO_TCP, TCP_USER_TIMEOUT, limits::unacknowledged_ms}})
    ::setsockopt(fd, o.level, o.name, &o.value, sizeof o.value);
}

void on_connection(server_self self, const caf::io::new_connection_msg& m) {
  auto& state = self->state;
  const int fd = static_cast<int>(m.handle.id());
  if (state.peers.size() >= limits::connections_max) {
    ++gauges::value("rpc_connections_refused");
    self->close(m.handle);
    return;
  }
  unique_fd copy{::fcntl(fd, F_DUPFD_CLOEXEC, 0)};
  if (!copy) {
    log::error("rpc.no_descriptors", {{"connections", state.peers.size()}});
    self->close(m.handle);
    return;
  }
  tune(fd);
  const auto id = state.next_peer++;
  auto& p = state.peers[id];
  p.reader = m.handle;
  p.address = self->remote_addr(m.handle);
  p.out = std::move(copy);
  state.by_handle[*p.reader] = id;
  self->configure_read(*p.reader, caf::io::receive_policy::at_most(p.read_bytes));
  ++gauges::value("rpc_connections");
}

/// A read that was full is followed by larger ones, for as long as they are.
void fit_reads(server_self self, peer& p, std::size_t got) {
  const auto fit = got == p.read_bytes        ? read_bytes_max
                   : got < read_bytes_max / 2 ? read_bytes_min
                                              : p.read_bytes;
  if (fit == p.read_bytes) return;
  p.read_bytes = fit;
  self->configure_read(*p.reader, caf::io::receive_policy::at_most(fit));
}

void on_closed(server_self self, caf::io::connection_handle handle) {
  auto& state = self->state;
  const auto at = state.by_handle.find(handle);
  if (at == state.by_handle.end()) return;
  const auto id = at->second;
  auto& p = state.peers.at(id);
  state.by_handle.erase(at);
  const bool is_writer = p.writer == handle;
  (is_writer ? p.writer : p.reader).reset();
  if (is_writer) p.out.reset();
  perform(self, id, is_writer ? p.fsm.on_broken() : p.fsm.on_half_close(supervision::now_of(self)));
}

void sweep(server_self self) {
  std::vector<std::pair<peer_id, net::peer_effects>> stuck;
  for (auto& [id, p] : self->state.peers)
    if (auto todo = p.fsm.on_tick(supervision::now_of(self)); !todo.empty())
      stuck.emplace_back(id, std::move(todo));
  for (auto& [id, todo] : stuck) {
    ++gauges::value("rpc_connections_stuck");
    log::warn("rpc.peer_does_not_read", {{"peer", id}});
    perform(self, id, std::move(todo));
  }
  self->delayed_send(self, sweep_every, sweep_atom::value);
}

caf::behavior server(server_self self, caf::io::accept_handle, std::uint16_t port,
                     const caf::actor& handler) {
  supervision::guard(self, "rpc_server");
  self->state.handler = handler;
  self->state.port = port;
  self->delayed_send(self, sweep_every, sweep_atom::value);
  return {[self](const caf::io::new_connection_msg& m) { on_connection(self, m); },
          [self](const caf::io::new_data_msg& m) {
            const auto at = self->state.by_handle.find(m.handle);
            if (at == self->state.by_handle.end()) return;
            auto& p = self->state.peers.at(at->second);
            fit_reads(self, p, m.buf.size());
            perform(self, at->second,
                    p.fsm.on_bytes(supervision::now_of(self), {m.buf.data(), m.buf.size()}));
          },
          [self](const caf::io::data_transferred_msg& m) {
            const auto at = self->state.by_handle.find(m.handle);
            if (at == self->state.by_handle.end()) return;
            auto& fsm = self->state.peers.at(at->second).fsm;
            perform(
                self, at->second,
                fsm.on_written(supervision::now_of(self), static_cast<std::size_t>(m.remaining)));
          },
          [self](const caf::io::connection_closed_msg& m) { on_closed(self, m.handle); },
          [self](const caf::io::acceptor_closed_msg&) {
            self->quit(caf::exit_reason::unhandled_exception);
          },
          [self](const notify& n) {
            const auto at = self->state.peers.find(n.peer);
            if (at == self->state.peers.end()) return;
            perform(self, n.peer,
                    at->second.fsm.on_notify(supervision::now_of(self), n.method, n.args));
          },
          [self](port_atom) { return self->state.port; },
          [self](sweep_atom) { sweep(self); }};
}

}  // namespace

result<caf::actor> spawn_rpc_server(caf::actor_system& system, const host_port& at,
                                    const caf::actor& handler) {
  auto doorman = system.middleman().backend().new_tcp_doorman(at.port, at.host.c_str(), true);
  if (!doorman)
    return fail(ec::unreachable, "cannot listen on " + at.text() + ": " +
                                     caf::to_string(doorman.error()) +
                                     "; is another ntrace running?");
  const auto port = (*doorman)->port();
  auto broker = system.middleman().spawn_broker(
      [port, handler, d = *doorman](server_self self) -> caf::behavior {
        self->add_doorman(d);
        return server(self, d->hdl(), port, handler);
      });
  return broker;
}

}  // namespace ntrace::rpc
