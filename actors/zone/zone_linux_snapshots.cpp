// The snapshots of a zone of Linux: the helper keeps them, here is who stops and boots it for them.
#include "actors/zone/zone_linux.hpp"

namespace ntrace::zone {

result<zone_facts> zone_linux::facts() {
  const auto answer = helper_->call({{"op", "facts"}, {"uuid", uuid_}});
  if (!answer) return fail(answer.error());
  const auto& value = answer->value;
  return zone_facts{uuid_, value.value("generation", std::uint64_t{0}), value.value("snapshot", ""),
                    value.value("snapshots", std::vector<std::string>{})};
}

result<nlohmann::json> zone_linux::call_while_down(const char* op, const std::string& name) {
  const bool was_up = pid_ >= 0;
  if (auto ended = end(); !ended) return fail(ended.error());
  auto answer = helper_->call({{"op", op}, {"uuid", uuid_}, {"name", name}});
  if (was_up)
    if (auto up = boot(boot_spec{last_boot_}); answer && !up) return fail(up.error());
  if (!answer) return fail(answer.error());
  return std::move(answer->value);
}

result<void> zone_linux::snapshot(const std::string& name) {
  if (pid_ >= 0 && last_boot_.fresh)
    return fail(ec::invalid_state, "zone " + uuid_ +
                                       " runs an attempt, whose files are thrown away; a snapshot "
                                       "keeps what `zone shell` or `zone exec` wrote");
  if (auto done = call_while_down("snapshot", name); !done) return fail(done.error());
  return {};
}

result<std::vector<std::string>> zone_linux::rollback(const std::string& name) {
  const auto done = call_while_down("rollback", name);
  if (!done) return fail(done.error());
  return done->value("deleted", std::vector<std::string>{});
}

result<void> zone_linux::delete_snapshot(const std::string& name) {
  const auto done = helper_->call({{"op", "delete_snapshot"}, {"uuid", uuid_}, {"name", name}});
  if (!done) return fail(done.error());
  return {};
}

result<void> zone_linux::destroy() {
  if (auto ended = end(); !ended) return ended;
  const auto done = helper_->call({{"op", "destroy"}, {"uuid", uuid_}});
  if (!done) return fail(done.error());
  return {};
}

}  // namespace ntrace::zone
