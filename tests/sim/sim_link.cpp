#include "tests/sim/sim_link.hpp"

#include "config/backoff.hpp"

namespace ntrace::sim {

using nlohmann::json;

namespace {

constexpr backoff_policy redial{milliseconds{20}, milliseconds{500}};  // As rpc_link_actor's.

}  // namespace

std::function<void()> sim_link::still(std::function<void()> what) {
  return [this, epoch = epoch_, what = std::move(what)] {
    if (epoch_ == epoch) what();
  };
}

void sim_link::start() {
  ++epoch_;
  failures_ = 0;
  begin();
}

void sim_link::stop() {
  ++epoch_;
  ++connection_;
  if (stream_) net_.reset(std::exchange(stream_, nullptr), true);
  session_.reset();
  calls_.clear();  // The façade answers the callers.
  is_up_ = false;
}

void sim_link::begin() {
  owner_.ask([this](const reply& answer) { give_hello(answer); },
             [this, epoch = epoch_](const result<json>& hello) {
               if (epoch != epoch_) return;
               if (!hello) return later();
               hello_ = *hello;
               process_.after_between(10, 1000, still([this] { connect(); }));
             });
}

void sim_link::later() {
  process_.after(backoff_wait(redial, failures_++, world_.random), still([this] { begin(); }));
}

void sim_link::connect() {
  stream_ = dial_();
  if (!stream_) {
    world_.met("link.dial_failed");
    return later();
  }
  const auto mine = [this, number = ++connection_](auto what) {
    return [this, number, what](const auto&... args) {
      if (connection_ == number) what(args...);
    };
  };
  stream_->caller.on_frame = mine([this](const frame& f) {
    if (f.what == frame::kind::bytes) return on_bytes(f.data);
    net_.reset(stream_, true);  // The other side has finished: nothing is served over half a link.
    lose();
  });
  stream_->caller.on_broken = mine([this] { lose(); });
  session_.emplace();
  hello_call_ = session_->call("hello", json::array({hello_}));
  pump();
}

void sim_link::lose() {
  ++connection_;
  stream_ = nullptr;
  session_.reset();
  world_.met("link.lost");
  for (const auto& [id, answer] : std::exchange(calls_, {}))
    answer(fail(ec::connection_lost, "the link ended before the answer"));
  if (std::exchange(is_up_, false)) owner_.tell([this] { take_lost(); });
  later();
}

void sim_link::pump() {
  if (session_ && session_->has_output()) net_.send_bytes(stream_, true, session_->take_output());
}

void sim_link::call(const std::string& method, json args, const reply& answer) {
  if (!is_up_) return answer(fail(ec::unreachable, "no link"));
  calls_[session_->call(method, json::array({std::move(args)}))] = answer;
  pump();
}

void sim_link::on_bytes(const std::string& data) {
  for (const auto& event : session_->on_bytes(data)) {
    if (const auto* request = std::get_if<net::rpc_request>(&event)) {
      owner_.ask(
          [this, r = *request](const reply& answer) { serve(r.method, r.args.at(0), answer); },
          [](const auto&) {});
      continue;
    }
    const auto& answer = std::get<net::rpc_answer>(event);
    if (answer.call == hello_call_) {
      const auto hello =
          answer.value ? rpc::parse_hello_answer(*answer.value) : fail(answer.value.error());
      if (!hello) {
        net_.reset(stream_, true);
        return lose();
      }
      is_up_ = true;
      failures_ = 0;
      world_.met("link.up");
      owner_.tell([this, hello = *hello] { take_up(hello); });
    } else if (const auto at = calls_.extract(answer.call)) {
      at.mapped()(answer.value);
    }
  }
}

}  // namespace ntrace::sim
