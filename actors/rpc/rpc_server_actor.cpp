#include "actors/rpc/rpc_server_actor.hpp"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <caf/io/broker.hpp>
#include <caf/io/middleman.hpp>

#include <map>

#include "config/gauges.hpp"
#include "config/limits.hpp"
#include "config/log.hpp"
#include "net/rpc_session.hpp"
#include "supervision/caf_types.hpp"

namespace ntrace::rpc {
namespace {

using sweep_atom = caf::atom_constant<caf::atom("sweep")>;
constexpr auto sweep_every = std::chrono::seconds{5};
constexpr std::size_t read_bytes = 64u << 10;

/// A connection has two scribes. CAF ends a scribe when the peer half-closes, as nc does, and what
/// was asked must still be answered: so a second scribe that never reads writes on a duplicate of
/// the descriptor.
struct peer {
  net::rpc_session session;
  caf::io::connection_handle reader, writer;
  std::size_t unsent = 0;
  time_point last_progress{};
  bool read_closed = false;
  bool paused = false;
};

struct server_state {
  const char* name = "rpc_server";
  caf::actor handler;
  std::uint16_t port = 0;
  std::map<peer_id, peer> peers;
  std::map<caf::io::connection_handle, peer_id> by_handle;
  peer_id next_peer = 1;
};
using server_self = caf::stateful_actor<server_state, caf::io::broker>*;

void drop(server_self self, peer_id id) {
  auto& state = self->state;
  const auto at = state.peers.find(id);
  if (at == state.peers.end()) return;
  const auto reader = at->second.reader;
  const auto writer = at->second.writer;
  const bool told = at->second.read_closed;
  state.by_handle.erase(reader);
  state.by_handle.erase(writer);
  state.peers.erase(at);
  self->close(writer);
  self->close(reader);
  --gauges::value("rpc_connections");
  if (!told) self->send(state.handler, peer_gone{id});
}

/// Sends what the session has to say, and closes what has nothing more to say.
void pump(server_self self, peer_id id) {
  const auto at = self->state.peers.find(id);
  if (at == self->state.peers.end()) return;
  auto& p = at->second;
  if (p.session.has_output()) {
    const auto text = p.session.take_output();
    if (p.unsent == 0) p.last_progress = supervision::now_of(self);
    p.unsent += text.size();
    self->write(p.writer, text.size(), text.data());
    self->flush(p.writer);
  }
  const bool done = p.session.is_broken() || (p.read_closed && p.session.requests_in_flight() == 0);
  if (done && p.unsent == 0) return drop(self, id);
  const bool pause = p.session.wants_pause(p.unsent);
  if (!p.read_closed && pause != p.paused) {
    p.paused = pause;
    if (pause) {
      self->halt(p.reader);
    } else {
      self->trigger(p.reader);
      self->configure_read(p.reader, caf::io::receive_policy::at_most(read_bytes));
    }
  }
}

void serve(server_self self, peer_id id, net::rpc_request request) {
  auto answer = [self, id, request](const result<nlohmann::json>& value) {
    const auto at = self->state.peers.find(id);
    if (at == self->state.peers.end()) return;
    if (!value && !request.wants_reply)
      log::warn("rpc.request_failed",
                {{"peer", id}, {"method", request.method}, {"reason", to_string(value.error())}});
    at->second.session.answer(request, value);
    pump(self, id);
  };
  self->request(self->state.handler, caf::infinite, call{id, request.method, request.args})
      .then([answer](const served& s) { answer(s.value); },
            [answer](const caf::error& e) {
              auto ours = supervision::from_caf(e);
              if (ours.code == ec::child_failed)
                ours.message =
                    "the server restarts; it is not known whether it was done: try again";
              answer(fail(std::move(ours)));
            });
}

void on_connection(server_self self, const caf::io::new_connection_msg& m) {
  auto& state = self->state;
  const int fd = static_cast<int>(m.handle.id());
  if (state.peers.size() >= limits::connections_max) {
    ++gauges::value("rpc_connections_refused");
    self->close(m.handle);
    return;
  }
  const int copy = ::fcntl(fd, F_DUPFD_CLOEXEC, 0);
  if (copy < 0) {
    log::error("rpc.no_descriptors", {{"connections", state.peers.size()}});
    self->close(m.handle);
    return;
  }
  const int one = 1;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  const auto id = state.next_peer++;
  auto& p = state.peers[id];
  p.reader = m.handle;
  p.writer = self->add_scribe(copy);
  state.by_handle[p.reader] = id;
  state.by_handle[p.writer] = id;
  self->ack_writes(p.writer, true);
  self->configure_read(p.reader, caf::io::receive_policy::at_most(read_bytes));
  ++gauges::value("rpc_connections");
}

void on_closed(server_self self, caf::io::connection_handle handle) {
  auto& state = self->state;
  const auto at = state.by_handle.find(handle);
  if (at == state.by_handle.end()) return;
  const auto id = at->second;
  auto& p = state.peers.at(id);
  state.by_handle.erase(at);
  if (handle == p.writer) return drop(self, id);
  p.read_closed = true;
  self->send(state.handler, peer_gone{id});
  pump(self, id);
}

void sweep(server_self self) {
  std::vector<peer_id> stuck;
  for (const auto& [id, p] : self->state.peers)
    if (p.unsent > 0 && supervision::now_of(self) - p.last_progress > limits::unread_deadline)
      stuck.push_back(id);
  for (const auto id : stuck) {
    ++gauges::value("rpc_connections_stuck");
    log::warn("rpc.peer_does_not_read", {{"peer", id}});
    drop(self, id);
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
            const auto id = at->second;
            auto events = self->state.peers.at(id).session.on_bytes({m.buf.data(), m.buf.size()});
            for (auto& event : events)
              if (auto* request = std::get_if<net::rpc_request>(&event))
                serve(self, id, std::move(*request));
            pump(self, id);
          },
          [self](const caf::io::data_transferred_msg& m) {
            const auto at = self->state.by_handle.find(m.handle);
            if (at == self->state.by_handle.end()) return;
            auto& p = self->state.peers.at(at->second);
            p.unsent = static_cast<std::size_t>(m.remaining);
            p.last_progress = supervision::now_of(self);
            pump(self, at->second);
          },
          [self](const caf::io::connection_closed_msg& m) { on_closed(self, m.handle); },
          [self](const caf::io::acceptor_closed_msg&) {
            self->quit(caf::exit_reason::unhandled_exception);
          },
          [self](const notify& n) {
            const auto at = self->state.peers.find(n.peer);
            if (at == self->state.peers.end()) return;
            at->second.session.notify(n.method, n.args);
            pump(self, n.peer);
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
