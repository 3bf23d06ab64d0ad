#pragma once
// The one process of ntrace that keeps its rights: a single thread, forked before any other exists,
// that makes, boots and ends zones on request. When its caller goes away it ends every zone and
// itself. docs/zones.md, "The helper".
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "config/file.hpp"
#include "config/result.hpp"

namespace ntrace::zone {

struct helper_options {
  std::string data;             ///< Zones live in <data>/zones.
  std::string ca_file;          ///< Authorities that zones trust besides the system's.
  bool allow_degraded = false;  ///< Boot zones without limits or separate ids too.
};

/// An answer, and the descriptors that came with it.
struct helper_answer {
  nlohmann::json value;
  std::vector<unique_fd> fds;
};

/// The caller's side. Thread-safe; one request at a time.
class privileged_helper {
public:
  /// Forks the helper. Call it while the process has one thread; ec::defect otherwise.
  static result<std::shared_ptr<privileged_helper>> start(const helper_options& options);
  ~privileged_helper();
  privileged_helper(const privileged_helper&) = delete;
  privileged_helper& operator=(const privileged_helper&) = delete;

  /// Requests: {"op": "create|boot|prove|end|destroy|snapshot|delete_snapshot|rollback|facts|list",
  /// …}. The helper's own errors come back as they are; ec::helper_lost when it is gone.
  result<helper_answer> call(const nlohmann::json& request);
  /// Its process id.
  int pid() const { return pid_; }

private:
  privileged_helper(int pid, unique_fd socket) : pid_{pid}, socket_{std::move(socket)} {}
  int pid_;
  unique_fd socket_;
  std::mutex guard_;
};

}  // namespace ntrace::zone
