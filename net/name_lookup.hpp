#pragma once
// Looks up names for many threads. A package manager opens tens of connections to one registry at
// once; a small resolver answers so many questions with "try again".
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "config/cancellation.hpp"
#include "config/clock.hpp"
#include "config/random.hpp"
#include "net/socket.hpp"

namespace ntrace::net {

/// Thread-safe. A caller that asks for a name under lookup waits for that answer; what was found
/// is kept for a moment.
class name_lookup {
public:
  /// As net::look_up.
  using resolver = std::function<int(const host_port&, int flags, socket_addresses&)>;
  explicit name_lookup(milliseconds kept_for = milliseconds{10'000}, resolver ask = look_up)
      : kept_for_{kept_for}, ask_{std::move(ask)} {}

  /// The addresses of `host`, for connections to `port`. A resolver that says "try again" is asked
  /// four times at most, with jittered waits that `stop` ends. The error is as
  /// that of net::lookup_error.
  result<socket_addresses> find(const std::string& host, std::uint16_t port,
                                const cancellation& stop);

private:
  struct entry {
    bool is_found = false;  ///< Else somebody is at it.
    result<socket_addresses> value;
    time_point until{};
  };
  using key = std::pair<std::string, std::uint16_t>;
  result<socket_addresses> ask(const key& what, const cancellation& stop);
  milliseconds wait_before(unsigned retry);

  milliseconds kept_for_;
  resolver ask_;
  std::mutex guard_;
  std::condition_variable found_;
  std::map<key, std::shared_ptr<entry>> entries_;
  random_source random_{random_seed()};
};

}  // namespace ntrace::net
