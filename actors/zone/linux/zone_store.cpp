#include "actors/zone/linux/zone_store.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>

#include "actors/zone/linux/clean_proof.hpp"
#include "config/crash_point.hpp"
#include "config/ids.hpp"
#include "config/json_parse.hpp"

namespace ntrace::zone {
namespace fs = std::filesystem;
namespace {

nlohmann::json parse(const std::string& text) {
  auto value = parse_or_discard(text);
  return value.is_object() ? value : nlohmann::json::object();
}

}  // namespace

zone_store::zone_store(std::string data, std::string uuid)
    : data_{std::move(data)}, uuid_{std::move(uuid)}, path_{data_ + "/zones/" + uuid_} {}

bool zone_store::exists() const { return ::access((path_ + "/zone.json").c_str(), F_OK) == 0; }

result<nlohmann::json> zone_store::read_json(const std::string& name) const {
  const auto text = read_file(path_ + "/" + name);
  if (!text) return fail(text.error());
  return parse(*text);
}

result<void> zone_store::write_json(const std::string& name, const nlohmann::json& value) const {
  return write_file_durably(path_ + "/" + name, value.dump() + "\n");
}

result<void> zone_store::lock() {
  // The folder itself: a file in it can be deleted, and then another is there to be locked.
  lock_ = unique_fd{::open(path_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  if (!lock_) return fail(io_error("open", path_, errno));
  const auto path = path_ + "/lock";
  if (::flock(lock_.get(), LOCK_EX | LOCK_NB) != 0) {
    const auto holder = read_file(path, 32).value_or("");
    lock_.reset();
    return fail(ec::zone_busy,
                "zone " + uuid_ + " is owned by process " + holder + "; stop that ntrace first");
  }
  // Destroyed while we waited for it: what is locked lies in the trash.
  struct stat locked {
  }, named{};
  if (::fstat(lock_.get(), &locked) != 0 || ::stat(path_.c_str(), &named) != 0 ||
      locked.st_ino != named.st_ino || locked.st_dev != named.st_dev) {
    lock_.reset();
    return fail(ec::zone_busy, "zone " + uuid_ + " was just destroyed by another process");
  }
  // The pid is a hint for people; the lock itself is what counts.
  const unique_fd hint{::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600)};
  [[maybe_unused]] const bool written = hint && write_all(hint.get(), std::to_string(::getpid()));
  if (ids().is_shared) return {};
  if (ids().root == 0) {  // It would be the host's.
    lock_.reset();
    return fail(ec::zone_failed, "the ids of zone " + uuid_ + " cannot be read from " + path_ +
                                     "/zone.json; put it back from a backup, or delete " + path_ +
                                     " and create another zone");
  }
  auto own = id_block::take(ids().root);
  if (own && *own) {
    block_ = std::move(**own);
    return {};
  }
  lock_.reset();
  if (!own) return fail(own.error());
  return fail(ec::zone_busy, "the ids of zone " + uuid_ + " (from " + std::to_string(ids().root) +
                                 " on) are in use by a zone of another data folder; stop that " +
                                 "ntrace first, then `ntrace zone destroy` one of the two zones " +
                                 "and create another");
}

zone_ids zone_store::ids() const {
  if (ids_) return *ids_;
  const auto spec = read_json("zone.json");
  if (!spec) return {};
  ids_ = zone_ids{spec->value("id_root", 0u), spec->value("id_job", 0u),
                  spec->value("ids_shared", false)};
  return *ids_;
}

result<id_block> zone_store::take_ids() const {
  auto others = lent_ids();
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator{data_ + "/zones", ignored})
    others.push_back(
        {zone_store{data_, entry.path().filename().string()}.ids().root, ids_per_zone});
  return id_block::take_free(uuid_, others);
}

result<void> zone_store::create(bool is_root, const std::string& ca_file,
                                const std::string& first) {
  if (exists()) return fail(ec::invalid_state, "zone " + uuid_ + " exists already");
  std::error_code ignored;
  fs::remove_all(path_, ignored);  // A half-made zone is never repaired.
  const auto layer = path_ + "/snapshots/" + first + "/layer";
  for (const auto& folder : {layer, path_ + "/gen", path_ + "/trash"})
    if (auto made = make_folders(folder); !made) return made;
  crash_point("zone.step");
  // Held until zone.json is there, so that two that are made at once see each other.
  const unique_fd all{::open((data_ + "/zones").c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  if (!all || ::flock(all.get(), LOCK_EX) != 0)
    return fail(io_error("lock", data_ + "/zones", errno));
  std::optional<id_block> block;
  if (is_root) {
    auto taken = take_ids();
    if (!taken) return fail(taken.error());
    block = std::move(*taken);
  }
  const auto root_id = block ? block->root() : ::geteuid();
  nlohmann::json spec{{"uuid", uuid_},
                      {"id_root", root_id},
                      {"id_job", is_root ? root_id + 1000 : root_id},
                      {"ids_shared", !is_root}};
  if (auto built = build_skeleton(layer, ca_file); !built) return built;
  crash_point("zone.step");
  if (is_root) {
    for (const auto& entry : fs::recursive_directory_iterator{layer})
      if (::lchown(entry.path().c_str(), root_id, root_id) != 0)
        return fail(io_error("chown", entry.path().string(), errno));
    for (const auto* own : {"/job", "/home/job"})
      if (::lchown((layer + own).c_str(), root_id + 1000, root_id + 1000) != 0)
        return fail(io_error("chown", layer + own, errno));
    if (::lchown(layer.c_str(), root_id, root_id) != 0)
      return fail(io_error("chown", layer, errno));
  }
  crash_point("zone.step");
  if (auto w = seal(first, {{"name", first},
                            {"number", 1},
                            {"created_ms", wall_ms()},
                            {"layers", nlohmann::json::array({first})}});
      !w)
    return w;
  crash_point("zone.step");
  if (auto w = write_json("state.json", {{"generation", 0}, {"snapshot", first}}); !w) return w;
  crash_point("zone.step");
  return write_json("zone.json", spec);
}

// By number: the wall clock may be set back between two, and a rollback deletes the later ones. A
// snapshot that was made before they had numbers has none, and is older than all that have.
std::vector<zone_store::numbered_snapshot> zone_store::numbered_snapshots() const {
  std::vector<numbered_snapshot> found;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator{path_ + "/snapshots", ignored}) {
    const auto name = entry.path().filename().string();
    if (const auto meta = read_json("snapshots/" + name + "/meta.json"))
      found.push_back({meta->value("number", std::int64_t{0}),
                       meta->value("created_ms", std::int64_t{0}), name});
  }
  std::sort(found.begin(), found.end());
  return found;
}

std::vector<std::string> zone_store::snapshots() const {
  std::vector<std::string> out;
  for (auto& one : numbered_snapshots()) out.push_back(std::move(one.name));
  return out;
}

result<zone_facts> zone_store::facts() const {
  if (!is_uuid(uuid_) || !exists())
    return fail(ec::no_such_zone,
                "no zone " + uuid_ + " on this machine; `ntrace zone create` makes one");
  const auto state = read_json("state.json");
  if (!state) return fail(state.error());
  zone_facts out{
      uuid_, state->value("generation", std::uint64_t{0}), state->value("snapshot", ""), {}};
  out.snapshots = snapshots();
  return out;
}

/// Writes meta.json with the digests of the snapshot's own layer, where it has one.
result<void> zone_store::seal(const std::string& snapshot, nlohmann::json meta) const {
  const auto layer = path_ + "/snapshots/" + snapshot + "/layer";
  if (::access(layer.c_str(), F_OK) == 0) {
    const auto fast = fast_seal(layer);
    const auto full = fast ? full_seal(layer) : fast;
    if (!full) return fail(full.error());
    meta["fast"] = *fast;
    meta["full"] = *full;
  }
  return write_json("snapshots/" + snapshot + "/meta.json", meta);
}

result<std::string> zone_store::broken_layer(clean_receipt& receipt) const {
  const auto state = read_json("state.json");
  if (!state) return fail(state.error());
  const auto top = read_json("snapshots/" + state->value("snapshot", "") + "/meta.json");
  if (!top) return fail(top.error());
  for (const auto& name : top->value("layers", std::vector<std::string>{})) {
    const auto meta = read_json("snapshots/" + name + "/meta.json");
    if (!meta) return "the layer " + name + " is gone";
    receipt.layers.push_back(meta->value("full", ""));
    const auto layer = path_ + "/snapshots/" + name + "/layer";
    const auto fast = fast_seal(layer);
    if (!fast) return fast.error().message;
    if (*fast == meta->value("fast", "")) continue;
    if (meta->contains("full")) {
      const auto full = full_seal(layer);
      if (!full || *full != (*meta)["full"])
        return "the layer " + name + " is not as it was sealed";
    } else {
      receipt.degraded.emplace_back("unsealed");
    }
    if (auto w = seal(name, *meta); !w) return fail(w.error());
  }
  return std::string{};
}

result<void> zone_store::keep_receipt(const clean_receipt& receipt) const {
  const auto folder = path_ + "/receipts/";
  const auto name = folder + std::to_string(receipt.generation) + ".json";
  if (::mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST)
    return fail(io_error("mkdir", folder, errno));
  // Not durable: the run's own copy is. After a crash of the machine this one may be missing or
  // cut.
  const unique_fd file{::open(name.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600)};
  if (!file || !write_all(file.get(), to_json(receipt).dump(2) + "\n")) {
    const int code = errno;
    ::unlink(name.c_str());
    return fail(io_error("write", name, code));
  }
  return {};
}

std::size_t zone_store::trash_entries() const {
  std::error_code ignored;
  return static_cast<std::size_t>(
      std::distance(fs::directory_iterator{path_ + "/trash", ignored}, fs::directory_iterator{}));
}

result<zone_store::root_plan> zone_store::plan(const nlohmann::json& state) const {
  root_plan out;
  out.generation = state.value("generation", std::uint64_t{0});
  out.snapshot = state.value("snapshot", "");
  out.folder = path_ + "/gen/" + std::to_string(out.generation);
  out.upper = out.folder + "/upper";
  out.work = out.folder + "/work";
  const auto meta = read_json("snapshots/" + out.snapshot + "/meta.json");
  if (!meta)
    return fail(ec::no_clean, "zone " + uuid_ + " has no snapshot " + out.snapshot +
                                  "; `ntrace zone destroy` it and create it again");
  for (const auto& name : meta->value("layers", std::vector<std::string>{}))
    out.layers.insert(out.layers.begin(), path_ + "/snapshots/" + name + "/layer");
  return out;
}

result<zone_store::root_plan> zone_store::open_generation(bool fresh) {
  const auto state = read_json("state.json");
  if (!state) return fail(state.error());
  if (!fresh && state->value("kept", false)) return plan(*state);
  if (auto gone = discard_generations(); !gone) return fail(gone.error());
  return next_generation();
}

result<zone_store::root_plan> zone_store::next_generation() {
  auto state = read_json("state.json");
  if (!state) return fail(state.error());
  (*state)["generation"] = state->value("generation", std::uint64_t{0}) + 1;
  (*state)["kept"] = false;
  auto out = plan(*state);
  if (!out) return out;
  crash_point("zone.step");
  // Written before the folder exists, or a crash between would give the number out again.
  if (auto w = write_json("state.json", *state); !w) return fail(w.error());
  out->is_new = true;
  crash_point("zone.step");
  if (::mkdir(out->folder.c_str(), 0700) != 0) return fail(io_error("mkdir", out->folder, errno));
  crash_point("zone.step");
  if (auto made = make_writable(*out); !made) return fail(made.error());
  return out;
}

result<void> zone_store::make_writable(const root_plan& plan) const {
  const auto owner = ids();
  for (const auto& path : {plan.upper, plan.work}) {
    // The upper folder's mode is that of the zone's `/`, whatever our umask.
    if (::mkdir(path.c_str(), 0755) != 0 || ::chmod(path.c_str(), 0755) != 0)
      return fail(io_error("mkdir", path, errno));
    if (::geteuid() == 0 && ::chown(path.c_str(), owner.root, owner.root) != 0)
      return fail(io_error("chown", path, errno));
  }
  return {};
}

result<void> zone_store::end_generation(std::uint64_t generation, bool keep) {
  crash_point("zone.step");
  if (!keep) return to_trash(path_ + "/gen/" + std::to_string(generation));
  auto state = read_json("state.json");
  if (!state) return fail(state.error());
  (*state)["kept"] = true;
  return write_json("state.json", *state);
}

result<void> zone_store::discard_generations() {
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator{path_ + "/gen", ignored})
    if (auto moved = to_trash(entry.path().string()); !moved) return moved;
  return {};
}

result<void> zone_store::to_trash(const std::string& path) const {
  // The clock makes the name unique; a number that comes back after a restart may lie there still.
  const auto name = path_ + "/trash/" + fs::path{path}.filename().string() + "." +
                    std::to_string(steady_clock::now().time_since_epoch().count());
  if (::rename(path.c_str(), name.c_str()) != 0 && errno != ENOENT)
    return fail(io_error("rename", path, errno));
  crash_point("zone.step");
  return {};
}

result<void> zone_store::destroy() {
  if (auto made = make_folders(data_ + "/trash"); !made) return made;
  const auto to = data_ + "/trash/" + uuid_ + "." +
                  std::to_string(steady_clock::now().time_since_epoch().count());
  crash_point("zone.step");
  if (::rename(path_.c_str(), to.c_str()) != 0 && errno != ENOENT)
    return fail(io_error("rename", path_, errno));
  return {};
}

}  // namespace ntrace::zone
