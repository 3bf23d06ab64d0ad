#include "supervision/child_spec.hpp"

#include <fmt/core.h>

namespace ntrace::supervision {
namespace {

result<void> bad(const child_spec& spec, const char* field, const char* what) {
  return fail({ec::bad_spec,
               fmt::format("child \"{}\": {} {}", spec.id, field, what),
               {{"field", field}, {"child", spec.id}}});
}

}  // namespace

std::string_view to_string(strategy s) {
  switch (s) {
    case strategy::one_for_one:
      return "one_for_one";
    case strategy::one_for_all:
      return "one_for_all";
    case strategy::rest_for_one:
      return "rest_for_one";
    case strategy::simple_one_for_one:
      return "simple_one_for_one";
  }
  return "one_for_one";
}

std::string_view to_string(restart_type r) {
  switch (r) {
    case restart_type::permanent:
      return "permanent";
    case restart_type::transient:
      return "transient";
    case restart_type::temporary:
      return "temporary";
  }
  return "permanent";
}

result<void> check(const child_spec& spec, const supervisor_flags& flags) {
  if (spec.id.empty()) return bad(spec, "id", "is empty");
  if (spec.id.find('/') != std::string::npos)
    return bad(spec, "id", "holds a slash, which separates the parts of a path");
  if (spec.shutdown.deadline && spec.shutdown.deadline->count() < 0)
    return bad(spec, "shutdown", "is a negative time");
  if (spec.start_deadline && spec.start_deadline->count() <= 0)
    return bad(spec, "start_deadline", "is not above zero");
  const auto& b = spec.backoff;
  if (b.min.count() < 0 || (b.min.count() > 0 && b.max < b.min))
    return bad(spec, "backoff", "needs 0 <= min <= max");
  if (!(b.factor >= 1)) return bad(spec, "backoff", "has a factor below 1");
  if (!(b.jitter >= 0 && b.jitter <= 1)) return bad(spec, "backoff", "has a jitter outside 0 to 1");
  if (b.stable_for.count() < 0) return bad(spec, "backoff", "has a negative stable_for");
  if (spec.significant && spec.restart == restart_type::permanent)
    return bad(spec, "significant", "is for transient and temporary children only");
  if (spec.significant && flags.ends == auto_shutdown::never)
    return bad(spec, "significant", "needs a supervisor with auto_shutdown");
  return {};
}

result<void> check(const supervisor_flags& flags) {
  if (flags.period.count() <= 0)
    return fail({ec::bad_spec, "period is not above zero", {{"field", "period"}}});
  return {};
}

}  // namespace ntrace::supervision
