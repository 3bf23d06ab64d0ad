#pragma once
// What attempts and their zones go by, whoever makes them: a runner, `profile`, `zone`.
#include "actors/runner/attempt_actor.hpp"
#include "actors/zone/linux/privileged_helper.hpp"
#include "config/settings.hpp"

namespace ntrace::tools {

/// ec::bad_config for an allow-list that cannot be read.
result<runner::attempt_options> attempt_options_from(const settings& s);

zone::helper_options helper_options_from(const settings& s);

}  // namespace ntrace::tools
