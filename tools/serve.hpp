#pragma once
// The life of a process that runs a tree: signals, drain, stop, and the hard deadline.
#include <functional>
#include <future>
#include <string>
#include <thread>

#include "tools/wire.hpp"

namespace ntrace::tools {

/// Blocks the signals that serve() waits for. Before any thread is started.
void block_signals();

/// Waits up to `wait` for SIGTERM, SIGINT or the end of the root; 0 when none came, SIGUSR1 when
/// the root gave up.
int wait_signal(milliseconds wait);

/// Ends the process with `code` if this lives longer than `deadline`, whatever hangs: CAF's
/// actor_system waits for every actor that something still holds.
class hard_deadline {
public:
  explicit hard_deadline(milliseconds deadline, int code = 70);
  ~hard_deadline();
  hard_deadline(const hard_deadline&) = delete;
  hard_deadline& operator=(const hard_deadline&) = delete;

private:
  std::promise<void> met_;
  std::thread clock_;
};

/// Runs the roles until SIGTERM or SIGINT; drains; a second signal stops at once. Exit code.
int serve(const settings& s, role_set roles, bool as_json);

/// Makes the process hear (SIGUSR1) when the supervisor ends, as long as the handle is held: CAF
/// ends an actor that nobody refers to.
[[nodiscard]] caf::actor watch_root(caf::actor_system& system, const caf::actor& root);
/// Stops a tree and ends its façades; returns when the root is gone.
void stop_tree(caf::actor_system& system, const caf::actor& root, const wired& w);

}  // namespace ntrace::tools
