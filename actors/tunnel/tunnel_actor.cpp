#include "actors/tunnel/tunnel_actor.hpp"

#include <caf/event_based_actor.hpp>
#include <caf/send.hpp>

#include <map>

#include "actors/rpc/rpc_types.hpp"
#include "config/random.hpp"
#include "supervision/caf_types.hpp"
#include "supervision/held_bytes.hpp"

namespace ntrace::tunnel {
namespace {

struct tunnel_status {
  std::uint64_t question;
  nlohmann::json value;
};

struct engine_broke {
  std::string what;
};

struct tunnel_state_of_actor {
  const char* name = "tunnel";
  std::unique_ptr<tunnel_engine> engine;
  std::map<std::uint64_t, caf::response_promise> asked;
  std::uint64_t next = 1;
};
using tunnel_self = caf::stateful_actor<tunnel_state_of_actor>*;

}  // namespace
}  // namespace ntrace::tunnel

NTRACE_LOCAL_MESSAGE(ntrace::tunnel::tunnel_status)
NTRACE_LOCAL_MESSAGE(ntrace::tunnel::engine_broke)

namespace ntrace::tunnel {
namespace {

caf::behavior tunnel(tunnel_self self, const tunnel_settings& settings) {
  supervision::guard(self, "tunnel");
  const caf::actor myself = self;
  self->state.engine = std::make_unique<tunnel_engine>(
      settings, random_seed(),
      [myself](std::string what) { caf::anon_send(myself, engine_broke{std::move(what)}); });
  return {[self](const rpc::call& c) -> caf::result<rpc::served> {
            auto& s = self->state;
            const std::string what =
                !c.args.empty() && c.args[0].is_string() ? c.args[0].get<std::string>() : "status";
            if (what != "status" && what != "retry")
              return supervision::to_caf(
                  {ec::bad_argument, "tunnel takes \"status\" or \"retry\"", {{"field", "0"}}});
            if (what == "retry") s.engine->retry();
            const auto question = s.next++;
            auto promise = self->make_response_promise();
            s.asked[question] = promise;
            const caf::actor me = self;
            s.engine->ask_status([me, question](nlohmann::json value) {
              caf::anon_send(me, tunnel_status{question, std::move(value)});
            });
            return caf::delegated<rpc::served>{};
          },
          [self](const tunnel_status& m) {
            if (auto asked = self->state.asked.extract(m.question))
              rpc::give(asked.mapped(), m.value);
          },
          // Its supervisor begins another.
          [self](const engine_broke& m) {
            self->quit(supervision::to_caf(
                supervision::exit_reason{supervision::exit_kind::failed, m.what}));
          }};
}

}  // namespace

caf::actor spawn_tunnel(caf::actor_system& system, const tunnel_settings& settings) {
  // Detached: ending the engine waits for its thread.
  return system.spawn<caf::detached>(tunnel, settings);
}

}  // namespace ntrace::tunnel
