#include "actors/rpc/rpc_link_actor.hpp"

#include <caf/event_based_actor.hpp>
#include <caf/io/middleman.hpp>

#include <map>

#include "config/backoff.hpp"
#include "config/gauges.hpp"
#include "config/log.hpp"
#include "net/rpc_session.hpp"
#include "net/socket.hpp"
#include "supervision/caf_types.hpp"
#include "supervision/closing_broker.hpp"

namespace ntrace::rpc {
namespace {

using dial_atom = caf::atom_constant<caf::atom("dial")>;
using dialled_atom = caf::atom_constant<caf::atom("dialled")>;
using undialled_atom = caf::atom_constant<caf::atom("undialled")>;

constexpr milliseconds connect_deadline{5000};
constexpr std::size_t read_bytes = 64u << 10;
constexpr backoff_policy redial{milliseconds{20}, milliseconds{500}};  // docs/architecture.md

struct link_state {
  const char* name = "link";
  host_port to;
  caf::actor owner;
  nlohmann::json hello;
  std::optional<net::rpc_session> session;
  caf::io::connection_handle handle;
  std::map<std::uint64_t, caf::response_promise> calls;
  std::uint64_t hello_call = 0;
  unsigned failures = 0;
  bool is_up = false;
  random_source random{random_seed()};
};
using link_self = caf::stateful_actor<link_state, supervision::closing_broker>*;

void pump(link_self self) {
  auto& state = self->state;
  if (!state.session || !state.session->has_output()) return;
  const auto text = state.session->take_output();
  self->write(state.handle, text.size(), text.data());
  self->flush(state.handle);
}

void dial_later(link_self self) {
  const auto wait = backoff_wait(redial, self->state.failures++, self->state.random);
  ++gauges::value("link_dials");
  self->delayed_send(self, wait, dial_atom::value);
}

void lost(link_self self, const std::string& reason) {
  auto& state = self->state;
  state.session.reset();
  for (auto& [number, promise] : state.calls)
    promise.deliver(supervision::to_caf(
        {ec::connection_lost, "the link to " + state.to.text() + " ended before the answer", {}}));
  state.calls.clear();
  if (std::exchange(state.is_up, false)) {
    log::warn("link.lost", {{"to", state.to.text()}, {"reason", reason}});
    self->send(state.owner, link_lost{reason});
  }
  dial_later(self);
}

void dial(link_self self) {
  const auto to = self->state.to;
  const caf::actor me = self;
  // connect(2) and the resolver block: a thread of their own.
  self->spawn<caf::detached>([to, me](caf::event_based_actor* dialler) {
    auto fd = net::connect_tcp(to, connect_deadline);
    if (fd)
      dialler->send(me, dialled_atom::value, fd->release());
    else
      dialler->send(me, undialled_atom::value, fd.error().message);
  });
}

/// The hello first: while its owner is not ready there is nothing to say to anybody.
void begin(link_self self) {
  self->request(self->state.owner, caf::infinite, hello_atom::value)
      .then(
          [self](const hello_args& hello) {
            self->state.hello = hello.value;
            dial(self);
          },
          [self](const caf::error& e) {
            log::warn("link.no_hello", {{"reason", to_string(supervision::from_caf(e))}});
            dial_later(self);
          });
}

void on_answer(link_self self, net::rpc_answer answer) {
  auto& state = self->state;
  if (answer.call == state.hello_call) {
    // An answer that is none is as a refusal: with wrong terms no lease would hold.
    const auto hello =
        answer.value ? parse_hello_answer(*answer.value) : fail(answer.value.error());
    if (!hello) {
      log::error("link.refused", {{"to", state.to.text()}, {"reason", hello.error().message}});
      self->close(state.handle);
      return lost(self, hello.error().message);
    }
    state.is_up = true;
    state.failures = 0;
    log::info("link.up", {{"to", state.to.text()}});
    self->send(state.owner, link_up{*hello});
    return;
  }
  const auto at = state.calls.find(answer.call);
  if (at == state.calls.end()) return;
  auto promise = std::move(at->second);
  state.calls.erase(at);
  if (answer.value)
    promise.deliver(served{std::move(*answer.value)});
  else
    promise.deliver(supervision::to_caf(answer.value.error()));
}

void on_request(link_self self, const net::rpc_request& request) {
  self->request(self->state.owner, caf::infinite, call{0, request.method, request.args})
      .then(
          [self, request](const served& s) {
            if (self->state.session) self->state.session->answer(request, net::to_text(s.value));
            pump(self);
          },
          [self, request](const caf::error& e) {
            if (self->state.session)
              self->state.session->answer(request, fail(supervision::from_caf(e)));
            pump(self);
          });
}

caf::behavior link(link_self self, const host_port& to, const caf::actor& owner) {
  supervision::guard(self, "link");
  self->state.to = to;
  self->state.owner = owner;
  begin(self);
  return {[self](dial_atom) { begin(self); },
          [self](dialled_atom, int fd) {
            auto& state = self->state;
            state.handle = self->add_scribe(fd);
            state.session.emplace();
            self->configure_read(state.handle, caf::io::receive_policy::at_most(read_bytes));
            state.hello_call = state.session->call("hello", nlohmann::json::array({state.hello}));
            pump(self);
          },
          [self](undialled_atom, const std::string& reason) {
            if (self->state.failures == 0)
              log::warn("link.unreachable", {{"to", self->state.to.text()}, {"reason", reason}});
            dial_later(self);
          },
          [self](const caf::io::new_data_msg& m) {
            auto& state = self->state;
            if (!state.session || m.handle != state.handle) return;
            auto events = state.session->on_bytes({m.buf.data(), m.buf.size()});
            for (auto& event : events) {
              if (!state.session) return;  // A refused hello ended it.
              if (auto* answer = std::get_if<net::rpc_answer>(&event))
                on_answer(self, std::move(*answer));
              else
                on_request(self, std::get<net::rpc_request>(std::move(event)));
            }
            pump(self);
          },
          [self](const caf::io::connection_closed_msg& m) {
            if (self->state.session && m.handle == self->state.handle)
              lost(self, "the dispatcher closed the connection");
          },
          [self](const call& c) -> caf::result<served> {
            auto& state = self->state;
            if (!state.is_up)
              return supervision::to_caf({ec::unreachable, "no link to " + state.to.text(), {}});
            auto promise = self->make_response_promise();
            state.calls[state.session->call(c.method, c.args)] = promise;
            pump(self);
            return caf::delegated<served>{};
          }};
}

}  // namespace

caf::actor spawn_rpc_link(caf::actor_system& system, const host_port& to, const caf::actor& owner) {
  return system.middleman().spawn_broker(link, to, owner);
}

}  // namespace ntrace::rpc
