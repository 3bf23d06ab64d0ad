#include "tests/chaos/load.hpp"

#include <poll.h>
#include <unistd.h>

#include "net/rpc_client.hpp"

namespace ntrace::chaos {
namespace {

using nlohmann::json;

constexpr milliseconds between_pushes{500}, between_tries{100}, answer_max{3'000};
constexpr std::size_t burst_size = fleet::runners * fleet::workers + 2;
constexpr std::int64_t open_max = 12;  // two for each worker
constexpr milliseconds between_meals{2'000}, last_tries{60'000};
const host_port dispatcher_at{"127.0.0.1", 9181};

void wait(milliseconds time) { ::poll(nullptr, 0, static_cast<int>(time.count())); }

result<json> call(const char* method, const json& args) {
  auto client = net::rpc_client::connect(dispatcher_at, answer_max);
  if (!client) return fail(client.error());
  return client->call(method, args, answer_max);
}

job job_of(std::size_t number) {
  return number % 4 == 3 ? job::fails : number % 8 == 5 ? job::waits : job::passes;
}

std::int64_t open_runs() {
  const auto status = call("status", json::array());
  return status ? status->value("open", std::int64_t{0}) : 0;
}

}  // namespace

load::load(fleet& of) : fleet_{of}, pusher_{[this] { push(); }}, consumer_{[this] { consume(); }} {}

std::string load::mark() { return "chaos" + std::to_string(::getpid()) + "-"; }

void load::finish() {
  is_over_ = true;
  if (pusher_.joinable()) pusher_.join();
  if (consumer_.joinable()) consumer_.join();
}

void load::push() {
  if (!fleet_.network().enter(0)) return;
  for (int n = 0; !is_over_; ++n) {
    // In a burst the last has to wait, so a cancel meets a run that waits, too.
    const auto burst = n % 10 == 2 ? burst_size : 1;
    for (std::size_t i = 0; i < burst; ++i) push_until_answered();
    if (n % 5 == 2 && !acked_.empty()) {
      const auto& run = acked_.back().run;
      unwanted_.insert(run);
      if (call("cancel", json::array({run}))) cancelled_.push_back(run);
    }
    // Faults, not a queue that grows, are to be what all waits for in the end.
    do wait(between_pushes);
    while (!is_over_ && open_runs() > open_max);
  }
}

void load::push_until_answered() {
  const auto what = job_of(keys_);
  const auto key = "key" + std::to_string(keys_);
  const json args{"chaos", mark() + std::to_string(keys_++), forge::sha_of(what), {{"key", key}}};
  // The same key gives the same run.
  auto end = time_point::max();
  for (;;) {
    if (const auto got = call("push", args)) {
      acked_.push_back({got->value("run", ""), key, what});
      return;
    }
    ++refused_;
    if (is_over_ && end == time_point::max()) end = steady_clock::now() + last_tries;
    if (steady_clock::now() > end) {
      unanswered_.push_back(key);
      return;
    }
    wait(between_tries);
  }
}

void load::consume() {
  if (!fleet_.network().enter(0)) return;
  while (!is_over_) {
    wait(between_meals);
    auto client = net::rpc_client::connect(dispatcher_at, answer_max);
    if (!client) continue;
    // Its connection is its lease: it ends with the client, whatever the consumer still holds.
    const auto job = client->call("next", json::array(), answer_max);
    if (!job || !job->is_object()) continue;
    const auto say = [&](const std::string& what, const std::string& stream, const json& data) {
      const auto id = job->value("id", "");
      const json doc{{"id", id + what},
                     {"run_id", "run-" + id},
                     {"when", 1},
                     {"repo", job->value("owner", "") + "/" + job->value("repo", "")},
                     {"commit", job->value("commit", json())},
                     {"stream", stream},
                     {"data", data}};
      return client->call("result", json::array({doc}), answer_max).has_value();
    };
    bool is_told = say("start", "events", {{"level", "info"}, {"code", "start"}}) &&
                   say("out", "stdout", "consumed");
    for (const char* stream : {"stdout", "stderr", "events", "result"})
      is_told = is_told &&
                say(std::string{"end"} + stream, "control", {{"event", "end"}, {"stream", stream}});
    if (is_told) ++consumed_;
  }
}

}  // namespace ntrace::chaos
