#include "actors/runner/fetch_work.hpp"

#include "actors/runner/install_reach.hpp"
#include "actors/runner/registry_settings.hpp"
#include "config/shown_url.hpp"

namespace ntrace::runner {

result<std::shared_ptr<fetched_source>> fetch_work(const source_spec& source,
                                                   const source_options& options,
                                                   const std::string& npm_registry,
                                                   const std::vector<net::allow_entry>& allow,
                                                   const cancellation* stop) {
  auto got = fetch_source(source, options, stop);
  if (!got) return fail(got.error());
  const auto out = std::make_shared<fetched_source>();
  out->outcome.package_json = got->package_json;
  out->outcome.has_binding_gyp = got->tree.has_file("binding.gyp");
  for (auto& one : got->tree.notices()) out->outcome.notices.emplace_back(std::move(one));
  for (auto& one : unheeded(got->tree)) out->outcome.notices.emplace_back(std::move(one));
  out->outcome.facts = domain::document{{{"source", without_passwords(source.text)},
                                         {"source_digest", got->digest},
                                         {"source_entries", got->entries}}};
  out->file = std::move(got->file);
  out->hosts = expect_hosts(got->tree, npm_registry, allow);
  out->lines_for_npm = registry_settings{got->tree}.lines_for_npm();
  return out;
}

}  // namespace ntrace::runner
