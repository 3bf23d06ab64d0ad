#pragma once
// Zones on disk: <data>/zones/<uuid>/{zone.json, state.json, snapshots/<name>/, gen/<n>/, trash/}.
// A snapshot is committed once its meta.json exists. Only the privileged helper writes here.
#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "actors/zone/linux/id_block.hpp"
#include "actors/zone/zone_types.hpp"
#include "config/file.hpp"
#include "config/result.hpp"

namespace ntrace::zone {

/// Ids as files carry them: the zone's root and the user that jobs run as.
struct zone_ids {
  std::uint32_t root = 0;
  std::uint32_t job = 0;
  bool is_shared = false;  ///< One id for both and for us: no right to map more.
};

/// The directory of one zone.
class zone_store {
public:
  zone_store(std::string data, std::string uuid);
  const std::string& uuid() const { return uuid_; }
  const std::string& path() const { return path_; }

  bool exists() const;
  /// Builds the skeleton as snapshot `first`: `clean`, or `image` for one that is to be
  /// provisioned. A half-made zone is deleted. ec::invalid_state when it is there already.
  /// `ca_file` is added to the host's certificate authorities.
  result<void> create(bool is_root, const std::string& ca_file, const std::string& first = "clean");
  result<zone_facts> facts() const;
  zone_ids ids() const;
  /// P7: why the layers of the current snapshot are not as they were sealed; empty when they are.
  /// One that only moved (a restored copy) is sealed again; so is one of a time before seals, which
  /// is then told in the receipt as degraded. The digests go into the receipt too.
  result<std::string> broken_layer(clean_receipt& receipt) const;
  /// Keeps the proof of clean in receipts/<generation>.json; prune_receipts() bounds them.
  result<void> keep_receipt(const clean_receipt& receipt) const;
  /// How many dead generations wait to be deleted.
  std::size_t trash_entries() const;

  /// What a boot starts from.
  struct root_plan {
    std::uint64_t generation = 0;
    std::string folder, upper, work;  ///< Its writable layer.
    bool is_new = false;              ///< Not kept from the boot before.
    std::string snapshot;             ///< The current one,
    std::vector<std::string> layers;  ///< and its layers, topmost first.
  };
  /// A new generation, all others going to the trash; or, when it is not to be fresh, the last one
  /// if end_generation() kept it.
  result<root_plan> open_generation(bool fresh);
  /// A new generation beside what is there. Its number is never used twice, whatever dies when.
  result<root_plan> next_generation();
  /// Makes the folders of the writable layer.
  result<void> make_writable(const root_plan& plan) const;
  /// The generation stays for the next boot that is not fresh, or goes to the trash.
  result<void> end_generation(std::uint64_t generation, bool keep);
  /// Every generation goes to the trash.
  result<void> discard_generations();

  /// Seals the kept generation as snapshot `name` on top of the current one.
  result<void> snapshot(const std::string& name);
  /// Boots start from `name` again; newer snapshots go to the trash and are named.
  result<std::vector<std::string>> rollback(const std::string& name);
  result<void> delete_snapshot(const std::string& name);
  /// Moves the whole zone into <data>/trash.
  result<void> destroy();

  /// Takes the zone's lock and its ids for this process; ec::zone_busy names the holder's pid, or
  /// says that a zone of another data folder has the ids.
  result<void> lock();

private:
  result<void> build_skeleton(const std::string& layer, const std::string& ca_file) const;
  result<nlohmann::json> read_json(const std::string& name) const;
  result<void> write_json(const std::string& name, const nlohmann::json& value) const;
  /// A block that no other zone of this data folder has either.
  result<id_block> take_ids() const;
  result<root_plan> plan(const nlohmann::json& state) const;
  result<void> seal(const std::string& snapshot, nlohmann::json meta) const;
  result<void> to_trash(const std::string& path) const;
  struct numbered_snapshot {
    std::int64_t number = 0, created_ms = 0;
    std::string name;
    auto operator<=>(const numbered_snapshot&) const = default;
  };
  /// In the order in which they were made.
  std::vector<numbered_snapshot> numbered_snapshots() const;
  std::vector<std::string> snapshots() const;

  std::string data_, uuid_, path_;
  mutable std::optional<zone_ids> ids_;  ///< They never change.
  unique_fd lock_;
  std::optional<id_block> block_;  ///< With lock_, where the zone's ids are its own.
};

/// All zones below `data`, by uuid.
std::vector<zone_facts> list_zones(const std::string& data);
/// True for a snapshot's name as vmadm takes it.
bool is_snapshot_name(std::string_view name);
/// Deletes all receipts of each zone of `data` but the last 256.
void prune_receipts(const std::string& data);
/// Deletes what lies in the trash of `data` and its zones; false when nothing lay there that could
/// be deleted.
bool empty_trash(const std::string& data);

}  // namespace ntrace::zone
