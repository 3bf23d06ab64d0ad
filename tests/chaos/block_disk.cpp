#include "tests/chaos/block_disk.hpp"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include "config/clock.hpp"
#include "config/file.hpp"
#include "config/subprocess.hpp"
#include "tests/chaos/star_network.hpp"

namespace ntrace::chaos {
namespace {

constexpr off_t image_bytes = 192 << 20;
constexpr milliseconds idle_max{10'000};
constexpr int errors_corrected = 1;  // e2fsck(8), "EXIT CODE"

result<void> mount(const block_disk& disk) {
  auto done = command({"mount", "-o", "loop", disk.image, disk.at});
  return done ? result<void>{} : fail(done.error());
}

/// It is busy for a moment while somebody looks at it, also in the copy of a runner's helper:
/// propagate_mount_busy() in the kernel's fs/pnode.c.
result<void> unmount_idle(const std::string& at) {
  const auto end = steady_clock::now() + idle_max;
  for (;;) {
    auto done = command({"umount", at});
    if (done) return {};
    if (steady_clock::now() > end) return fail(done.error());
    ::poll(nullptr, 0, 100);
  }
}

}  // namespace

result<void> block_disk::make() const {
  const unique_fd file{::open(image.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600)};
  if (!file || ::ftruncate(file.get(), image_bytes) != 0)
    return fail(io_error("make", image, errno));
  if (auto formatted = command({"mkfs.ext4", "-q", "-m", "0", image}); !formatted)
    return fail(formatted.error());
  return mount(*this);
}

result<void> block_disk::give_up() const {
  auto done = command({"mount", "-o", "remount,abort", at});
  return done ? result<void>{} : fail(done.error());
}

result<void> block_disk::mend() const {
  if (auto done = unmount_idle(at); !done) return done;
  subprocess_spec check;
  check.argv = {"e2fsck", "-p", image};
  const auto checked = run_subprocess(check);
  if (!checked) return fail(checked.error());
  if (checked->exit_code > errors_corrected)
    return fail(ec::io, "e2fsck cannot repair " + image + ": " + checked->out + checked->err);
  return mount(*this);
}

}  // namespace ntrace::chaos
