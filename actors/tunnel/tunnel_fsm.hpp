#pragma once
// When a tunnel's SSH session is dialled, probed, suspected, given up for a new one, or not tried
// again: docs/tunnel.md. It knows sessions by their generation; what one that is not live any more
// still says changes nothing but a counter. Pure.
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "config/clock.hpp"
#include "config/random.hpp"

namespace ntrace::tunnel {

using generation = std::uint64_t;

struct tunnel_options {
  /// Between probes while something is outstanding; none: 4 round trips, 50 ms to 2 s.
  std::optional<milliseconds> probe_interval;
  milliseconds probe_idle_interval{1000};
  /// Silence after a probe that makes a session suspect; none: from round trips, 250 ms to 15 s.
  std::optional<milliseconds> probe_deadline;
  milliseconds suspect_grace{30'000};  ///< How long a silent session may still heal.
  /// So long a silent session may heal though a new one is ready: its connections live on then.
  /// TCP says what was lost again after its time-out, and each time after twice as long (RFC 6298,
  /// section 5; Linux: 200 ms at least): a hole of 2 s is healed 4.2 s after it began at the
  /// latest.
  milliseconds heal_patience{4300};
  milliseconds backoff_min{20}, backoff_max{500};
  milliseconds stable_after{2000};     ///< Up for so long, it is dialled again at once.
  milliseconds parked_retry{300'000};  ///< ±20 %.
  milliseconds drain_deadline{30'000};
  bool standby = false;  ///< Keep a second session ready; it takes over when the live one fails.
};

enum class tunnel_state { idle, dialling, up, suspect, backoff, parked, draining };
std::string_view to_string(tunnel_state s);

/// What a failed dial tells about the next one.
enum class dial_failure {
  transient,      ///< Try again with backoff.
  refused,        ///< The key is not accepted: parked, tried again at parked_retry.
  mismatch,       ///< No method in common. Twice in a row: as refused. Once it may be damage.
  needs_operator  ///< Host key, key file or configuration: parked until on_retry.
};

/// Connect, authenticate; answer by on_connected, on_banner, on_authenticated or on_dial_failed.
struct dial {
  generation of;
  /// Which of the name's addresses is tried first, counted on over their end. Each failed dial
  /// moves on, so that a dead address never hides the others, however short the deadline is.
  unsigned first_address = 0;
};
/// Give a dial or session up without a word.
struct abandon {
  generation of;
};
/// Make the server answer; then on_probe_answered.
struct probe {
  generation of;
};
/// New connections use this session from now on.
struct switch_to {
  generation of;
};
/// What ran over that session is reset now, so that its owners come back over the next one.
struct reset_connections {
  generation of;
};
/// Call on_tick() then; a late or further call does no harm.
struct wake {
  time_point at;
};
/// The state changed, for log and status.
struct report {
  tunnel_state from, to;
  std::string reason;
};
using tunnel_effects =
    std::vector<std::variant<dial, abandon, probe, switch_to, reset_connections, wake, report>>;

class tunnel_fsm {
public:
  /// Attempts whose server accepted and says nothing yet, at most: a stopped server's backlog takes
  /// them all when it goes on, and its MaxStartups must not throw out the good one.
  static constexpr std::size_t silent_dials_max = 3;
  /// Then another dial begins beside one that hears nothing; docs/tunnel.md, "Dialling".
  static constexpr milliseconds silent_before_next{1000};

  tunnel_fsm(tunnel_options options, std::uint64_t seed) : options_{options}, random_{seed} {}

  tunnel_effects on_start(time_point now);
  /// Ends everything at once.
  tunnel_effects on_stop(time_point now);
  /// Ends when the last connection does, or at the deadline.
  tunnel_effects on_drain(time_point now);
  tunnel_effects on_tick(time_point now);

  // Of a dial.
  /// `address`: the one that connected; the next dial begins with it.
  tunnel_effects on_connected(time_point now, generation of, std::chrono::microseconds round_trip,
                              unsigned address = 0);
  tunnel_effects on_banner(time_point now, generation of);
  tunnel_effects on_authenticated(time_point now, generation of);
  tunnel_effects on_dial_failed(time_point now, generation of, dial_failure how,
                                const std::string& reason);
  // Of a session.
  /// Any byte from the server is a sign of life.
  tunnel_effects on_inbound(time_point now, generation of);
  tunnel_effects on_probe_answered(time_point now, generation of);
  /// The server's kernel takes data that is before the probe: its deadline starts again.
  void on_probe_advanced(time_point now, generation of);
  /// What TCP does over that session: how often it said something again, in all, and when it will
  /// next; nothing when all is acknowledged. If it did so while a new session is ready, the path
  /// was whole, and without an answer the old session is not waited for.
  void on_retransmissions(time_point now, generation of, std::uint64_t count,
                          std::optional<time_point> next);
  /// A new session is ready and the silent one may still heal: tell of retransmissions each tick.
  bool is_healing() const { return ready() != 0; }
  /// `is_damaged`: what came over it was not what the server sent, by its checksums. The third in a
  /// row waits half a minute: a line, or somebody in it, that damages is not hurried.
  tunnel_effects on_session_lost(time_point now, generation of, const std::string& reason,
                                 bool is_damaged = false);
  static constexpr unsigned damages_max = 3;
  unsigned damages() const { return damages_; }  ///< Sessions in a row that ended so.

  /// Somebody wants to use the tunnel: a long wait becomes a short one.
  tunnel_effects on_demand(time_point now);
  /// A link, address or route changed: a waiting tunnel dials at once, but not more often than once
  /// a second.
  tunnel_effects on_network_changed(time_point now);
  /// The operator, or a new configuration, says that it is worth trying again.
  tunnel_effects on_retry(time_point now);
  /// Bytes were sent and nothing was heard since, or connections wait: probe at the fast interval.
  tunnel_effects on_outstanding(time_point now, bool is_outstanding);
  /// Connections over the tunnel, for draining.
  tunnel_effects on_connections(time_point now, std::size_t count);

  tunnel_state state() const { return state_; }
  generation live() const { return live_; }  ///< 0 without one.
  generation standby() const { return standby_; }
  std::uint64_t dials() const { return next_ - 1; }
  std::size_t dials_under_way() const { return dials_.size(); }
  std::uint64_t stale_inputs() const { return stale_; }
  milliseconds probe_deadline() const;
  /// For the next dial: from round trips, and longer the more dials have failed, since a
  /// far server must not be out of reach for ever.
  milliseconds connect_deadline() const;
  milliseconds banner_deadline() const;
  milliseconds open_deadline() const;
  std::optional<double> round_trip_ms() const { return srtt_ms_; }
  milliseconds probe_interval() const;

private:
  static constexpr milliseconds standby_soon{1000}, standby_later{30'000};
  enum class phase { connecting, silent, talking, proving, ready };
  struct attempt {
    phase at = phase::connecting;
    time_point since{}, began{};
  };
  void enter(time_point now, tunnel_state next, const std::string& reason, tunnel_effects& out);
  void begin_dial(time_point now, tunnel_effects& out);
  void abandon_dials(tunnel_effects& out);
  void fall_back(time_point now, const std::string& reason, tunnel_effects& out);
  void lose(time_point now, const std::string& reason, tunnel_effects& out);
  void take(time_point now, generation of, tunnel_effects& out);
  void send_probe(time_point now, tunnel_effects& out);
  void wake_at(time_point at, tunnel_effects& out);
  void measure(std::chrono::microseconds round_trip);
  void keep_standby(time_point now, tunnel_effects& out);
  void drop_standby(tunnel_effects& out);
  void lose_standby(time_point now, tunnel_effects& out);
  void dial_standby_after(time_point now, milliseconds least, tunnel_effects& out);
  attempt* find(generation of);
  generation ready() const;
  time_point heals_until() const;
  /// After a retransmission over a whole path the server's kernel answers within this.
  milliseconds answer_wait() const;
  void wait_for_healing(time_point now, generation of, tunnel_effects& out);
  void park(time_point now, bool is_retried, const std::string& reason, tunnel_effects& out);
  bool is_of_live(generation of);
  milliseconds next_wait(time_point now);

  tunnel_options options_;
  random_source random_;
  tunnel_state state_ = tunnel_state::idle;
  std::map<generation, attempt> dials_;
  generation next_ = 1, live_ = 0, standby_ = 0;
  time_point up_since_{}, down_since_{}, suspect_since_{}, last_inbound_{}, next_probe_{};
  std::optional<time_point> probe_sent_;
  std::optional<time_point> retry_at_;  ///< Of backoff and parked; of a dial beside a suspect one.
  std::optional<time_point> drain_until_;
  time_point network_heeded_until_{};
  time_point standby_probe_{};  ///< When it is asked next.
  std::optional<time_point> standby_asked_, standby_dial_at_;
  std::optional<std::uint64_t> retransmissions_;  ///< When a new session became ready.
  std::optional<time_point> retransmitted_at_;    ///< Since then, without any answer.
  std::optional<time_point> retransmits_at_;      ///< The next time.
  std::optional<double> srtt_ms_, rttvar_ms_;
  time_point expected_ = time_point::max();  ///< The earliest wake that was asked for.
  unsigned failures_ = 0, damages_ = 0, mismatches_ = 0, address_ = 0;
  std::uint64_t stale_ = 0;
  std::size_t connections_ = 0;
  bool is_outstanding_ = false;
};

}  // namespace ntrace::tunnel
