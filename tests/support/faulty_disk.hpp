#pragma once
// A disk under SQLite that fails when it is told to: a layer over the system's own.
#include <atomic>

namespace ntrace::test {

enum class disk_fault {
  none,
  full,       ///< Writes find no room.
  read_only,  ///< Writes are refused.
  sync,       ///< Writes are taken, and their fsync fails.
};

/// While one lives, every connection that is opened goes through it. One at a time.
class faulty_disk {
public:
  faulty_disk();
  ~faulty_disk();
  faulty_disk(const faulty_disk&) = delete;
  faulty_disk& operator=(const faulty_disk&) = delete;

  std::atomic<disk_fault> fault{disk_fault::none};
  std::atomic<int> syncs_failed{0};
  std::atomic<int> log_writes{0};  ///< Calls that wrote to a WAL.
};

}  // namespace ntrace::test
