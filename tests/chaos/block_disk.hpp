#pragma once
// A disk that can fail as real ones do: ext4 in a file, by a loop device.
#include <string>

#include "config/result.hpp"

namespace ntrace::chaos {

struct block_disk {
  std::string image;  ///< The file; made by make().
  std::string at;     ///< The folder where it is mounted.

  /// Fails where there are no loop devices.
  result<void> make() const;
  /// The kernel gives it up, as after an error of the device: what was synced stays, nothing more
  /// is written, and it is read-only until it is mounted again. ext4(5), "abort"
  result<void> give_up() const;
  /// Checks and mounts it again. Nobody may have a file of it open.
  result<void> mend() const;
};

}  // namespace ntrace::chaos
