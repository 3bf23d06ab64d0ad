#include "actors/zone/zone_lease.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <new>

namespace ntrace::zone {

result<std::shared_ptr<zone_lease>> zone_lease::make(boot_clock::time_point until) {
  unique_fd file{::memfd_create("ntrace-lease", MFD_CLOEXEC | MFD_ALLOW_SEALING)};
  if (!file || ::ftruncate(file.get(), lease_page::bytes) != 0)
    return fail(io_error("make", "the page of a lease", errno));
  void* at = ::mmap(nullptr, lease_page::bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0);
  if (at == MAP_FAILED) return fail(io_error("map", "the page of a lease", errno));
  auto* page = new (at) lease_page;
  page->set(until);
  std::shared_ptr<zone_lease> out{new zone_lease{std::move(file), page}};
  // Our mapping is the only one that can ever write.
  if (::fcntl(out->fd(), F_ADD_SEALS,
              F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL) != 0)
    return fail(io_error("seal", "the page of a lease", errno));
  return out;
}

zone_lease::~zone_lease() { ::munmap(page_, lease_page::bytes); }

bool zone_lease::renew(boot_clock::time_point until) {
  // One that is stopped right here writes a moment that the dispatcher has granted nevertheless.
  if (is_over()) return false;
  if (until > page_->until()) page_->set(until);
  return true;
}

boot_clock::duration boot_clock_lead() {
  // In this order: who is stopped between the two takes too little.
  const auto boot = boot_clock::now();
  return boot.time_since_epoch() - steady_clock::now().time_since_epoch();
}

boot_clock::time_point on_boot_clock(time_point at, boot_clock::duration lead) {
  if (at == time_point::max()) return boot_clock::time_point::max();
  return boot_clock::time_point{at.time_since_epoch() + lead};
}

}  // namespace ntrace::zone
