#include "actors/journal/push_identity.hpp"

namespace ntrace::journal {

std::vector<push_difference> push_differences(const keyed_push& then, const insert_run& now) {
  std::vector<push_difference> out;
  const auto compare = [&](const char* member, std::string before, std::string after) {
    if (before != after) out.push_back({member, std::move(before), std::move(after)});
  };
  compare("owner", then.run.owner, now.run.owner);
  compare("repo", then.run.repo, now.run.repo);
  compare("sha", then.run.sha, now.run.sha);
  // Two that leave the source to the template are the same, also when that has changed meanwhile;
  // and one that names what the template gives asks for nothing else.
  const bool both = then.has_source && *then.has_source && now.has_source;
  const bool one = then.has_source && (*then.has_source || now.has_source);
  if (both || (one && out.empty())) compare("source", then.run.source, now.run.source);
  compare("priority", std::to_string(then.run.priority), std::to_string(now.run.priority));
  if (then.deadline_ms)
    compare("deadline_ms", std::to_string(*then.deadline_ms), std::to_string(now.run.deadline_ms));
  return out;
}

}  // namespace ntrace::journal
