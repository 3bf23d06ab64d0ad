#pragma once
// How a supervisor hears of a child's end, whatever the child throws at its end.
#include <caf/actor.hpp>
#include <caf/scheduled_actor.hpp>

namespace ntrace::supervision {

/// Sends `by` a down_msg when `child` has ended, once. A function that is attached to the child and
/// throws takes CAF's own monitors of the child with it; not this one. The reason is the
/// exception's text for a child that wears guard(), else only that there was one.
void watch(const caf::actor& child, const caf::actor& by);

/// For guard(): from now on tell_last_words() is called after what `self` throws.
void promise_last_words(caf::scheduled_actor* self);
/// Tells the supervisors that were kept from hearing of the end of `self`, on this thread.
void tell_last_words(const caf::scheduled_actor* self, const caf::error& why);

}  // namespace ntrace::supervision
