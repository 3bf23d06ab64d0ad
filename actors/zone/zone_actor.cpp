#include "actors/zone/zone_actor.hpp"

#include <caf/stateful_actor.hpp>
#include <caf/typed_event_based_actor.hpp>

#include "actors/zone/zone_fence.hpp"
#include "config/gauges.hpp"
#include "config/log.hpp"
#include "supervision/caf_types.hpp"

namespace ntrace::zone {
namespace {

using supervision::to_caf;

struct zone_state {
  const char* name = "zone";
  std::shared_ptr<zone> own;
  zone_fence fence;
};
using zone_self = zone_actor::stateful_pointer<zone_state>;

caf::error refuse(const zone& z, const error& why) {
  ++gauges::value("zone_stale_refused");
  log::warn("zone.stale_refused", {{"zone", z.uuid()}, {"reason", why.message}});
  return to_caf(why);
}

zone_actor::behavior_type run(zone_self self, const std::shared_ptr<zone>& z) {
  supervision::guard(self, "zone");
  self->state.own = z;
  return {[self, z](const boot_request& r) -> caf::result<boot_answer> {
            auto& fence = self->state.fence;
            if (auto may = fence.check_boot(r.token); !may) return refuse(*z, may.error());
            fence.on_boot(r.token);
            auto receipt = z->boot(r.spec);
            ++gauges::value("zone_boots");
            if (!receipt) {
              ++gauges::value("zone_boots_failed");
              log::warn("zone.boot_failed",
                        {{"zone", z->uuid()}, {"reason", to_string(receipt.error())}});
              return to_caf(receipt.error());
            }
            log::debug("zone.booted", {{"zone", z->uuid()}, {"generation", receipt->generation}});
            return boot_answer{std::move(*receipt), z->cgroup_path(), z->init_pid()};
          },
          [self, z](const exec_request& r) -> caf::result<exec_end> {
            if (auto may = self->state.fence.check_use(r.token); !may)
              return refuse(*z, may.error());
            std::unique_ptr<net::egress_proxy> proxy;
            if (auto listener = z->take_listener(); listener && r.egress)
              proxy = std::make_unique<net::egress_proxy>(std::move(listener), r.egress->options,
                                                          r.egress->report);
            auto ended =
                z->exec(r.spec, r.limits, r.sink, r.stop.get(), r.input ? r.input->get() : -1);
            if (!ended) return to_caf(ended.error());
            return *ended;
          },
          [self, z](const unpack_request& r) -> caf::result<caf::ok_atom> {
            if (auto may = self->state.fence.check_use(r.token); !may)
              return refuse(*z, may.error());
            auto done = z->unpack(r.folder, r.bundle->get(), r.deadline, r.stop.get());
            if (!done) return to_caf(done.error());
            return caf::ok_atom::value;
          },
          [self, z](const collect_request& r) -> caf::result<collected> {
            if (auto may = self->state.fence.check_use(r.token); !may)
              return refuse(*z, may.error());
            auto files = z->collect(r.folder, r.prefix);
            if (!files) return to_caf(files.error());
            return std::move(*files);
          },
          [self, z](end_atom) -> caf::result<caf::ok_atom> {
            self->state.fence.on_end();
            if (auto ended = z->end(); !ended) {
              log::error("zone.end_failed",
                         {{"zone", z->uuid()}, {"reason", to_string(ended.error())}});
              return to_caf(ended.error());
            }
            return caf::ok_atom::value;
          }};
}

}  // namespace

caf::actor spawn_zone(caf::actor_system& system, std::shared_ptr<zone> z) {
  return caf::actor_cast<caf::actor>(system.spawn<caf::detached>(run, std::move(z)));
}

}  // namespace ntrace::zone
