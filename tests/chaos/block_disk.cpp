#include "tests/chaos/block_disk.hpp"

#include <fcntl.h>
#include <unistd.h>

#include "config/file.hpp"
#include "config/subprocess.hpp"
#include "tests/chaos/star_network.hpp"

namespace ntrace::chaos {
namespace {

constexpr off_t image_bytes = 192 << 20;
constexpr int errors_corrected = 1;  // e2fsck(8), "EXIT CODE"

result<void> mount(const block_disk& disk) {
  auto done = command({"mount", "-o", "loop", disk.image, disk.at});
  return done ? result<void>{} : fail(done.error());
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
  if (auto done = command({"umount", at}); !done) return fail(done.error());
  subprocess_spec check;
  check.argv = {"e2fsck", "-p", image};
  const auto checked = run_subprocess(check);
  if (!checked) return fail(checked.error());
  if (checked->exit_code > errors_corrected)
    return fail(ec::io, "e2fsck cannot mend " + image + ": " + checked->out + checked->err);
  return mount(*this);
}

}  // namespace ntrace::chaos
