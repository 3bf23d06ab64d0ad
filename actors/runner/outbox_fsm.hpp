#pragma once
// What the attempts of this runner have produced and the dispatcher has not acknowledged: for each
// fencing token the word that it started, its numbered chunks, and at last its verdict. Each is on
// disk before it is said, so that a runner that crashes goes on where it was; docs/protocol.md,
// "The outbox". Pure.
#include <deque>
#include <map>
#include <set>
#include <string_view>

#include "actors/runner/outbox_types.hpp"
#include "config/clock.hpp"
#include "config/error.hpp"
#include "config/limits.hpp"
#include "config/result.hpp"

namespace ntrace::runner {

/// In the order of outbox_message.
enum class outbox_word { started, append, finish };
/// The dispatcher's method of that name.
std::string_view to_string(outbox_word w);
using outbox_message = std::variant<rpc::started, rpc::append, rpc::finish>;

/// All that is needed of a message when it is answered.
struct said_word {
  std::uint64_t token = 0;
  outbox_word what = outbox_word::append;
  std::uint64_t seq = 0;  ///< Of `append`.
};
/// Say it to the dispatcher; answer by on_stored, with what about() gives, or on_refused.
struct say {
  outbox_message message;
  said_word about() const;
};
/// Call on_flush() once what has come meanwhile was heard: it shares the write.
struct flush_soon {};
/// Write these durably, in order, all or none; answer by on_kept. One at a time.
struct keep {
  std::vector<outbox_record> records;
};
/// Read the chunks `from` to `to` of that attempt; answer by on_loaded.
struct load {
  std::uint64_t token, from, to;
};
/// The dispatcher holds no lease of that token any more: its parts here are dropped.
struct drop_stale {
  std::uint64_t token;
  std::string reason;
};
/// The attempt has its verdict: its zone can be ended; the verdict waits here for the dispatcher.
struct attempt_done {
  std::uint64_t token;
  std::string run;
  domain::verdict verdict;
  bool zone_is_broken;
  domain::document clean;  ///< Its proof; empty without one.
};
/// The dispatcher has all of it.
struct delivered {
  std::uint64_t token;
};
/// What the attempt says cannot be kept: end it.
struct give_up {
  std::uint64_t token;
  std::string reason;
};
/// There is room for the words of another attempt, or is not.
struct room_changed {
  bool has_room;
};
/// Nobody has begun the attempt whose word it is, or it was given up: the word is lost, and
/// counted.
struct word_dropped {
  std::uint64_t token;
};
/// Call on_tick() then.
struct say_again {
  time_point at;
};
using outbox_effects =
    std::vector<std::variant<say, flush_soon, keep, load, drop_stale, attempt_done, delivered,
                             give_up, room_changed, word_dropped, say_again>>;

/// Bytes that wait for the dispatcher, chunks' overhead included.
struct outbox_bounds {
  std::size_t bytes_max = limits::outbox_bytes_max;
  std::size_t attempt_bytes_max = limits::outbox_attempt_bytes_max;
};

class outbox_fsm {
public:
  /// Wait after an answer that may be better next time.
  static constexpr milliseconds retry_wait{500};
  /// What a chunk costs beside its data: its row, and our books of it.
  static constexpr std::size_t chunk_overhead_bytes = 64;

  explicit outbox_fsm(outbox_bounds bounds = {}) : bounds_{bounds} {}

  /// What an earlier outbox has left: attempts without a verdict get one of infrastructure, because
  /// whoever worked on them ended with it.
  outbox_effects on_recovered(std::vector<kept_attempt> found);

  // From the runner and its attempts. Words of an attempt whose beginning was not heard are
  // dropped: they are the rest of what an earlier outbox has numbered.
  outbox_effects on_begun(std::uint64_t token, const std::string& run);
  outbox_effects on_started(rpc::started said, domain::document clean);
  outbox_effects on_chunk(std::uint64_t token, domain::stream stream, std::string_view data);
  /// The number of chunks is added. Of an attempt whose beginning was not heard: a verdict of
  /// infrastructure that names no chunks.
  outbox_effects on_finished(rpc::finish said, bool zone_is_broken);
  /// The runner is a new one. Nobody works on the attempts any more that have no verdict yet: they
  /// get one of infrastructure. Of all that wait it is told anew.
  outbox_effects on_attempts_lost(const std::string& reason);

  // From the disk.
  outbox_effects on_flush();
  outbox_effects on_kept(time_point now, const result<void>& done);
  outbox_effects on_loaded(std::uint64_t token, const result<std::vector<chunk>>& found);

  // From the dispatcher.
  outbox_effects on_link_up();
  void on_link_lost();
  /// `said`: what was answered. `ack`: of a chunk, the highest number up to which everything is
  /// stored; below the chunk's own number when its write is still under way, and may fail yet.
  outbox_effects on_stored(time_point now, const said_word& said, std::uint64_t ack);
  outbox_effects on_refused(time_point now, std::uint64_t token, const error& why);
  outbox_effects on_tick(time_point now);

  std::size_t bytes() const { return bytes_; }
  /// Attempts whose words are not all delivered.
  std::size_t size() const { return entries_.size(); }
  const outbox_bounds& bounds() const { return bounds_; }

private:
  /// Numbers of chunks: acked ≤ sent ≤ kept ≤ last.
  struct entry {
    std::string run;
    std::uint64_t acked = 0;  ///< The dispatcher has them.
    std::uint64_t sent = 0;
    std::uint64_t kept = 0;     ///< On disk.
    std::uint64_t writing = 0;  ///< On disk once the write under way is done.
    std::uint64_t last = 0;
    std::deque<std::size_t> sizes;  ///< Of those after `acked`.
    std::size_t bytes = 0;
    std::optional<rpc::started> started;  ///< Nothing once acknowledged, or before.
    domain::document clean;
    std::optional<rpc::finish> finish;
    bool is_begun_kept = false, is_begun_writing = false;
    bool may_finish = false;  ///< The verdict is on disk, or needs not to be.
    bool is_finish_writing = false;
    bool counts_chunks = true;  ///< Its verdict names how many there are.
    bool is_started_sent = false, is_finish_sent = false, is_loading = false, is_broken = false;
    std::optional<std::string> lost;  ///< Why its words cannot be kept; nothing while they can.
    std::optional<time_point> retry_at;
  };
  entry* find(std::uint64_t token);
  void write(outbox_record record, outbox_effects& out);
  void want_flush(outbox_effects& out);
  void pump(std::uint64_t token, outbox_effects& out);
  void rewind(entry& e);
  void ack(std::uint64_t token, entry& e, std::uint64_t seq);
  void lose(std::uint64_t token, entry& e, const std::string& reason, outbox_effects& out);
  /// `size` bytes of it wait no more.
  void uncount(entry& e, std::size_t size);
  void trim(entry& e);
  void tell_done(std::uint64_t token, const entry& e, outbox_effects& out) const;
  void forget(std::uint64_t token, outbox_effects& out);
  void look_for_room(outbox_effects& out);
  void retry_later(time_point now, entry& e, outbox_effects& out);

  outbox_bounds bounds_;
  std::map<std::uint64_t, entry> entries_;
  std::vector<outbox_record> pending_;
  std::map<std::uint64_t, std::uint64_t> acks_, acks_writing_;  ///< Token → acked.
  std::set<std::uint64_t> overs_, overs_writing_;
  std::optional<time_point> clean_again_at_;
  std::size_t bytes_ = 0;
  bool is_up_ = false, is_flush_asked_ = false, is_writing_ = false, has_room_ = true;
};

}  // namespace ntrace::runner
