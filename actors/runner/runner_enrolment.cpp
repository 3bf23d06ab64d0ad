// Who works for this runner: zones made and enrolled at its start and by request, and expelled.
#include "actors/rpc/rpc_link_actor.hpp"
#include "actors/runner/runner_answers.hpp"
#include "actors/runner/runner_state.hpp"
#include "actors/runner/worker_store.hpp"
#include "actors/zone/zone_linux.hpp"
#include "config/ids.hpp"
#include "config/log.hpp"
#include "supervision/blocking_worker.hpp"
#include "supervision/supervisor_actor.hpp"

namespace ntrace::runner {
namespace {

using rpc::deny;
using rpc::give;
using supervision::now_of;
using supervision::run_blocking;
using supervision::to_caf;

/// Makes sure that the zone's actor runs, and calls `then` with its façade.
void add_zone(runner_self self, const std::string& uuid,
              const std::function<void(const result<caf::unit_t>&)>& then) {
  auto& s = self->state;
  supervision::child child;
  child.spec.id = zone_id(uuid);
  child.held.resend = false;  // What ran in a zone that died is not begun again behind its back.
  const auto helper = s.parts.helper;
  child.start = [helper, uuid](caf::local_actor* by) -> result<caf::actor> {
    return zone::spawn_zone(by->system(), std::make_shared<zone::zone_linux>(helper, uuid));
  };
  const auto failed = [then](const caf::error& e) { then(fail(supervision::from_caf(e))); };
  const auto refer = [self, uuid, then, failed] {
    self->request(self->state.parts.zone_sup, caf::infinite, supervision::ref_atom::value,
                  zone_id(uuid))
        .then(
            [self, uuid, then](const caf::actor& front) {
              self->state.zones[uuid] = front;
              then(caf::unit);
            },
            failed);
  };
  self->request(s.parts.zone_sup, caf::infinite, supervision::add_child_atom::value, child)
      .then([refer](const std::string&) { refer(); },
            [refer, failed](const caf::error& e) {
              // A runner that was restarted finds its zones running.
              supervision::from_caf(e).code == ec::already_started ? refer() : failed(e);
            });
}

void serve_from_now(runner_self self) {
  auto& s = self->state;
  s.is_ready = true;
  for (auto& promise : s.waiting) promise.deliver(caf::unit);
  s.waiting.clear();
  for (auto& promise : s.asked_for_hello)
    promise.deliver(rpc::hello_args{rpc::to_json(s.fsm->state(now_of(self)))});
  s.asked_for_hello.clear();
}

}  // namespace

void enroll(runner_self self, const std::string& uuid, const caf::response_promise& promise) {
  auto& s = self->state;
  const auto answer = [self, uuid, promise] {
    give(promise, to_json(*self->state.fsm->pool().find(uuid)));
  };
  if (!is_uuid(uuid))
    return deny(promise,
                to_caf({ec::bad_argument,
                        "\"" + uuid + "\" is not a zone's uuid; `ntrace zone list` shows them",
                        {}}));
  if (const auto* known = s.fsm->pool().find(uuid); known && !known->is_leaving) {
    carry_out(self, s.fsm->on_enrolled(now_of(self), uuid, known->enrolled_ms));
    return answer();
  }
  const auto helper = s.parts.helper;
  const auto data = s.parts.data;
  auto enrolled = s.fsm->pool().list();
  const auto at = wall_ms();
  run_blocking<caf::unit_t>(
      self, "enroll",
      [helper, data, uuid, enrolled, at]() -> result<caf::unit_t> {
        if (auto saved = enroll_on_disk(*helper, data, uuid, at, enrolled); !saved)
          return fail(saved.error());
        return caf::unit;
      },
      [self, uuid, at, promise, answer](const result<caf::unit_t>& done) {
        if (!done) return deny(promise, to_caf(done.error()));
        add_zone(self, uuid, [self, uuid, at, promise, answer](const result<caf::unit_t>& added) {
          if (!added) return deny(promise, to_caf(added.error()));
          carry_out(self, self->state.fsm->on_enrolled(now_of(self), uuid, at));
          log::info("worker.enrolled", {{"worker", uuid}});
          answer();
        });
      });
}

void expel(runner_self self, const std::string& uuid, bool abort,
           const caf::response_promise& promise) {
  auto& s = self->state;
  auto todo = s.fsm->on_expel(now_of(self), uuid, abort);
  if (!todo) return deny(promise, to_caf(todo.error()));
  carry_out(self, *todo);
  auto rest = s.fsm->pool().list();
  std::erase_if(rest, [](const worker& w) { return w.is_leaving; });
  const auto data = s.parts.data;
  run_blocking<caf::unit_t>(
      self, "expel",
      [data, rest]() -> result<caf::unit_t> {
        if (auto saved = save_workers(data, rest); !saved) return fail(saved.error());
        return caf::unit;
      },
      [uuid, promise](const result<caf::unit_t>& done) {
        if (!done) return deny(promise, to_caf(done.error()));
        log::info("worker.expelled", {{"worker", uuid}});
        give(promise, to_json(expelled_answer{uuid}));
      });
}

void start(runner_self self) {
  const auto helper = self->state.parts.helper;
  const auto data = self->state.parts.data;
  const auto wanted = self->state.parts.workers;
  run_blocking<std::shared_ptr<std::vector<worker>>>(
      self, "start",
      [helper, data, wanted]() -> result<std::shared_ptr<std::vector<worker>>> {
        auto all = load_workers(data);
        if (!all) return fail(all.error());
        if (auto made = make_workers(*helper, data, wanted, *all); !made) return fail(made.error());
        return std::make_shared<std::vector<worker>>(std::move(*all));
      },
      [self](const result<std::shared_ptr<std::vector<worker>>>& all) {
        if (!all) return self->quit(to_caf(all.error()));
        auto left = std::make_shared<std::size_t>((*all)->size());
        for (const auto& w : **all)
          add_zone(self, w.uuid, [self, w, left](const result<caf::unit_t>& added) {
            if (!added) return self->quit(to_caf(added.error()));
            carry_out(self, self->state.fsm->on_enrolled(now_of(self), w.uuid, w.enrolled_ms));
            if (--*left == 0) serve_from_now(self);
          });
        if ((*all)->empty()) serve_from_now(self);
      });
}

}  // namespace ntrace::runner
