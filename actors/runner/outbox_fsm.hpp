#pragma once
// What the attempts of this runner have produced and the dispatcher has not acknowledged: for each
// fencing token the word that it started, its numbered chunks, and at last its verdict. Pure.
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "actors/runner/chunk_queue.hpp"
#include "config/clock.hpp"
#include "config/error.hpp"

namespace ntrace::runner {

enum class outbox_word { started, chunk, finish };

/// Say it to the dispatcher; answer by on_stored or on_refused.
struct say {
  std::uint64_t token = 0;
  outbox_word what = outbox_word::chunk;
  nlohmann::json args;  ///< Of `started` and `finish`.
  chunk piece;          ///< Of `chunk`.
};
/// The dispatcher holds no lease of that token any more: its parts here are dropped.
struct drop_stale {
  std::uint64_t token;
  std::string reason;
};
/// The attempt is over as far as its zone is concerned; `clean`: its proof, null without one.
struct attempt_done {
  std::uint64_t token;
  bool zone_is_broken;
  nlohmann::json clean;
};
/// A chunk did not fit, or nobody has begun the attempt whose word it is: it is lost, and counted.
struct word_dropped {
  std::uint64_t token;
  bool is_first;  ///< Of those that did not fit.
};
/// Call on_tick() then.
struct say_again {
  time_point at;
};
using outbox_effects =
    std::vector<std::variant<say, drop_stale, attempt_done, word_dropped, say_again>>;

class outbox_fsm {
public:
  /// Wait after an answer that may be better next time.
  static constexpr milliseconds retry_wait{500};

  // From the runner and its attempts. Words of an attempt whose beginning was not heard are
  // dropped: they are the rest of what an earlier outbox has numbered.
  void on_begun(std::uint64_t token) { entries_.try_emplace(token); }
  outbox_effects on_started(std::uint64_t token, nlohmann::json args, nlohmann::json clean);
  outbox_effects on_chunk(std::uint64_t token, const std::string& stream, std::string_view data);
  /// `args`: {"verdict", "reason", "receipt"}; the token and the number of chunks are added. Of an
  /// attempt whose beginning was not heard: a verdict of infrastructure that names no chunks.
  outbox_effects on_finished(std::uint64_t token, nlohmann::json args, bool zone_is_broken);

  /// Nobody works on the attempts any more that have no verdict yet: they get one of
  /// infrastructure.
  outbox_effects on_attempts_lost(const std::string& reason);

  // From the dispatcher.
  outbox_effects on_link_up();
  void on_link_lost();
  /// `said`: what was answered. `ack`: of a chunk, the highest number up to which everything is
  /// stored; below the chunk's own number when its write is still under way, and may fail yet.
  outbox_effects on_stored(time_point now, const say& said, std::uint64_t ack);
  outbox_effects on_refused(time_point now, std::uint64_t token, const error& why);
  outbox_effects on_tick(time_point now);

  std::size_t bytes() const;
  std::size_t size() const { return entries_.size(); }

private:
  struct entry {
    chunk_queue chunks;
    nlohmann::json started, clean;  ///< `started` is null once acknowledged, or before.
    std::optional<nlohmann::json> finish;
    bool is_started_sent = false, is_finish_sent = false, was_full = false;
    std::optional<time_point> retry_at;
  };
  entry* find(std::uint64_t token);
  void pump(std::uint64_t token, outbox_effects& out);
  void retry_later(time_point now, entry& e, outbox_effects& out);

  std::map<std::uint64_t, entry> entries_;
  bool is_up_ = false;
};

}  // namespace ntrace::runner
