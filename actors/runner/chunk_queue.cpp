#include "actors/runner/chunk_queue.hpp"

#include <algorithm>

namespace ntrace::runner {

bool chunk_queue::on_append(const std::string& stream, std::string_view data) {
  if (is_closed_ || bytes_ + data.size() > limits::outbox_bytes_max) return false;
  bytes_ += data.size();
  do {
    const auto piece = data.substr(0, limits::chunk_bytes_max);
    data.remove_prefix(piece.size());
    chunks_.push_back({++last_seq_, stream, std::string{piece}});
  } while (!data.empty());
  return true;
}

std::vector<chunk> chunk_queue::take_sendable() {
  std::vector<chunk> out;
  const auto end = std::min(chunks_.size(), window);
  for (; sent_ < end; ++sent_) out.push_back(chunks_[sent_]);
  return out;
}

void chunk_queue::on_ack(std::uint64_t seq) {
  while (!chunks_.empty() && chunks_.front().seq <= seq) {
    bytes_ -= chunks_.front().data.size();
    chunks_.pop_front();
    if (sent_ > 0) --sent_;
  }
}

void chunk_queue::on_rewind() { sent_ = 0; }

}  // namespace ntrace::runner
