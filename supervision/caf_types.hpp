#pragma once
// CAF's view of our errors and ends, and the guard that every actor of ours wears.
#include <caf/actor.hpp>
#include <caf/error.hpp>
#include <caf/local_actor.hpp>
#include <caf/scheduled_actor.hpp>

#include "config/result.hpp"
#include "supervision/child_spec.hpp"

namespace ntrace::supervision {

/// An error as a CAF error: the code in category "ntrace", message and facts as its context.
/// from_caf() is its reverse.
caf::error to_caf(const error& e);
/// The same with an actor that the error is about.
caf::error to_caf(const error& e, const caf::actor& about);
/// The actor that an error names (ec::already_started: the running child); else null.
caf::actor address_in(const caf::error& e);
/// The end of an actor as the reason to quit with; exit_reason_of() is its reverse.
caf::error to_caf(const exit_reason& reason);
/// And back; a foreign category becomes ec::child_failed with CAF's own words.
error from_caf(const caf::error& e);
/// Why an actor ended, from the reason of its down_msg.
exit_reason exit_reason_of(const caf::error& e);

/// "type: text" of an exception.
std::string exception_text(const std::exception& e);

/// (fault, "throw" or "hang"): what guard() answers to it with, for fault injection.
using fault_atom = caf::atom_constant<caf::atom("fault")>;

/// Keeps an exception's type, its text and the message being handled in the exit reason instead of
/// dropping them, which CAF's own handler does; holds what its on_exit() and functions attached to
/// it throw, which would end the process; logs and counts messages that no handler takes; and fails
/// when it is told to. Call it first in every actor.
void guard(caf::scheduled_actor* self, const char* name);

/// What the system's clock says: virtual in tests.
inline time_point now_of(caf::local_actor* self) { return self->clock().now(); }

}  // namespace ntrace::supervision
