#pragma once
// The dispatcher's process: production's supervisor_fsm over journal, dispatcher and port, with
// queue_fsm and group_commit_fsm on the simulated disk.
#include <optional>

#include "actors/dispatcher/queue_fsm.hpp"
#include "actors/journal/group_commit_fsm.hpp"
#include "supervision/supervisor_fsm.hpp"
#include "tests/sim/network.hpp"
#include "tests/sim/sim_disk.hpp"

namespace ntrace::sim {

class sim_dispatcher : public process {
public:
  sim_dispatcher(world& w, network& net, dispatcher::queue_options options)
      : process{w}, net_{net}, options_{std::move(options)} {}

  void start();
  /// Dies now; starts again after `wait`.
  void crash(milliseconds wait);
  /// One of its actors throws; its supervisor starts it and what depends on it again.
  void kill_actor(unsigned which);
  bool is_listening() const { return is_alive_ && is_listening_; }
  void fill_disk(milliseconds lasts) { full_until_ = now() + lasts; }
  void fail_syncs(milliseconds lasts) { failing_until_ = now() + lasts; }
  void slow_disk(milliseconds lasts) { slow_until_ = now() + lasts; }
  void jump_wall(std::int64_t ms) { wall_offset_ms_ += ms; }

  using on_answer = std::function<void(const result<nlohmann::json>&)>;
  /// A client's calls; `then` is not called when the dispatcher dies before it answers.
  void push(const dispatcher::push_request& p, on_answer then);
  void cancel(const std::string& run, on_answer then);
  void requeue(const std::string& run, on_answer then);

  void on_message(const std::shared_ptr<stream>& s, const message& m);
  void on_stream_end(const std::shared_ptr<stream>& s);
  const sim_disk& disk() const { return disk_; }

private:
  struct asker {
    std::shared_ptr<stream> from;
    std::uint64_t id = 0;
    std::string method;
    on_answer client;
  };
  void perform_tree(supervision::effects todo);
  void bring_up(const std::string& child, std::uint64_t incarnation);
  void take_down(const std::string& child);
  void note_restart(const std::string& child);
  void recover(std::uint64_t incarnation);
  void perform(dispatcher::effects todo);
  void perform_journal(journal::group_effects todo);
  void write(std::vector<journal::batch> batches);
  void synced(const result<std::vector<journal::committed>>& done);
  void note_durable(const std::vector<journal::operation>& ops);
  void note_expiry(const journal::batch& ops);
  void answer(const dispatcher::answer& e);
  std::uint64_t remember(asker a) {
    askers_[next_request_] = std::move(a);
    return next_request_++;
  }

  network& net_;
  dispatcher::queue_options options_;
  sim_disk disk_;
  std::optional<supervision::supervisor_fsm> tree_;
  std::map<std::string, std::uint64_t> incarnations_;  ///< Of the children that run.
  struct death {
    std::string child;
    time_point at, up_since;
  };
  std::optional<death> lone_death_;  ///< The one child that is down by itself.
  std::map<std::string, time_point> up_since_;
  std::optional<dispatcher::queue_fsm> queue_;
  journal::group_commit_fsm group_;
  /// Who gets the outcome of a write: answers to a dispatcher that is gone reach nobody.
  std::map<std::uint64_t, std::pair<std::uint64_t, std::uint64_t>> writers_;
  std::uint64_t next_write_ = 1, queue_life_ = 0, journal_life_ = 0;
  bool is_listening_ = false;
  std::map<std::uint64_t, asker> askers_;
  std::map<std::uint64_t, std::shared_ptr<stream>> sessions_;
  std::uint64_t next_request_ = 1, next_run_ = 1;
  std::int64_t wall_offset_ms_ = 0;
  bool has_unsynced_ = false;
  time_point full_until_{}, failing_until_{}, slow_until_{};
};

}  // namespace ntrace::sim
