#pragma once
// Decides what may use a zone: the attempt that it was booted for, by its fencing token.
#include <cstdint>
#include <string>

#include "config/result.hpp"

namespace ntrace::zone {

/// Pure. A token of 0 belongs to who holds no lease: `zone shell`, `profile`.
class zone_fence {
public:
  /// ec::stale_lease when the zone is up for a later token.
  result<void> check_boot(std::uint64_t token) const {
    if (token < live_) return stale(token);
    return {};
  }
  /// Also when the boot fails half way: what is there then belongs to `token`.
  void on_boot(std::uint64_t token) { live_ = token; }
  /// ec::stale_lease when the zone was booted for another token, or ended since.
  result<void> check_use(std::uint64_t token) const {
    if (token != live_) return stale(token);
    return {};
  }
  void on_end() { live_ = 0; }

private:
  tl::unexpected<error> stale(std::uint64_t token) const {
    return fail(ec::stale_lease,
                "the zone is not token " + std::to_string(token) + "'s" +
                    (live_ == 0 ? "" : "; it is up for token " + std::to_string(live_)));
  }
  std::uint64_t live_ = 0;
};

}  // namespace ntrace::zone
