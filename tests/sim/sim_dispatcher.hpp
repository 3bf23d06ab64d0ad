#pragma once
// The dispatcher's process: production's supervisor_fsm and façades over journal, dispatcher and
// port; queue_fsm, intake_fsm and the gate between them, group_commit_fsm on the simulated disk,
// rpc_peer_fsm for each connection.
#include "actors/dispatcher/queue_fsm.hpp"
#include "actors/journal/group_commit_fsm.hpp"
#include "config/wake_timer.hpp"
#include "net/rpc_peer_fsm.hpp"
#include "tests/sim/network.hpp"
#include "tests/sim/sim_actors.hpp"
#include "tests/sim/sim_disk.hpp"

namespace ntrace::sim {

class sim_dispatcher : public process {
public:
  sim_dispatcher(world& w, network& net, dispatcher::queue_options options);

  void start();
  /// Dies now; starts again after `wait`.
  void crash(milliseconds wait);
  /// One of its actors throws; its supervisor starts it and what depends on it again.
  void kill_actor(unsigned which);
  void fill_disk(milliseconds lasts) { full_until_ = now() + lasts; }
  void fail_syncs(milliseconds lasts) { failing_until_ = now() + lasts; }
  void slow_disk(milliseconds lasts) { slow_until_ = now() + lasts; }
  /// For so long its file is near its bound: what has ended is deleted.
  void crowd_journal(milliseconds lasts);
  void jump_wall(std::int64_t ms) { wall_offset_ms_ += ms; }

  /// Its port: false when nothing listens there.
  bool accept(const stream_ptr& s);
  const sim_disk& disk() const { return disk_; }
  /// Letters that nobody answers.
  std::size_t overdue() const { return to_journal_.overdue() + to_dispatcher_.overdue(); }

private:
  /// What its wall clock says.
  std::int64_t wall_now_ms() const {
    return std::chrono::duration_cast<milliseconds>(now().time_since_epoch()).count() +
           wall_offset_ms_;
  }
  struct call {
    std::uint64_t peer = 0;
    std::string method;
    nlohmann::json args;
  };
  struct peer {
    net::rpc_peer_fsm fsm;
    stream_ptr to;
  };
  sim_facade* front_of(const std::string& child);
  void bring_up(const std::string& child);
  void take_down(const std::string& child);

  // The intake, on the port's thread.
  void take_push(const nlohmann::json& args, reply answer);
  void perform(dispatcher::intake_effects todo);
  void write_pushes(dispatcher::write_pushes& e);

  // The journal's actor.
  void recover(const reply& answer);
  /// Its word, as it came through its façade.
  static result<journal::committed> committed_from(const result<nlohmann::json>& said);
  /// One of those that write_all's answer lists.
  static result<nlohmann::json> outcome_in(const nlohmann::json& one);
  void write_all(const std::vector<journal::batch>& batches, const reply& answer);
  void perform(journal::group_effects todo);
  void write(std::vector<journal::batch> batches);
  void note_durable(const std::vector<journal::operation>& ops);
  void retain();
  void delete_ended();

  // The dispatcher's actor.
  void on_recovered();
  void take_pushed();
  void note_gone_early(std::uint64_t from, std::uint64_t to);
  void serve(const call& c, const reply& answer);
  dispatcher::effects step(const call& c, std::uint64_t request);
  void requeue(std::uint64_t request, const std::string& run);
  void perform(dispatcher::effects todo);
  void commit(dispatcher::commit& e);
  void note_expiry(const journal::batch& ops);
  struct asker {
    call asked;
    reply answer;
    time_point heard;
  };
  void renew(std::uint64_t token, time_point heard);
  void note_answer(const asker& of, const result<nlohmann::json>& value);

  // The port.
  void perform(std::uint64_t id, net::peer_effects todo);
  void notify(std::uint64_t id, const std::string& method, const nlohmann::json& args);

  network& net_;
  dispatcher::queue_options options_;
  sim_supervisor tree_;
  sim_facade to_journal_, to_dispatcher_, to_port_;

  /// Of this life of the process.
  std::unique_ptr<dispatcher::push_gate> gate_ = std::make_unique<dispatcher::push_gate>();
  std::optional<dispatcher::intake_fsm> intake_;
  std::map<std::uint64_t, reply> pushers_;
  bool has_round_ = false;  ///< The end of a round of pushes is to come.

  sim_disk disk_;
  journal::group_commit_fsm group_;
  std::map<std::uint64_t, reply> writers_;
  std::uint64_t next_write_ = 1;
  bool has_unsynced_ = false;
  time_point full_until_{}, failing_until_{}, slow_until_{}, crowded_until_{};

  std::optional<dispatcher::queue_fsm> queue_;
  wake_timer timer_;
  std::vector<std::pair<call, reply>> early_;  ///< Calls before recovery is through.
  std::set<std::uint64_t> gone_early_;         ///< Peers of such calls that are gone since.
  std::map<std::uint64_t, asker> askers_;
  std::uint64_t next_request_ = 1, next_run_ = 1;
  std::int64_t wall_offset_ms_ = 0;
  std::map<std::uint64_t, std::string> names_;  ///< Of the runners' peers.

  std::map<std::uint64_t, peer> peers_;
  std::uint64_t next_peer_ = 1;
};

}  // namespace ntrace::sim
