#pragma once
// Files that are taken out of a zone, read from what its init sends. Pure.
#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "actors/zone/linux/bundle_format.hpp"

namespace ntrace::zone {

struct collected {
  std::map<std::string, std::string> files;  ///< Contents by name.
  std::uint64_t left_out = 0;                ///< Files beyond the bounds.
  std::uint64_t cut = 0;                     ///< Files of which only the beginning is here.
  bool is_whole = false;                     ///< The zone said that there is no more.
};

class collected_reader {
public:
  explicit collected_reader(collect_bounds most = {}) : most_{most} {}
  /// The next bytes, in any portions. False from the first on that no honest init sends: what came
  /// before stays, and nothing more is taken.
  bool on_bytes(std::string_view data);
  collected take() { return std::move(out_); }

private:
  bool on_header();

  collect_bounds most_;
  collected out_;
  bundle_header head_{};
  std::string part_;  ///< Of a header and its name, until both are whole.
  std::string* content_ = nullptr;
  std::uint64_t bytes_ = 0;  ///< Announced so far.
  bool is_broken_ = false;
};

}  // namespace ntrace::zone
