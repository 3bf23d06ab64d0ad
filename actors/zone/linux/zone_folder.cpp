// What concerns all zones of a data folder.
#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include "actors/zone/linux/zone_store.hpp"
#include "config/remove_tree.hpp"

namespace ntrace::zone {
namespace fs = std::filesystem;
namespace {
constexpr std::size_t receipts_max = 256;  // of a zone; docs/zones.md, "Proof of clean"
}

std::vector<zone_facts> list_zones(const std::string& data) {
  std::vector<zone_facts> out;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator{data + "/zones", ignored})
    if (auto facts = zone_store{data, entry.path().filename().string()}.facts())
      out.push_back(std::move(*facts));
  std::sort(out.begin(), out.end(), [](const auto& a, const auto& b) { return a.uuid < b.uuid; });
  return out;
}

void prune_receipts(const std::string& data) {
  std::error_code ignored;
  for (const auto& zone : fs::directory_iterator{data + "/zones", ignored}) {
    std::vector<std::pair<std::uint64_t, fs::path>> kept;
    std::error_code none;
    for (const auto& entry : fs::directory_iterator{zone.path() / "receipts", none})
      kept.emplace_back(std::strtoull(entry.path().stem().c_str(), nullptr, 10), entry.path());
    std::sort(kept.rbegin(), kept.rend());
    for (std::size_t i = receipts_max; i < kept.size(); ++i) fs::remove(kept[i].second, none);
  }
}

bool empty_trash(const std::string& data) {
  std::error_code ignored;
  bool has_deleted = false;
  std::vector<fs::path> heaps{data + "/trash"};
  for (const auto& entry : fs::directory_iterator{data + "/zones", ignored})
    heaps.push_back(entry.path() / "trash");
  for (const auto& heap : heaps)
    for (const auto& entry : fs::directory_iterator{heap, ignored}) {
      const auto deleted = remove_tree(entry.path().string());
      has_deleted = has_deleted || deleted;
    }
  return has_deleted;
}

}  // namespace ntrace::zone
