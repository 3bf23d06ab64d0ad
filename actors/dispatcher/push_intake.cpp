#include "actors/dispatcher/push_intake.hpp"

#include <caf/send.hpp>

#include <unordered_map>
#include <utility>

#include "actors/dispatcher/intake_fsm.hpp"
#include "actors/journal/journal_actor.hpp"
#include "actors/rpc/messages/push_messages.hpp"
#include "config/crash_point.hpp"
#include "config/gauges.hpp"
#include "config/ids.hpp"
#include "config/overload.hpp"
#include "net/task_queue.hpp"

namespace ntrace::dispatcher {
namespace {

class intake;

/// Brings the journal's outcomes back to the port's thread.
class intake_sink final : public journal::write_sink {
public:
  intake_sink(intake& to, std::shared_ptr<net::task_queue> tasks, std::uint64_t group,
              std::size_t size)
      : to_{to}, tasks_{std::move(tasks)}, group_{group}, size_{size} {}
  /// Whether a dying writer had committed is not known: nobody is told yes.
  ~intake_sink() override {
    if (!is_told_)
      on_written(std::vector<result<journal::committed>>(
          size_, fail(ec::journal_failed, "the journal restarts; try again")));
  }
  intake_sink(const intake_sink&) = delete;
  intake_sink& operator=(const intake_sink&) = delete;

  void on_written(std::vector<result<journal::committed>> outcomes) override;

private:
  intake& to_;  ///< Lives for as long as `tasks_` are done.
  std::shared_ptr<net::task_queue> tasks_;
  std::uint64_t group_;
  std::size_t size_;
  bool is_told_ = false;
};

class intake final : public rpc::port_method {
public:
  intake(std::string source_template, caf::actor journal, std::shared_ptr<push_gate> gate,
         std::shared_ptr<net::task_queue> tasks)
      : journal_{std::move(journal)},
        gate_{std::move(gate)},
        tasks_{std::move(tasks)},
        fsm_{std::move(source_template), *gate_} {}

  void on_call(const nlohmann::json& args, reply then) override {
    const auto request = next_request_++;
    askers_.emplace(request, std::move(then));
    const auto at = wall_ms();
    perform(fsm_.on_push(steady_clock::now(), request, rpc::parse_push(args),
                         ids_.next(at, random_), at));
  }

  void on_round() override {
    static auto& unanswered = gauges::value("intake_unanswered");
    perform(fsm_.on_round());
    unanswered = static_cast<std::int64_t>(fsm_.unanswered());
  }

  void on_written(std::uint64_t group, const std::vector<result<journal::committed>>& outcomes) {
    perform(fsm_.on_written(group, outcomes));
  }

private:
  void perform(intake_effects todo) {
    for (auto& one : todo)
      std::visit(overload{[&](write_pushes& e) {
                            journal::direct_write all;
                            all.sink = std::make_shared<intake_sink>(*this, tasks_, e.group,
                                                                     e.batches.size());
                            all.batches = std::move(e.batches);
                            caf::anon_send(journal_, std::move(all));
                          },
                          [&](const answer_push& e) {
                            const auto asker = askers_.extract(e.request);
                            if (!asker) return;
                            crash_point("intake.before_answer");
                            asker.mapped()(e.value ? result<std::string>{rpc::to_text(*e.value)}
                                                   : fail(e.value.error()));
                          }},
                 one);
  }

  caf::actor journal_;
  std::shared_ptr<push_gate> gate_;
  std::shared_ptr<net::task_queue> tasks_;
  intake_fsm fsm_;
  random_source random_{random_seed()};
  ulid_source ids_;
  std::unordered_map<request_id, reply> askers_;  ///< As many as the port lets wait.
  request_id next_request_ = 1;
};

void intake_sink::on_written(std::vector<result<journal::committed>> outcomes) {
  is_told_ = true;
  tasks_->post([to = &to_, group = group_, outcomes = std::move(outcomes)] {
    to->on_written(group, outcomes);
  });
}

}  // namespace

rpc::port_method_spec push_intake(std::string source_template, caf::actor journal,
                                  std::shared_ptr<push_gate> gate) {
  return {"push", [=](const std::shared_ptr<net::task_queue>& tasks) {
            return std::make_unique<intake>(source_template, journal, gate, tasks);
          }};
}

}  // namespace ntrace::dispatcher
