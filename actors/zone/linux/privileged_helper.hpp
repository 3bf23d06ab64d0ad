#pragma once
// The one process of ntrace that keeps its rights: a small program of a single thread that makes,
// boots and ends zones on request. When its caller goes away it ends every zone and itself.
// docs/zones.md, "The helper".
#include <atomic>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "config/clock.hpp"
#include "config/file.hpp"
#include "config/result.hpp"

namespace ntrace::zone {

struct helper_options {
  std::string data;               ///< Zones live in <data>/zones.
  std::string ca_file;            ///< Authorities that zones trust besides the system's.
  bool allow_degraded = false;    ///< Boot zones without limits or separate ids too.
  std::string backend = "linux";  ///< What makes namespaces: "linux", we; "oci", a runtime.
};

inline constexpr int helper_socket = 3;  ///< Where its program finds it.

/// An answer, and the descriptors that came with it.
struct helper_answer {
  nlohmann::json value;
  std::vector<unique_fd> fds;
};

/// The caller's side. Thread-safe; one request at a time.
class privileged_helper {
public:
  /// Starts the helper's program. ec::io; ec::bad_config for an unknown backend.
  static result<std::shared_ptr<privileged_helper>> start(const helper_options& options);
  ~privileged_helper();
  privileged_helper(const privileged_helper&) = delete;
  privileged_helper& operator=(const privileged_helper&) = delete;

  /// Requests: {"op": "create|boot|prove|end|destroy|snapshot|delete_snapshot|rollback|facts", …}.
  /// The helper's own errors come back as they are. ec::helper_lost when it died, and all zones
  /// that were up with it; another one is started then, at most one a second, for calls to come.
  /// The descriptor `pass` goes with it, when there is one.
  result<helper_answer> call(const nlohmann::json& request, int pass = -1);
  /// Its process id; another one after ec::helper_lost, and none while it is not up: kill(2) takes
  /// -1 for everybody.
  std::optional<int> pid() const {
    const int pid = pid_;
    return pid > 0 ? std::optional{pid} : std::nullopt;
  }

private:
  explicit privileged_helper(helper_options options) : options_{std::move(options)} {}
  result<void> launch();
  result<void> revive();
  tl::unexpected<error> lost();

  helper_options options_;
  unique_fd image_;  ///< Sealed memory file of its program.
  std::atomic<int> pid_ = -1;
  unique_fd socket_;
  std::optional<time_point> revived_;  ///< The last time that one was started after another.
  std::mutex guard_;
};

}  // namespace ntrace::zone
