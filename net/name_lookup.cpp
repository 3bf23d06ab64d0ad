#include "net/name_lookup.hpp"

#include <netdb.h>
#include <poll.h>

#include <cerrno>

#include "config/backoff.hpp"
#include "config/gauges.hpp"
#include "net/reachability.hpp"

namespace ntrace::net {
namespace {

constexpr unsigned tries_max = 4;
constexpr backoff_policy between_tries{milliseconds{200}, milliseconds{2000}};
constexpr std::size_t names_max = 256;

}  // namespace

result<socket_addresses> name_lookup::find(const std::string& host, std::uint16_t port,
                                           const cancellation& stop) {
  const key what{host, port};
  std::unique_lock lock{guard_};
  const auto now = steady_clock::now();
  std::erase_if(entries_,
                [now](const auto& e) { return e.second->is_found && e.second->until <= now; });
  if (const auto at = entries_.find(what); at != entries_.end()) {
    const auto e = at->second;
    found_.wait(lock, [&] { return e->is_found; });
    return e->value;
  }
  const auto e = std::make_shared<entry>();
  if (entries_.size() < names_max)
    entries_[what] = e;
  else
    ++gauges::value("egress_lookups_not_kept");
  lock.unlock();
  auto value = ask(what, stop);
  lock.lock();
  e->is_found = true;
  e->value = value;
  // A failure is for the callers that wait for it, not for later ones.
  e->until = value ? steady_clock::now() + kept_for_ : time_point{};
  found_.notify_all();
  return value;
}

result<socket_addresses> name_lookup::ask(const key& what, const cancellation& stop) {
  const auto& [host, port] = what;
  for (unsigned retry = 0;; ++retry) {
    socket_addresses out;
    errno = 0;
    const int code = ask_({host, port}, 0, out);
    const int errno_value = errno;
    if (code == 0) return out;
    const bool is_over = code != EAI_AGAIN || retry + 1 == tries_max || stop.is_raised();
    if (is_over) return fail(lookup_error(host, code, errno_value));
    ++gauges::value("egress_lookup_retries");
    pollfd stopped{stop.fd(), POLLIN, 0};
    ::poll(&stopped, 1, static_cast<int>(wait_before(retry).count()));
  }
}

milliseconds name_lookup::wait_before(unsigned retry) {
  const std::lock_guard lock{guard_};
  return backoff_wait(between_tries, retry, random_);
}

}  // namespace ntrace::net
