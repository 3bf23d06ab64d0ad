#pragma once
// The commands that a tunnel runs on the server: queued, bounded in number, each with a deadline,
// cancelled by a second command, and told as unknown when nobody can say how they ended.
// docs/tunnel.md, "Remote commands". Pure.
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "actors/tunnel/remote_command.hpp"
#include "actors/tunnel/tunnel_fsm.hpp"

namespace ntrace::tunnel {

using exec_id = std::uint64_t;  ///< Of a command, and of its channel; never reused.

struct exec_request {
  std::vector<std::string> argv;
  std::string input = {};  ///< Given to its stdin, which then ends.
  milliseconds deadline{60'000};
  std::size_t output_bytes_max = 1u << 20;  ///< Kept of stdout and of stderr; the rest is dropped.
  bool is_idempotent = false;               ///< May be run again when its session is lost.
};

enum class exec_end {
  exited,     ///< By itself; `status` is right.
  signalled,  ///< The shell that led it was killed; `signal` says by what.
  refused,    ///< It never ran.
  cancelled,
  timed_out,
  unknown,  ///< It may have run, wholly or in part, and may still run.
};
std::string_view to_string(exec_end e);

struct exec_outcome {
  exec_end how = exec_end::unknown;
  int status = 0;      ///< Of exited; 128 + n when signal n killed the command.
  std::string signal;  ///< Without SIG.
  std::string out, err;
  bool is_truncated = false;
  std::string why;  ///< A sentence, unless it exited.
};

struct exec_options {
  std::size_t sessions_max = 8;    ///< Below the server's MaxSessions; one is kept for cancelling.
  std::size_t waiting_max = 64;    ///< Commands that wait for a place.
  std::size_t leftover_max = 64;   ///< Commands to be killed once there is a session again.
  milliseconds kill_after{5'000};  ///< From TERM to KILL.
  milliseconds closing_max{10'000};    ///< From KILL to giving up.
  milliseconds grow_interval{60'000};  ///< When a limit that was learned is tried again.
};

/// Run `line` in a channel of its own and give it `input` and its end.
struct run_remote {
  exec_id of;
  std::string line, input;
};
struct close_remote {
  exec_id of;
};
struct exec_done {
  exec_id of;
  exec_outcome outcome;
};
struct exec_look_again {
  time_point at;
};
using exec_effects =
    std::vector<std::variant<run_remote, close_remote, exec_done, exec_look_again>>;

class exec_fsm {
public:
  /// `seed`: of the nonces.
  explicit exec_fsm(std::uint64_t seed, exec_options options = {})
      : options_{options}, random_{seed}, limit_{options.sessions_max} {}

  /// `id`: not used before. It may be over at once.
  exec_effects on_exec(time_point now, exec_id id, exec_request request);
  exec_effects on_cancel(time_point now, exec_id id);

  exec_effects on_session(time_point now);
  exec_effects on_session_lost(time_point now);

  // From the session's engine, for a channel of ours.
  exec_effects on_refused(time_point now, exec_id id, const std::string& reason);
  void on_output(exec_id id, std::string_view bytes);
  exec_effects on_error_output(time_point now, exec_id id, std::string_view bytes);
  void on_exit_status(exec_id id, int status);
  void on_exit_signal(exec_id id, const std::string& signal);
  exec_effects on_closed(time_point now, exec_id id);
  exec_effects on_tick(time_point now);

  /// True for a channel of this machine's.
  bool owns(exec_id id) const { return running_.count(id) > 0; }
  std::size_t used() const { return running_.size(); }  ///< Places, those for cancelling too.
  std::size_t limit() const { return limit_; }
  std::size_t waiting() const { return waiting_.size(); }
  std::size_t leftovers() const { return leftovers_.size(); }

private:
  struct command {
    exec_request request;
    std::string nonce = {};
    time_point until{};
  };
  /// A process on the server that must go.
  struct target {
    int pid = 0;
    std::string nonce = {};
    bool is_termed = false;
    int failures = 0;
    time_point due{};
  };
  struct running {
    command of;
    remote_stderr err;
    std::string out = {};
    bool is_truncated = false;
    std::optional<int> status = {};
    std::string signal = {};
    std::optional<exec_end> ends_as = {};  ///< It is being ended, for this reason.
    time_point until{};
    std::optional<target> kills = {};  ///< It is one of ours, against that process.
  };

  using iterator = std::map<exec_id, running>::iterator;

  void run_waiting(exec_effects& out);
  void run_kills(time_point now, exec_effects& out);
  void begin_end(time_point now, iterator at, exec_end why);
  void kill(target t);
  iterator finish(iterator at, exec_effects& out);
  exec_effects look_around(time_point now, exec_effects out);
  std::string new_nonce();

  exec_options options_;
  random_source random_;
  std::size_t limit_;
  time_point grow_at_ = time_point::max();
  bool is_up_ = false;
  exec_id next_kill_ = exec_id{1} << 63;  ///< Above all that callers choose.
  std::deque<std::pair<exec_id, command>> waiting_;
  std::map<exec_id, running> running_;
  std::deque<target> leftovers_;  ///< To be killed when they are due and there is a session.
};

}  // namespace ntrace::tunnel
