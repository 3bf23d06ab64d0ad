#pragma once
// Blocks of ids for zones. A block's processes and files are known by its ids (P3), so no two zones
// that run at once on a machine may share one, whichever data folders they are in.
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "config/file.hpp"
#include "config/result.hpp"

namespace ntrace::zone {

inline constexpr std::uint32_t ids_per_zone = 0x10000;

struct id_range {
  std::uint64_t first = 0, count = 0;
  bool overlaps(std::uint64_t other, std::uint64_t other_count) const {
    return first < other + other_count && other < first + count;
  }
};

/// What the text of a file like subuid(5) lends to users; lines that are none are passed over.
std::vector<id_range> lent_ids(std::string_view text);
/// What this machine lends to users, by /etc/subuid and /etc/subgid.
std::vector<id_range> lent_ids();

/// A block that nobody else on this machine takes while the object lives, nor its process.
class id_block {
public:
  /// The block that begins with `root`; nothing when it is taken. ec::io when /run cannot be
  /// written to.
  static result<std::optional<id_block>> take(std::uint32_t root);
  /// The first one from where `uuid` points to that is not taken and has no id of `others`.
  /// ec::zone_failed when there is none.
  static result<id_block> take_free(const std::string& uuid, const std::vector<id_range>& others);
  /// Its first id, that of the zone's root.
  std::uint32_t root() const { return root_; }

private:
  id_block(std::uint32_t root, unique_fd lock) : root_{root}, lock_{std::move(lock)} {}

  std::uint32_t root_;
  unique_fd lock_;
};

}  // namespace ntrace::zone
