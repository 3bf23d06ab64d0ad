#pragma once
// The outbox's file as outbox_sqlite keeps it: same records, same answers, in memory.
// outbox_sqlite_test holds it against the real file.
#include <map>

#include "actors/runner/outbox_types.hpp"
#include "config/result.hpp"

namespace ntrace::sim {

class sim_outbox_disk {
public:
  /// They are durable from here on.
  void write(const std::vector<runner::outbox_record>& records);
  std::vector<runner::kept_attempt> attempts() const;
  result<std::vector<runner::chunk>> chunks(std::uint64_t token, std::uint64_t from,
                                            std::uint64_t to) const;

private:
  struct attempt {
    runner::kept_attempt row;
    std::map<std::uint64_t, runner::chunk> chunks;
  };
  std::map<std::uint64_t, attempt> attempts_;
};

}  // namespace ntrace::sim
