#include "tests/sim/sim_outbox_disk.hpp"

#include <algorithm>

#include "config/overload.hpp"

namespace ntrace::sim {

using namespace runner;

void sim_outbox_disk::write(const std::vector<outbox_record>& records) {
  for (const auto& one : records) {
    if (const auto* r = std::get_if<begun_record>(&one)) {
      auto& row = attempts_[r->token].row;
      row.token = r->token;
      row.run = r->run;
      continue;
    }
    const auto at = attempts_.find(std::visit([](const auto& r) { return r.token; }, one));
    if (at == attempts_.end()) continue;
    auto& row = at->second.row;
    auto& chunks = at->second.chunks;
    std::visit(
        overload{[](const begun_record&) {}, [&](const started_record& r) { row.started = r.said; },
                 [&](const chunk_record& r) { chunks[r.piece.seq] = r.piece; },
                 [&](const finish_record& r) { row.finish = r.said; },
                 [&](const acked_record& r) {
                   chunks.erase(chunks.begin(), chunks.upper_bound(r.seq));
                   row.acked = std::max(row.acked, r.seq);
                   row.started.reset();
                 },
                 [&](const over_record&) { attempts_.erase(at); }},
        one);
  }
}

std::vector<kept_attempt> sim_outbox_disk::attempts() const {
  std::vector<kept_attempt> out;
  for (const auto& [token, a] : attempts_) {
    out.push_back(a.row);
    auto next = a.row.acked + 1;
    for (const auto& [seq, piece] : a.chunks)
      if (seq == next) {
        ++next;
        out.back().size_bytes.push_back(piece.data.size());
      }
  }
  return out;
}

result<std::vector<chunk>> sim_outbox_disk::chunks(std::uint64_t token, std::uint64_t from,
                                                   std::uint64_t to) const {
  std::vector<chunk> out;
  if (const auto at = attempts_.find(token); at != attempts_.end())
    for (auto seq = from; seq <= to && at->second.chunks.count(seq) != 0; ++seq)
      out.push_back(at->second.chunks.at(seq));
  if (out.size() != to - from + 1) return fail(ec::journal_corrupt, "chunks are missing");
  return out;
}

}  // namespace ntrace::sim
