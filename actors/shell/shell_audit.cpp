#include "actors/shell/shell_audit.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "config/clock.hpp"
#include "config/file.hpp"

namespace ntrace::shell {

result<void> shell_audit::note(nlohmann::json entry) {
  const std::lock_guard held{one_at_a_time_};
  struct stat facts {};
  if (::stat(path_.c_str(), &facts) == 0 &&
      static_cast<std::uint64_t>(facts.st_size) >= bytes_max_ &&
      std::rename(path_.c_str(), (path_ + ".1").c_str()) != 0)
    return fail(io_error("rename", path_, errno));
  const unique_fd file{
      ::open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600)};
  if (!file) return fail(io_error("open", path_, errno));
  entry["at_ms"] = wall_ms();
  const auto line = entry.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
  if (!write_all(file.get(), line) || ::fdatasync(file.get()) != 0)
    return fail(io_error("write", path_, errno));
  return {};
}

}  // namespace ntrace::shell
