#pragma once
// Who did what by the remote shell: a file of JSON lines, written before it is done.
#include <mutex>
#include <nlohmann/json.hpp>
#include <string>

#include "config/result.hpp"

namespace ntrace::shell {

class shell_audit {
public:
  /// The file is made at the first entry. At `bytes_max` it becomes PATH.1, in place of an older.
  explicit shell_audit(std::string path, std::uint64_t bytes_max = 16u << 20)
      : path_{std::move(path)}, bytes_max_{bytes_max} {}
  /// Appends {"at", …entry} and syncs; ec::io when it cannot. From any thread.
  result<void> note(nlohmann::json entry);

private:
  std::string path_;
  std::uint64_t bytes_max_;
  std::mutex one_at_a_time_;
};

}  // namespace ntrace::shell
