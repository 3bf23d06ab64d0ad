#include "supervision/death_watch.hpp"

#include <caf/actor_cast.hpp>
#include <caf/actor_control_block.hpp>
#include <caf/attachable.hpp>
#include <caf/system_messages.hpp>
#include <exception>
#include <memory>
#include <utility>
#include <vector>

#include "supervision/caf_types.hpp"

namespace ntrace::supervision {
namespace {

struct untold_end {
  caf::actor_addr by, child;
};

/// An actor ends on one thread: what its attachables leave there is found by its exception handler.
struct ends_on_this_thread {
  caf::actor_id guarded = 0;  ///< Whose handler is about to be called.
  std::vector<untold_end> untold;
};
thread_local ends_on_this_thread ends;

void tell(const untold_end& end, const caf::error& why) {
  if (const auto to = caf::actor_cast<caf::strong_actor_ptr>(end.by))
    to->enqueue(nullptr, caf::make_message_id(), caf::make_message(caf::down_msg{end.child, why}),
                nullptr);
}

/// Stands for the promise to call tell_last_words().
class last_words final : public caf::attachable {
public:
  explicit last_words(caf::actor_id of) : of_{of} {}
  ~last_words() override {
    if (std::uncaught_exceptions() > 0) ends.guarded = of_;
  }
  caf::actor_id of() const { return of_; }

private:
  caf::actor_id of_;
};

class death_watch final : public caf::attachable {
public:
  explicit death_watch(untold_end end) : end_{std::move(end)} {}

  void actor_exited(const caf::error& why, caf::execution_unit*) override {
    is_told_ = true;
    tell(end_, why);
  }

  /// Not told: a function that was attached later, and so called earlier, has thrown.
  ~death_watch() override {
    if (is_told_) return;
    if (has_last_words())
      ends.untold.push_back(std::move(end_));
    else
      tell(end_, to_caf({ec::child_failed, "a function attached to it threw an exception", {}}));
  }

private:
  /// The promise may have been attached before this watch (then it is destroyed later) or after it.
  bool has_last_words() const {
    if (ends.guarded == end_.child.id()) return true;
    for (const auto* other = next.get(); other != nullptr; other = other->next.get())
      if (dynamic_cast<const last_words*>(other) != nullptr) return true;
    return false;
  }

  untold_end end_;
  bool is_told_ = false;
};

}  // namespace

void watch(const caf::actor& child, const caf::actor& by) {
  caf::actor_cast<caf::abstract_actor*>(child)->attach(
      std::make_unique<death_watch>(untold_end{by.address(), child.address()}));
}

void promise_last_words(caf::scheduled_actor* self) {
  self->attach(std::make_unique<last_words>(self->id()));
}

void tell_last_words(const caf::scheduled_actor* self, const caf::error& why) {
  ends.guarded = 0;
  for (const auto& end : std::exchange(ends.untold, {}))
    if (end.child.id() == self->id()) tell(end, why);
}

}  // namespace ntrace::supervision
