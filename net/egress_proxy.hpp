#pragma once
// The HTTP proxy through which a zone's install step reaches the package registry. It accepts on a
// listener that was made inside the zone's network namespace and connects from outside.
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "config/clock.hpp"
#include "config/file.hpp"
#include "config/host_port.hpp"
#include "net/egress_policy.hpp"

namespace ntrace::net {

/// One connection's end, told to the run as an event.
struct egress_report {
  std::string host;
  std::uint16_t port = 0;
  std::uint64_t bytes = 0;
  bool allowed = false;
  std::string reason;  ///< Why it was refused or broke; empty when all went well.
};

struct egress_options {
  std::vector<allow_entry> allow;
  std::uint64_t bytes_max = 1u << 30;  ///< All connections together.
  milliseconds head_deadline{10'000};
  milliseconds connect_deadline{30'000};
  milliseconds idle_deadline{60'000};
  /// At once; further ones wait in the listener's backlog. Debian 12's npm opens one for each of a
  /// package's dependencies, and waits for ever when one is closed without an answer.
  std::size_t connections_max = 256;
  /// Called for each address that may be reached, once it was dialled: what failed, or null; and
  /// with an outage when its connection broke later. From the proxy's threads.
  std::function<void(const host_port& at, const error* failed)> on_reach;
};

/// Serves until destroyed, which closes the listener and all connections and joins its threads.
/// One thread per connection (bounded), so that a slow reader holds up nobody else.
class egress_proxy {
public:
  /// `report` is called from the proxy's threads.
  egress_proxy(unique_fd listener, egress_options options,
               std::function<void(const egress_report&)> report);
  ~egress_proxy();
  egress_proxy(const egress_proxy&) = delete;
  egress_proxy& operator=(const egress_proxy&) = delete;

private:
  struct shared;
  std::unique_ptr<shared> shared_;
};

}  // namespace ntrace::net
