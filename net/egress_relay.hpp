#pragma once
// Moves bytes between a zone's job and a registry, on the caller's thread and within the bounds of
// one attempt.
#include <atomic>
#include <cstdint>
#include <string>

#include "config/cancellation.hpp"
#include "config/clock.hpp"
#include "config/result.hpp"
#include "net/egress_request.hpp"

namespace ntrace::net {

class egress_relay {
public:
  struct bounds {
    std::atomic<std::uint64_t>& bytes;  ///< Of all connections together.
    std::uint64_t bytes_max;
    milliseconds idle_deadline;
    const cancellation& stop;
  };
  egress_relay(int client, int upstream, bounds b)
      : client_{client}, upstream_{upstream}, bounds_{b} {}

  // Each ends with ec::source_limit beyond the bound, timed_out when nothing moves for
  // idle_deadline, cancelled at the stop, connection_lost when a side goes away in between.
  /// What was read of the client before, for the registry.
  result<void> to_upstream(std::string_view bytes);
  /// All bytes, both ways, until both sides have closed.
  result<void> both_ways();
  /// The request, of whose body `early` was read before, and the one answer to it. Nothing that
  /// follows either is passed on. ec::bad_request for an answer or a body that is malformed.
  result<void> exchange(const proxy_request& request, std::string_view early);

  /// It ended because the registry's side broke, while the client still waited: a reset, or an end
  /// within an answer. An orderly end of a tunnel is none, whatever was passed in it.
  bool has_lost_upstream() const { return has_lost_upstream_; }
  /// The client was sent some of an answer.
  bool has_answered() const { return has_answered_; }
  std::uint64_t moved() const { return moved_; }

private:
  result<void> lose_upstream(std::string why);
  result<void> count(std::size_t bytes);
  result<void> to_client(std::string_view bytes);
  result<void> take_request(std::string_view bytes, http_body& body);
  result<void> take_answer(std::string_view bytes, const std::string& method);
  result<void> take_head(const std::string& method);
  result<void> at_upstreams_end();
  bool is_answered() const { return has_answered_ && answer_.body.is_done(); }

  int client_, upstream_;
  bounds bounds_;
  std::uint64_t moved_ = 0;
  std::string head_;  ///< Of the answer, while it is not whole.
  proxy_answer answer_;
  bool has_answered_ = false, has_lost_upstream_ = false;
};

/// Says that nothing more comes, and reads what the client still sends for a short while: a close
/// with bytes unread would take the answer back that is under way (RFC 9112, section 9.6).
void close_gently(int client, const cancellation& stop);

}  // namespace ntrace::net
