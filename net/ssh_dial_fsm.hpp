#pragma once
// The steps of one SSH session from a connected socket until it is up, each with its deadline, and
// the server's banner judged before libssh acts on it. Pure: docs/tunnel.md, "Dialling".
#include <optional>
#include <string>

#include "config/clock.hpp"
#include "config/result.hpp"

namespace ntrace::net {

enum class ssh_stage { banner, key_exchange, authenticating, up, ended };
std::string_view to_string(ssh_stage s);

struct ssh_deadlines {
  milliseconds banner{10'000};
  milliseconds key_exchange{10'000};  ///< Costs CPU on a loaded host: not scaled down.
  milliseconds authentication{10'000};
  milliseconds open{2000};  ///< Of a channel.
};

class ssh_dial_fsm {
public:
  static constexpr std::size_t lines_before_banner_max = 50;
  static constexpr std::size_t bytes_before_banner_max = 8192;  // RFC 4253, section 4.2

  ssh_dial_fsm(const ssh_deadlines& deadlines, time_point now)
      : deadlines_{deadlines}, until_{now + deadlines.banner} {}

  /// What the server sends until its banner is whole. True when this made it whole; an error for
  /// what is not SSH 2.0.
  result<bool> on_bytes(time_point now, std::string_view bytes);
  void on_keys_exchanged(time_point now);
  void on_authenticated();
  void on_ended() { stage_ = ssh_stage::ended; }

  ssh_stage stage() const { return stage_; }
  const std::string& server() const { return server_; }  ///< "SSH-2.0-…", once it is known.
  /// For the error of a dial that ends before a banner: what came instead, escaped and cut, and
  /// what that says of `server`. Servers say so, too, why they close.
  std::string what_was_sent(const std::string& server) const;
  /// When the step must be done; none once up or ended.
  std::optional<time_point> until() const;
  /// The step that took too long.
  std::optional<error> on_tick(time_point now) const;

private:
  ssh_deadlines deadlines_;
  ssh_stage stage_ = ssh_stage::banner;
  time_point until_;
  std::string line_, server_;
  std::string first_;  ///< The first bytes, as they came.
  std::size_t lines_ = 0, bytes_ = 0;
};

/// The first 80 bytes of what a peer sent, with what cannot be printed as dots.
std::string printable(std::string_view bytes);

/// All bytes, with what cannot be printed as \\r, \\n or \\x and its number.
std::string escaped(std::string_view bytes);

}  // namespace ntrace::net
