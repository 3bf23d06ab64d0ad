#pragma once
// CAF's view of our errors and ends, and the guard that every actor of ours wears.
#include <caf/error.hpp>
#include <caf/local_actor.hpp>
#include <caf/scheduled_actor.hpp>

#include "config/result.hpp"
#include "supervision/child_spec.hpp"

namespace ntrace::supervision {

/// An error as a CAF error: the code in category "ntrace", the message as its context.
caf::error to_caf(const error& e);
/// And back; a foreign category becomes ec::child_failed with CAF's own words.
error from_caf(const caf::error& e);
/// Why an actor ended, from the reason of its down_msg.
exit_reason exit_reason_of(const caf::error& e);

/// Keeps an exception's type and text in the exit reason instead of dropping them, which CAF's own
/// handler does. Call it first in every actor.
void guard(caf::scheduled_actor* self, const char* name);

/// What the system's clock says: virtual in tests.
inline time_point now_of(caf::local_actor* self) { return self->clock().now(); }

}  // namespace ntrace::supervision
