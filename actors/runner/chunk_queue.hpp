#pragma once
// What one attempt has produced and the dispatcher has not acknowledged: numbered chunks, then the
// verdict. Go-back-N with a window; a cumulative acknowledgement frees. Pure.
#include <deque>
#include <string>
#include <vector>

#include "config/limits.hpp"

namespace ntrace::runner {

struct chunk {
  std::uint64_t seq = 0;
  std::string stream, data;
};

class chunk_queue {
public:
  /// Numbers and keeps the data, cut into chunks of at most limits::chunk_bytes_max. False when the
  /// outbox is full and nothing was taken.
  [[nodiscard]] bool on_append(const std::string& stream, std::string_view data);
  /// Chunks that may be sent now; each is given once until on_rewind().
  std::vector<chunk> take_sendable();
  /// Everything up to `seq` is stored.
  void on_ack(std::uint64_t seq);
  /// Send again from the first unacknowledged chunk (the link was lost, or there was a gap).
  void on_rewind();
  /// No more appends; then the verdict may go once everything before it is stored.
  void on_close() { is_closed_ = true; }

  bool may_finish() const { return is_closed_ && chunks_.empty(); }
  std::uint64_t last_seq() const { return last_seq_; }
  std::size_t bytes() const { return bytes_; }

private:
  static constexpr std::size_t window = 32;  // chunks in flight; one fsync serves many
  std::deque<chunk> chunks_;                 ///< Unacknowledged, in order.
  std::size_t sent_ = 0;                     ///< Of them, how many are on their way.
  std::size_t bytes_ = 0;
  std::uint64_t last_seq_ = 0;
  bool is_closed_ = false;
};

}  // namespace ntrace::runner
