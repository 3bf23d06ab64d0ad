// The part of queue_fsm that meets the gate of pushes.
#include <utility>

#include "actors/dispatcher/queue_fsm.hpp"

namespace ntrace::dispatcher {

effects queue_fsm::on_pushed(time_point now) {
  effects out;
  const auto runs = gate_.take();
  if (runs.empty()) return out;
  for (const auto& row : runs) {
    if (runs_.count(row.id) != 0 || !waiting_.add(row)) continue;
    if (row.deadline_ms != 0) watch_deadline(now + milliseconds{row.deadline_ms}, row.id, out);
  }
  gate_.set_open_runs(open_runs());
  schedule(now, out);
  return out;
}

void queue_fsm::set_draining(bool is) {
  is_draining_ = is;
  gate_.set_draining(is);
}

void queue_fsm::on_stopping() {
  is_stopping_ = true;
  gate_.set_stopping();
}

effects queue_fsm::on_drain(time_point now, request_id request, bool draining) {
  effects out;
  // Work stops at once; it begins again only when the end of the drain is on disk.
  const bool before = is_draining_;
  set_draining(before || draining);
  write(out, {journal::set_flag{journal::draining_flag, draining}},
        [this, request, draining, before](time_point then, const result<journal::committed>& done,
                                          effects& next) {
          if (!done) {
            set_draining(before);  // Who asked is told that nothing changed.
            next.push_back(answer{request, fail(done.error())});
          } else {
            set_draining(draining);
            next.push_back(answer{request, rpc::drain_answer{draining}});
          }
          schedule(then, next);
        });
  schedule(now, out);
  return out;
}

}  // namespace ntrace::dispatcher
