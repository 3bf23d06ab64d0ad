#include "tests/sim/sim_consumer.hpp"

#include <array>

namespace ntrace::sim {

using nlohmann::json;

namespace {

constexpr std::array<const char*, 4> streams{"stdout", "stderr", "events", "result"};
/// Something on each stream, then the end of each.
constexpr std::size_t documents = streams.size() * 2;

json document(const json& given, const std::string& run_id, std::size_t n, bool fails) {
  const std::string stream = streams[n % streams.size()];
  json out{{"id", run_id + "." + std::to_string(n)},
           {"run_id", run_id},
           {"when", 1},
           {"repo", given.value("owner", "") + "/" + given.value("repo", "")},
           {"commit", given.value("commit", "")}};
  if (n >= streams.size()) {
    out["stream"] = "control";
    out["data"] = {{"event", "end"}, {"stream", stream}};
    return out;
  }
  out["stream"] = stream;
  out["data"] = stream == "events"
                    ? json{{"level", fails ? "error" : "info"}, {"message", "as it went"}}
                    : json("said on " + stream);
  return out;
}

}  // namespace

void sim_consumer::start() {
  is_alive_ = true;
  ++life_;
  connect();
}

void sim_consumer::retire() {
  hang_up();
  is_alive_ = false;
}

void sim_consumer::connect() {
  const auto to = net_.connect(network::local);
  if (!accept_(to)) return later();
  stream_ = to;
  const auto mine = [this, number = ++connection_](auto what) {
    return [this, number, what](const auto&... args) {
      if (connection_ == number) what(args...);
    };
  };
  to->caller.on_frame = mine([this](const frame& f) {
    if (f.what != frame::kind::bytes) {
      hang_up();
      return later();
    }
    for (const auto& event : session_->on_bytes(f.data))
      if (const auto* answer = std::get_if<net::rpc_answer>(&event))
        if (const auto at = calls_.extract(answer->call)) at.mapped()(answer->value);
  });
  to->caller.on_broken = mine([this] { lose(); });
  session_.emplace();
  for (const auto& j : jobs_) soon(0, 5, [this, j] { say(j); });
  if (jobs_.empty()) ask();
  if (world_.random.below(4) == 0) ask();
}

/// Without a word.
void sim_consumer::hang_up() {
  ++connection_;
  calls_.clear();
  if (stream_) net_.reset(std::exchange(stream_, nullptr), true);
}

void sim_consumer::lose() {
  ++connection_;
  calls_.clear();
  stream_ = nullptr;
  world_.met("consumer.lost");
  // Half of them forget what they were at, as one that was started again does.
  if (world_.random.below(2) == 0) jobs_.clear();
  later();
}

void sim_consumer::later() {
  after_between(100'000, 3'000'000, [this] {
    if (!stream_) connect();
  });
}

void sim_consumer::soon(std::uint64_t from_ms, std::uint64_t to_ms, std::function<void()> what) {
  after_between(from_ms * 1000, to_ms * 1000, [this, number = connection_, what = std::move(what)] {
    if (stream_ && connection_ == number) what();
  });
}

void sim_consumer::call(const std::string& method, json args, reply answer) {
  calls_[session_->call(method, args)] = std::move(answer);
  net_.send_bytes(stream_, true, session_->take_output());
}

void sim_consumer::ask() {
  if (!stream_) return;
  call("next", json::array(), [this](const result<json>& given) {
    if (given) return take(*given);
    soon(200, 1000, [this] { ask(); });
  });
}

void sim_consumer::take(const json& given) {
  const auto j = std::make_shared<job>();
  j->given = given;
  j->run_id = "theirs" + std::to_string(next_job_++);
  j->does = static_cast<habit>(world_.random.below(static_cast<std::uint64_t>(habit::count)));
  j->turn = j->does == habit::dies_unheard ? 0 : world_.random.below(documents);
  j->fails = world_.random.below(4) == 0;
  jobs_.push_back(j);
  world_.met("consumer.job");
  soon(1, 500, [this, j] { say(j); });
}

/// The habit shows; true when there is nothing to say now.
bool sim_consumer::acts_odd(const job_ptr& j) {
  if (!j->is_odd_now || j->said < j->turn) return false;
  j->is_odd_now = false;
  switch (j->does) {
    case habit::vanishes:
      // Not with an open request: nothing ever tells the dispatcher to answer that.
      if (!calls_.empty()) return false;
      world_.met("consumer.vanished");
      jobs_.clear();
      ++connection_;
      stream_ = nullptr;
      later();
      return true;
    case habit::dies_unheard:
    case habit::dies_midway:
      world_.met(j->said == 0 ? "consumer.died_unheard" : "consumer.died_midway");
      jobs_.clear();
      hang_up();
      later();
      return true;
    case habit::falls_silent:
      world_.met("consumer.fell_silent");
      soon(15'000, 20'000, [this, j] { say(j); });
      return true;
    case habit::half_closes:
      world_.met("consumer.half_closed");
      net_.send(stream_, true, {frame::kind::end, 0, {}});
      soon(1000, 2000, [this] {
        hang_up();
        later();
      });
      return true;
    case habit::comes_back:
      world_.met("consumer.came_back");
      call("result", json::array({document(j->given, j->run_id, j->said, j->fails)}),
           [](const auto&) {});
      j->said = 0;
      soon(0, 50, [this] {
        hang_up();
        later();
      });
      return true;
    default:
      return false;
  }
}

void sim_consumer::say(const job_ptr& j) {
  if (acts_odd(j)) return;
  const auto doc = document(j->given, j->run_id, j->said, j->fails);
  if (j->does == habit::says_twice) call("result", json::array({doc}), [](const auto&) {});
  call("result", json::array({doc}),
       [this, j](const result<json>& answer) { on_stored(j, answer); });
}

void sim_consumer::on_stored(const job_ptr& j, const result<json>& answer) {
  if (!answer && answer.error().code == ec::stale_lease) {
    world_.met("consumer.told_stale");
    return drop(j);
  }
  if (!answer) return soon(100, 500, [this, j] { say(j); });
  fact f;
  f.kind = fact_kind::doc_acked;
  f.text = j->run_id + "." + std::to_string(j->said);
  world_.note(std::move(f));
  if (answer->value("duplicate", false)) world_.met("consumer.duplicate");
  if (++j->said < documents) return soon(1, 1500, [this, j] { say(j); });
  world_.met(j->fails ? "consumer.failed" : "consumer.done");
  drop(j);
}

void sim_consumer::drop(const job_ptr& j) {
  std::erase(jobs_, j);
  if (jobs_.empty()) soon(1, 500, [this] { ask(); });
}

}  // namespace ntrace::sim
