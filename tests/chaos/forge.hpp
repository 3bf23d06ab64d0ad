#pragma once
// The forge of the fleet: a server on a node of its own that has the source of every push, as
// codeload.github.com has, and that can be taken away.
#include <memory>
#include <string>

#include "config/random.hpp"
#include "config/result.hpp"
#include "tests/chaos/process.hpp"
#include "tests/chaos/star_network.hpp"

namespace ntrace::chaos {

/// What the script of a push does.
enum class job {
  passes,
  fails,
  waits,  ///< For longer than a lease, and passes then.
};

class forge {
public:
  /// Writes what it serves, and its certificate by the authority ca.pem, into `folder`.
  static result<std::unique_ptr<forge>> make(const std::string& folder, const std::string& network,
                                             const std::string& address);

  process& server() { return server_; }
  /// As the fleet names it.
  std::string host() const;
  std::string url() const { return "https://" + host(); }
  /// The commit by which a push gets that job, from any repository of the owner "chaos".
  static std::string sha_of(job what);
  /// From the network of the calling thread.
  bool is_reached(milliseconds deadline) const;

  /// In one of three ways: nobody listens, the network ends before it, or it says 503.
  result<void> take_away(const star_network& network, std::size_t node, random_source& random);
  result<void> bring_back(const star_network& network, std::size_t node);

private:
  forge(const std::string& folder, const std::string& network, const std::string& address);
  result<void> write_jobs() const;
  result<void> make_certificate(const std::string& authority) const;
  std::string closed() const { return folder_ + "/closed"; }

  std::string folder_, address_;
  process server_;
};

}  // namespace ntrace::chaos
