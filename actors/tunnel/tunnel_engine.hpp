#pragma once
// Runs a tunnel on a thread of its own: the listener, the local connections, the SSH sessions, and
// the two machines that decide about them. docs/tunnel.md, "The engine".
#include <atomic>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "actors/tunnel/exec_fsm.hpp"
#include "actors/tunnel/forward_fsm.hpp"
#include "actors/tunnel/tunnel_fsm.hpp"
#include "net/ssh_session.hpp"

namespace ntrace::tunnel {

struct tunnel_settings {
  net::ssh_target to;
  host_port listen;  ///< Here, for connections that go through the tunnel.
  host_port target;  ///< There, as the SSH server sees it.
  std::vector<net::reverse_forward> reverse;
  std::string key_file, passphrase_file, known_hosts_file;
  bool accept_first = false;  ///< Pin an unknown host key at the first meeting.
  tunnel_options machine;
  forward_options forward;
  exec_options exec;
};

/// The parts of a session. Reads the key and the pinned host keys each time. ec::bad_key.
result<net::ssh_session_options> session_options(const tunnel_settings& from);

/// What an engine tells when it is asked, one object: state, why, since_ms, generation, to, listen,
/// target, round_trip_ms, connections, held, buffered_bytes, dials, lost, switches, …
using status_function = std::function<void(nlohmann::json)>;

/// Called on the engine's thread.
using exec_function = std::function<void(exec_outcome)>;

class tunnel_engine {
public:
  /// Begins at once. `seed` is of the waits' jitter. `on_defect` is called on the engine's thread,
  /// as its last act, when something was thrown in it.
  tunnel_engine(tunnel_settings settings, std::uint64_t seed,
                std::function<void(std::string)> on_defect = {});
  /// Ends at once; connections are reset.
  ~tunnel_engine();
  tunnel_engine(const tunnel_engine&) = delete;
  tunnel_engine& operator=(const tunnel_engine&) = delete;

  /// `then` is called on the engine's thread.
  void ask_status(status_function then);
  /// Try again now, whatever was said against it.
  void retry();
  /// Runs a command on the server, for whom its user may run one; `then` gets its outcome, always.
  exec_id exec(exec_request request, exec_function then);
  /// Ends a command wherever it is; its outcome says how that went.
  void cancel(exec_id id);
  /// Takes no more connections and ends when the last one does, or at the machine's deadline.
  void drain();

private:
  class loop;
  std::atomic<exec_id> next_exec_{exec_id{1} << 62};  ///< Above all connections.
  std::unique_ptr<loop> loop_;
};

}  // namespace ntrace::tunnel
