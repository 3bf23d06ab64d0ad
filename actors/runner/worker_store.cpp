#include "actors/runner/worker_store.hpp"

#include <unistd.h>

#include <algorithm>
#include <limits>

#include "config/file.hpp"
#include "config/ids.hpp"
#include "config/json_fields.hpp"
#include "config/json_parse.hpp"

namespace ntrace::runner {
namespace {
using nlohmann::json;
constexpr std::size_t uuid_bytes = 36;         // in its text
constexpr std::size_t snapshots_max = 10'000;  // of one zone
std::string path_in(const std::string& data) { return data + "/workers.json"; }

/// Of the helper's facts of a zone.
bool has_snapshot(const json& facts, std::string_view name) {
  json_fields in{facts};
  const auto* names = in.list("snapshots", snapshots_max);
  return names && std::find(names->begin(), names->end(), name) != names->end();
}
}  // namespace

result<std::vector<worker>> load_workers(const std::string& data) {
  std::vector<worker> out;
  const auto path = path_in(data);
  if (::access(path.c_str(), F_OK) != 0) return out;
  const auto text = read_file(path);
  if (!text) return fail(text.error());
  const auto list = parse_or_discard(*text);
  if (!list.is_array())
    return fail(ec::io, path + " is not a list of workers; repair it or remove it and enrol again");
  for (const auto& one : list) {
    worker w;
    json_fields in{one};
    w.uuid = in.text("uuid", uuid_bytes);
    if (!in.is_sound() || !is_uuid(w.uuid))
      return fail(ec::io,
                  path + " names no uuid in " +
                      one.dump(-1, ' ', true, json::error_handler_t::replace).substr(0, 80));
    // For people: one that is no number is as none.
    w.enrolled_ms = in.number("enrolled_ms", 0, std::numeric_limits<std::int64_t>::max());
    out.push_back(std::move(w));
  }
  return out;
}

result<void> save_workers(const std::string& data, const std::vector<worker>& workers) {
  auto list = nlohmann::json::array();
  for (const auto& w : workers) list.push_back({{"uuid", w.uuid}, {"enrolled_ms", w.enrolled_ms}});
  return write_file_durably(path_in(data), list.dump(2) + "\n");
}

result<void> enroll_on_disk(zone::privileged_helper& helper, const std::string& data,
                            const std::string& uuid, std::int64_t at_ms,
                            std::vector<worker> enrolled) {
  const auto facts = helper.call({{"op", "facts"}, {"uuid", uuid}});
  if (!facts) return fail(facts.error());
  if (!has_snapshot(facts->value, "clean"))
    return fail(ec::no_clean, "zone " + uuid + " has no snapshot clean; `ntrace zone snapshot " +
                                  uuid + " clean` makes it");
  worker added;
  added.uuid = uuid;
  added.enrolled_ms = at_ms;
  enrolled.push_back(std::move(added));
  return save_workers(data, enrolled);
}

result<void> make_workers(zone::privileged_helper& helper, const std::string& data,
                          std::size_t wanted, std::vector<worker>& workers) {
  random_source random{random_seed()};
  while (workers.size() < wanted) {
    worker w;
    w.uuid = make_uuid(random);
    w.enrolled_ms = wall_ms();
    if (auto made = helper.call({{"op", "create"}, {"uuid", w.uuid}}); !made)
      return fail(made.error());
    workers.push_back(std::move(w));
    if (auto saved = save_workers(data, workers); !saved) return saved;
  }
  return {};
}

}  // namespace ntrace::runner
