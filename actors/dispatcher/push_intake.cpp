#include "actors/dispatcher/push_intake.hpp"

#include <caf/send.hpp>

#include <map>
#include <utility>

#include "actors/dispatcher/intake_fsm.hpp"
#include "actors/dispatcher/push_args.hpp"
#include "actors/journal/journal_actor.hpp"
#include "config/crash_point.hpp"
#include "config/gauges.hpp"
#include "config/ids.hpp"
#include "config/overload.hpp"
#include "net/task_queue.hpp"

namespace ntrace::dispatcher {
namespace {

/// So many pushes are worth a transaction though another is under way.
constexpr std::size_t full_batch = 6;

class intake;

/// Brings the journal's outcomes back to the port's thread.
class intake_sink final : public journal::write_sink {
public:
  intake_sink(intake& to, std::shared_ptr<net::task_queue> tasks, std::vector<request_id> requests)
      : to_{to}, tasks_{std::move(tasks)}, requests_{std::move(requests)} {}
  /// Whether a dying writer had committed is not known: nobody is told yes.
  ~intake_sink() override {
    if (requests_.empty()) return;
    on_written(std::vector<result<journal::committed>>(
        requests_.size(), fail(ec::journal_failed, "the journal restarts; try again")));
  }
  intake_sink(const intake_sink&) = delete;
  intake_sink& operator=(const intake_sink&) = delete;

  void on_written(std::vector<result<journal::committed>> outcomes) override;

private:
  intake& to_;  ///< Lives for as long as `tasks_` are done.
  std::shared_ptr<net::task_queue> tasks_;
  std::vector<request_id> requests_;  ///< Empty once they are answered.
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
    perform(
        fsm_.on_push(steady_clock::now(), request, parse_push(args), ids_.next(at, random_), at));
  }

  void on_round() override {
    static auto& unanswered = gauges::value("intake_unanswered");
    unanswered = static_cast<std::int64_t>(askers_.size());
    if (under_way_ == 0 || writes_.size() >= full_batch) write();
  }

  void on_written(const std::vector<request_id>& requests,
                  const std::vector<result<journal::committed>>& outcomes) {
    --under_way_;
    write();  // First: so that the disk works on them while these are answered.
    for (std::size_t i = 0; i < requests.size(); ++i)
      perform(fsm_.on_written(requests[i], outcomes.at(i)));
  }

private:
  /// One at a time, unless there is much: what comes while the disk works shares the next
  /// transaction.
  void write() {
    if (writes_.empty()) return;
    ++under_way_;
    journal::direct_write all;
    all.batches = std::exchange(writes_, {});
    all.sink = std::make_shared<intake_sink>(*this, tasks_, std::exchange(requests_, {}));
    caf::anon_send(journal_, std::move(all));
  }

  void perform(intake_effects todo) {
    for (auto& one : todo)
      std::visit(overload{[&](write_push& e) {
                            requests_.push_back(e.request);
                            writes_.push_back(std::move(e.ops));
                          },
                          [&](const answer_push& e) {
                            const auto asker = askers_.extract(e.request);
                            if (!asker) return;
                            crash_point("intake.before_answer");
                            asker.mapped()(e.value ? result<std::string>{to_text(*e.value)}
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
  std::size_t under_way_ = 0;         ///< Writes that the journal has and has not answered.
  std::vector<request_id> requests_;  ///< Of what goes to the journal next.
  std::vector<journal::batch> writes_;
  request_id next_request_ = 1;
};

void intake_sink::on_written(std::vector<result<journal::committed>> outcomes) {
  tasks_->post([to = &to_, requests = std::exchange(requests_, {}),
                outcomes = std::move(outcomes)] { to->on_written(requests, outcomes); });
}

}  // namespace

rpc::port_method_spec push_intake(std::string source_template, caf::actor journal,
                                  std::shared_ptr<push_gate> gate) {
  return {"push", [=](const std::shared_ptr<net::task_queue>& tasks) {
            return std::make_unique<intake>(source_template, journal, gate, tasks);
          }};
}

}  // namespace ntrace::dispatcher
