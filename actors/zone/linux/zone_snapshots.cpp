// Snapshots of a zone: sealed layers, one on another. docs/zones.md, "Snapshots".
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>

#include "actors/zone/linux/zone_store.hpp"
#include "config/crash_point.hpp"

namespace ntrace::zone {
namespace fs = std::filesystem;
namespace {

constexpr std::string_view clean = "clean";
constexpr std::size_t layers_max = 16;  // docs/zones.md, "Snapshots"

}  // namespace

bool is_snapshot_name(std::string_view name) {
  const auto alnum = [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
  };
  return !name.empty() && name.size() <= 64 && alnum(name.front()) &&
         std::all_of(name.begin(), name.end(), [&](char c) {
           return alnum(c) || c == '_' || c == '.' || c == ':' || c == '%' || c == '-';
         });
}

result<void> zone_store::snapshot(const std::string& name) {
  if (!is_snapshot_name(name))
    return fail(ec::bad_argument, "\"" + name + "\" is not a snapshot's name");
  auto now = facts();
  if (!now) return fail(now.error());
  if (std::find(now->snapshots.begin(), now->snapshots.end(), name) != now->snapshots.end())
    return fail(ec::invalid_state, "zone " + uuid_ + " has a snapshot " + name + " already");
  auto state = read_json("state.json");
  const auto below = read_json("snapshots/" + now->snapshot + "/meta.json");
  if (!state || !below) return fail(ec::no_clean, "zone " + uuid_ + " has no current snapshot");
  auto stack = below->value("layers", std::vector<std::string>{});
  if (stack.size() >= layers_max)
    return fail(ec::invalid_state, "snapshots are stacked " + std::to_string(layers_max) + " deep");
  const auto folder = path_ + "/snapshots/" + name;
  std::error_code ignored;
  fs::remove_all(folder, ignored);  // Left by a crash before its meta.json was written.
  if (auto made = make_folders(folder); !made) return made;
  crash_point("zone.step");
  if (state->value("kept", false)) {
    const auto upper = path_ + "/gen/" + std::to_string(now->generation) + "/upper";
    if (::rename(upper.c_str(), (folder + "/layer").c_str()) != 0)
      return fail(io_error("rename", upper, errno));
    stack.push_back(name);
  }
  crash_point("zone.step");
  if (auto gone = discard_generations(); !gone) return gone;
  crash_point("zone.step");
  const auto number = numbered_snapshots().back().number + 1;
  if (auto w = seal(
          name, {{"name", name}, {"number", number}, {"created_ms", wall_ms()}, {"layers", stack}});
      !w)
    return w;
  crash_point("zone.step");
  (*state)["kept"] = false;
  (*state)["snapshot"] = name;
  return write_json("state.json", *state);
}

result<std::vector<std::string>> zone_store::rollback(const std::string& name) {
  const auto now = facts();
  if (!now) return fail(now.error());
  const auto at = std::find(now->snapshots.begin(), now->snapshots.end(), name);
  if (at == now->snapshots.end())
    return fail(name == clean ? ec::no_clean : ec::not_found,
                "zone " + uuid_ + " has no snapshot " + name);
  if (auto gone = discard_generations(); !gone) return fail(gone.error());
  auto state = read_json("state.json");
  if (!state) return fail(state.error());
  crash_point("zone.step");
  (*state)["kept"] = false;
  (*state)["snapshot"] = name;
  if (auto w = write_json("state.json", *state); !w) return fail(w.error());
  crash_point("zone.step");
  std::vector<std::string> newer{at + 1, now->snapshots.end()};
  for (const auto& snapshot : newer)
    if (auto moved = to_trash(path_ + "/snapshots/" + snapshot); !moved) return fail(moved.error());
  return newer;
}

result<void> zone_store::delete_snapshot(const std::string& name) {
  const auto now = facts();
  if (!now) return fail(now.error());
  if (std::find(now->snapshots.begin(), now->snapshots.end(), name) == now->snapshots.end())
    return fail(ec::not_found, "zone " + uuid_ + " has no snapshot " + name);
  if (now->snapshot == name)
    return fail(ec::invalid_state,
                "snapshot " + name + " is the current one; roll back to another first");
  for (const auto& other : now->snapshots) {
    const auto meta = read_json("snapshots/" + other + "/meta.json");
    const auto stack =
        meta ? meta->value("layers", std::vector<std::string>{}) : std::vector<std::string>{};
    if (other != name && std::find(stack.begin(), stack.end(), name) != stack.end())
      return fail(ec::invalid_state,
                  "snapshot " + other + " is stacked on " + name + "; delete it first");
  }
  return to_trash(path_ + "/snapshots/" + name);
}

}  // namespace ntrace::zone
