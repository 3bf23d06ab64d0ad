#pragma once
// How long a zone may be used: to the end of the lease of the attempt that it was booted for. What
// is in the zone goes by it, not the process that holds this. docs/protocol.md, "Leases".
#include <memory>

#include "actors/zone/linux/lease_page.hpp"
#include "config/clock.hpp"
#include "config/file.hpp"
#include "config/result.hpp"

namespace ntrace::zone {

class zone_lease {
public:
  static result<std::shared_ptr<zone_lease>> make(boot_clock::time_point until);
  ~zone_lease();
  zone_lease(const zone_lease&) = delete;
  zone_lease& operator=(const zone_lease&) = delete;

  /// Puts the end off. Once it is over it stays over: false. Thread-safe, and never blocks.
  bool renew(boot_clock::time_point until);
  bool is_over() const { return boot_clock::now() >= page_->until(); }
  /// A file of lease_page, which those to whom it is passed can only read.
  int fd() const { return file_.get(); }

private:
  zone_lease(unique_fd file, lease_page* page) : file_{std::move(file)}, page_{page} {}
  unique_fd file_;
  lease_page* page_;
};

/// What the boot clock is ahead of ours now; each suspension adds to it.
boot_clock::duration boot_clock_lead();
/// The moment `at` of our clock. Of one that lies ahead this is right only with the lead of a
/// moment before the machine was suspended: take it when that what counts is said.
boot_clock::time_point on_boot_clock(time_point at, boot_clock::duration lead);

}  // namespace ntrace::zone
