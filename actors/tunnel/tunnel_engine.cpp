#include "actors/tunnel/tunnel_engine.hpp"

#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "actors/tunnel/engine_loop.hpp"
#include "config/gauges.hpp"
#include "config/log.hpp"

namespace ntrace::tunnel {
namespace {

constexpr milliseconds listen_retry{1000};
constexpr int rounds_max = 16;  // of one turn; then the descriptors are asked again

}  // namespace

tunnel_engine::tunnel_engine(tunnel_settings settings, std::uint64_t seed,
                             std::function<void(std::string)> on_defect)
    : loop_{std::make_unique<loop>(std::move(settings), seed, std::move(on_defect))} {}
tunnel_engine::~tunnel_engine() = default;

void tunnel_engine::ask_status(status_function then) {
  loop_->post([l = loop_.get(), then = std::move(then)] { then(l->status()); });
}
void tunnel_engine::retry() {
  loop_->post([l = loop_.get()] { l->retry(); });
}
exec_id tunnel_engine::exec(exec_request request, exec_function then) {
  const auto id = next_exec_++;
  loop_->post(
      [l = loop_.get(), id, request = std::move(request), then = std::move(then)]() mutable {
        l->exec(id, std::move(request), std::move(then));
      });
  return id;
}
void tunnel_engine::cancel(exec_id id) {
  loop_->post([l = loop_.get(), id] { l->cancel(id); });
}
void tunnel_engine::drain() {
  loop_->post([l = loop_.get()] { l->drain(); });
}

tunnel_engine::loop::loop(tunnel_settings settings, std::uint64_t seed,
                          std::function<void(std::string)> on_defect)
    : settings_{std::move(settings)},
      tunnel_{settings_.machine, seed},
      forward_{settings_.forward},
      exec_{seed, settings_.exec},
      local_{[this] { return next_id_++; }, settings_.forward.connections_max},
      reverse_(settings_.reverse.size(), "waits for a session"),
      on_defect_{std::move(on_defect)} {
  // Before anybody can dial it.
  now_ = state_since_ = down_since_ = steady_clock::now();
  listen_when_due();
  thread_ = std::thread{[this] { run(); }};
}

tunnel_engine::loop::~loop() {
  post([this] { stop_ = true; });
  thread_.join();
}

void tunnel_engine::loop::post(std::function<void()> what) {
  {
    const std::lock_guard lock{mutex_};
    posted_.push_back(std::move(what));
  }
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto n = ::write(wake_.get(), &one, sizeof one);
}

void tunnel_engine::loop::run() {
  try {
    serve();
  } catch (const std::exception& e) {
    log::error("tunnel.defect", {{"what", e.what()}});
    if (on_defect_) on_defect_(e.what());
  }
}

void tunnel_engine::loop::serve() {
  sigset_t all;
  sigfillset(&all);
  ::pthread_sigmask(SIG_BLOCK, &all, nullptr);  // Signals are the process's, not this thread's.
  now_ = steady_clock::now();
  perform(tunnel_.on_start(now_));
  while (!stop_) {
    turn();
    if (!stop_) wait();
  }
  perform(tunnel_.on_stop(now_));
  end_exec_session();
  for (auto& [id, then] : std::exchange(exec_asked_, {})) {
    exec_outcome never;
    never.how = exec_end::refused;
    never.why = "the tunnel ended before it began";
    then(std::move(never));
  }
}

void tunnel_engine::loop::listen_when_due() {
  if (local_.is_listening() || now_ < listen_at_) return;
  listen_at_ = now_ + listen_retry;
  const auto done = local_.listen(settings_.listen);
  if (!done && listen_problem_.empty())
    log::error("tunnel.listen_refused",
               {{"at", settings_.listen.text()}, {"reason", done.error().message}});
  else if (done)
    log::info("tunnel.listening", {{"at", settings_.listen.text()}});
  listen_problem_ = done ? "" : done.error().message;
}

void tunnel_engine::loop::wait() {
  std::vector<pollfd> fds{
      {wake_.get(), POLLIN, 0}, {local_.fd(), POLLIN, 0}, {network_.fd(), POLLIN, 0}};
  auto until = std::min({tunnel_wake_, forward_wake_, exec_wake_, local_.next()});
  if (!local_.is_listening()) until = std::min(until, listen_at_);
  bool is_busy = local_.has_events();
  std::vector<line*> polled;
  for (auto& [of, l] : lines_) {
    short events = POLLIN;
    if (l.session) {
      l.session->acknowledge();
      events = static_cast<short>(POLLIN | (l.session->wants_write() ? POLLOUT : 0));
      is_busy = is_busy || l.session->is_busy() || l.is_due;
      if (const auto at = l.session->deadline()) until = std::min(until, *at);
    } else {
      until = std::min(until, l.connector->next());
    }
    fds.push_back({l.fd(), events, 0});
    polled.push_back(&l);
  }
  const auto left = std::chrono::ceil<milliseconds>(until - steady_clock::now()).count();
  const int timeout = is_busy ? 0 : static_cast<int>(std::clamp<std::int64_t>(left, 0, 60'000));
  ::poll(fds.data(), fds.size(), timeout);
  now_ = steady_clock::now();
  is_posted_ = fds[0].revents != 0;
  is_local_ready_ = fds[1].revents != 0;
  is_network_ready_ = fds[2].revents != 0;
  for (std::size_t i = 0; i < polled.size(); ++i) {
    auto& l = *polled[i];
    const auto at = l.session ? l.session->deadline() : std::optional{l.connector->next()};
    l.is_ready = fds[i + 3].revents != 0;
    l.is_due = l.is_due || fds[i + 3].revents != 0 || (l.session && l.session->is_busy()) ||
               (at && now_ >= *at);
  }
}

void tunnel_engine::loop::turn() {
  std::uint64_t ignored = 0;
  if (is_posted_ && ::read(wake_.get(), &ignored, sizeof ignored) > 0) {
    std::deque<std::function<void()>> posted;
    {
      const std::lock_guard lock{mutex_};
      posted.swap(posted_);
    }
    for (const auto& what : posted) what();
  }
  listen_when_due();
  if (std::exchange(is_network_ready_, false) && network_.has_changed())
    perform(tunnel_.on_network_changed(now_));
  if (now_ >= tunnel_wake_) {
    tunnel_wake_ = time_point::max();
    if (const auto live = lines_.find(tunnel_.live());
        live != lines_.end() && live->second.session) {
      auto& session = *live->second.session;
      if (tunnel_.is_healing()) {
        const auto seen = session.look_at_retransmissions(now_);
        tunnel_.on_retransmissions(now_, live->first, seen.count, seen.next);
      }
      if (session.has_probe_advanced()) tunnel_.on_probe_advanced(now_, live->first);
    }
    perform(tunnel_.on_tick(now_));
  }
  if (now_ >= forward_wake_) {
    forward_wake_ = time_point::max();
    perform(forward_.on_tick(now_));
  }
  if (now_ >= exec_wake_) {
    exec_wake_ = time_point::max();
    perform(exec_.on_tick(now_));
  }
  if (is_local_ready_ || local_.has_events() || now_ >= local_.next()) serve_local();
  // A line's events make work for others; a few rounds, so that one message takes one turn.
  for (int round = 0; round < rounds_max; ++round) {
    bool was_due = false;
    for (auto at = lines_.begin(); at != lines_.end();) {
      auto& [of, l] = *at;
      if (!l.is_over && std::exchange(l.is_due, false)) {
        was_due = true;
        serve_line(of, l);
      }
      at = l.is_over ? lines_.erase(at) : std::next(at);
    }
    if (local_.has_events()) serve_local();
    perform(tunnel_.on_connections(now_, forward_.size()));
    perform(tunnel_.on_outstanding(now_, is_unheard_ || forward_.is_outstanding()));
    if (!was_due) break;
  }
  static auto& connections = gauges::value("tunnel_connections");
  static auto& held = gauges::value("tunnel_held");
  static auto& bytes = gauges::value("tunnel_buffer_bytes");
  connections = static_cast<std::int64_t>(forward_.size());
  held = static_cast<std::int64_t>(forward_.held());
  bytes = static_cast<std::int64_t>(forward_.buffered_bytes());
}

void tunnel_engine::loop::serve_local() {
  for (auto& event : local_.pump(now_)) {
    if (const auto* e = std::get_if<net::local_accepted>(&event)) {
      perform(forward_.on_accepted(now_, e->id));
      perform(tunnel_.on_demand(now_));
    } else if (auto* b = std::get_if<net::local_bytes>(&event)) {
      perform(forward_.on_local_bytes(now_, b->id, std::move(b->data)));
    } else if (const auto* end = std::get_if<net::local_end>(&event)) {
      perform(forward_.on_local_end(now_, end->id));
    } else if (const auto* broken = std::get_if<net::local_broken>(&event)) {
      perform(forward_.on_local_broken(now_, broken->id));
    } else if (const auto* took = std::get_if<net::local_took>(&event)) {
      perform(forward_.on_local_took(now_, took->id, took->bytes));
    }
  }
}

nlohmann::json tunnel_engine::loop::status() const {
  const auto ms = [&](time_point since) {
    return std::chrono::duration_cast<milliseconds>(now_ - since).count();
  };
  nlohmann::json out{{"state", std::string{to_string(tunnel_.state())}},
                     {"why", why_},
                     {"since_ms", ms(state_since_)},
                     {"generation", tunnel_.live()},
                     {"standby", tunnel_.standby()},
                     {"to", settings_.to.text()},
                     {"server", server_},
                     {"listen", settings_.listen.text()},
                     {"listening", local_.is_listening()},
                     {"target", settings_.target.text()},
                     {"round_trip_ms", tunnel_.round_trip_ms().value_or(0)},
                     {"probe_deadline_ms", tunnel_.probe_deadline().count()},
                     {"probe_interval_ms", tunnel_.probe_interval().count()},
                     {"connections", forward_.size()},
                     {"held", forward_.held()},
                     {"buffered_bytes", forward_.buffered_bytes()},
                     {"dials", tunnel_.dials()},
                     {"dials_under_way", tunnel_.dials_under_way()},
                     {"ups", ups_},
                     {"lost", lost_},
                     {"stale_inputs", tunnel_.stale_inputs()},
                     {"leaked_channels", forward_.leaked_channels()},
                     {"exec",
                      {{"places_used", exec_.used()},
                       {"places", exec_.limit()},
                       {"waiting", exec_.waiting()},
                       {"to_kill", exec_.leftovers()}}},
                     {"last_failure", last_failure_}};
  if (!listen_problem_.empty()) out["listen_problem"] = listen_problem_;
  auto& reverse = out["reverse"] = nlohmann::json::array();
  for (std::size_t i = 0; i < reverse_.size(); ++i)
    reverse.push_back({{"listen", settings_.reverse[i].listen.text()},
                       {"target", settings_.reverse[i].target.text()},
                       {"state", reverse_[i]}});
  return out;
}

}  // namespace ntrace::tunnel
