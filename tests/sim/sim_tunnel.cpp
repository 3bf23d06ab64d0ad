#include "tests/sim/sim_tunnel.hpp"

#include "config/overload.hpp"

namespace ntrace::sim {

using namespace tunnel;

namespace {

constexpr milliseconds dial_deadline{10'000};

tunnel_options options() {
  tunnel_options out;
  out.probe_idle_interval = milliseconds{4000};  // Few events in quiet minutes.
  out.suspect_grace = milliseconds{10'000};
  out.parked_retry = milliseconds{5000};
  out.drain_deadline = milliseconds{3000};
  return out;
}

}  // namespace

void sim_sshd::say(const session& s, frame::kind what, std::uint64_t channel, std::string data) {
  net_.send(s.to_runner, false, {what, channel, std::move(data)});
}

void sim_sshd::accept(const stream_ptr& s) {
  const auto number = s->number;
  sessions_[number].to_runner = s;
  const auto thawed = [this](std::function<void()> what) {
    if (world_.now() >= frozen_until_) return what();
    world_.after(frozen_until_ - world_.now(), std::move(what));
  };
  s->server.on_frame = [this, number, thawed](const frame& f) {
    thawed([this, number, f] { on_frame(number, f); });
  };
  s->server.on_broken = [this, number] { end(number); };
  world_.after_between(100, 3000, [this, number, thawed] {
    thawed([this, number] {
      if (const auto at = sessions_.find(number); at != sessions_.end())
        say(at->second, frame::kind::banner);
    });
  });
}

void sim_sshd::on_frame(std::uint64_t number, const frame& f) {
  const auto at = sessions_.find(number);
  if (at == sessions_.end()) return;
  auto& s = at->second;
  const auto channel = s.channels.find(f.channel);
  const bool is_open = channel != s.channels.end();
  switch (f.what) {
    case frame::kind::auth:
      return say(s,
                 world_.now() < refusing_until_ ? frame::kind::auth_refused : frame::kind::auth_ok);
    case frame::kind::probe:
      return say(s, frame::kind::probe_answer);
    case frame::kind::open:
      return open(s, f.channel);
    case frame::kind::bytes:
    case frame::kind::end:
      if (is_open) net_.send(channel->second, true, {f.what, 0, f.data});
      return;
    case frame::kind::close:
      if (is_open) {
        net_.reset(channel->second, true);
        s.channels.erase(channel);
      }
      return say(s, frame::kind::close, f.channel);
    default:
      return;
  }
}

void sim_sshd::open(session& s, std::uint64_t channel) {
  const auto target = net_.connect(network::local);
  const auto number = s.to_runner->number;
  target->caller.on_frame = [this, number, channel](const frame& f) {
    if (const auto at = sessions_.find(number); at != sessions_.end())
      say(at->second, f.what, channel, f.data);
  };
  target->caller.on_broken = [this, number, channel] {
    const auto at = sessions_.find(number);
    if (at != sessions_.end() && at->second.channels.erase(channel) != 0)
      say(at->second, frame::kind::close, channel);
  };
  if (!connect_target(target)) return say(s, frame::kind::refused, channel);
  s.channels[channel] = target;
  say(s, frame::kind::opened, channel);
}

void sim_sshd::end(std::uint64_t number) {
  const auto gone = sessions_.extract(number);
  if (!gone) return;
  for (const auto& [channel, target] : gone.mapped().channels) net_.reset(target, true);
}

void sim_sshd::kill_sessions(unsigned path) {
  std::vector<std::uint64_t> all;
  for (const auto& [number, s] : sessions_)
    if (s.to_runner->path == path) all.push_back(number);
  for (const auto number : all) {
    const auto to_runner = sessions_.at(number).to_runner;
    end(number);
    net_.reset(to_runner, false);
  }
}

std::function<void()> sim_tunnel::still(std::function<void()> what) {
  return [this, epoch = epoch_, what = std::move(what)] {
    if (epoch_ == epoch) what();
  };
}

void sim_tunnel::start() {
  forget();
  fsm_.emplace(options(), world_.random.next());
  perform(fsm_->on_start(process_.now()));
}

void sim_tunnel::drain(milliseconds lasts) {
  if (!fsm_) return;
  rests_for_ = lasts;
  perform(fsm_->on_drain(process_.now()));
}

void sim_tunnel::start_again() {
  process_.after(rests_for_, still([this] { perform(fsm_->on_start(process_.now())); }));
}

void sim_tunnel::stop() {
  for (const auto& [of, s] : sessions_) net_.reset(s, true);
  for (const auto& [of, s] : locals_) net_.reset(s, false);
  forget();
}

void sim_tunnel::forget() {
  ++epoch_;
  fsm_.reset();
  forward_ = forward_fsm{};
  sessions_.clear();
  locals_.clear();
  over_.clear();
  was_outstanding_ = false;
}

void sim_tunnel::accept(const stream_ptr& local) {
  const auto of = next_++;
  locals_[of] = local;
  local->server.on_frame = [this, of](const frame& f) {
    if (f.what == frame::kind::end)
      perform(forward_.on_local_end(process_.now(), of));
    else
      perform(forward_.on_local_bytes(process_.now(), of, f.data));
  };
  local->server.on_broken = [this, of] {
    locals_.erase(of);
    perform(forward_.on_local_broken(process_.now(), of));
  };
  world_.met(fsm_->live() != 0 ? "tunnel.accepted" : "tunnel.held");
  perform(forward_.on_accepted(process_.now(), of));
  if (fsm_->live() == 0) perform(fsm_->on_demand(process_.now()));
}

void sim_tunnel::dial(generation of) {
  if (!net_.can_connect(path_) || !sshd_.is_listening())
    return process_.after_between(1000, 400'000, still([this, of] {
                                    fail_dial(of, dial_failure::transient,
                                              "connect: no answer or refused");
                                  }));
  process_.after_between(100, 5000, still([this, of] { connect(of); }));
}

void sim_tunnel::connect(generation of) {
  const auto s = net_.connect(path_);
  sessions_[of] = s;
  s->caller.of = &process_;
  s->caller.on_frame = [this, of](const frame& f) { on_frame(of, f); };
  s->caller.on_broken = [this, of] {
    sessions_.erase(of);
    perform(fsm_->on_session_lost(process_.now(), of, "the socket ended"));
  };
  sshd_.accept(s);
  process_.after(dial_deadline, still([this, of] {
                   if (fsm_->live() != of && sessions_.count(of) != 0)
                     fail_dial(of, dial_failure::transient, "no session within its deadline");
                 }));
  perform(fsm_->on_connected(process_.now(), of, std::chrono::microseconds{1000}));
}

void sim_tunnel::fail_dial(generation of, dial_failure how, const std::string& reason) {
  drop_session(of);
  world_.met("tunnel.dial_failed");
  perform(fsm_->on_dial_failed(process_.now(), of, how, reason));
}

void sim_tunnel::drop_session(generation of) {
  const auto gone = sessions_.extract(of);
  if (gone) net_.reset(gone.mapped(), true);
}

void sim_tunnel::say(connection_id channel, frame::kind what, std::string data) {
  const auto over = over_.find(channel);
  if (over == over_.end()) return;
  if (const auto at = sessions_.find(over->second); at != sessions_.end())
    net_.send(at->second, true, {what, channel, std::move(data)});
}

void sim_tunnel::on_frame(generation of, const frame& f) {
  const auto now = process_.now();
  perform(fsm_->on_inbound(now, of));
  const auto at = sessions_.find(of);
  if (at == sessions_.end()) return;
  const bool is_ours = over_.count(f.channel) != 0 && over_[f.channel] == of;
  switch (f.what) {
    case frame::kind::banner:
      net_.send(at->second, true, {frame::kind::auth, 0, {}});
      return perform(fsm_->on_banner(now, of));
    case frame::kind::auth_refused:
      return fail_dial(of, dial_failure::refused, "the key is not accepted");
    case frame::kind::auth_ok:
      return perform(fsm_->on_authenticated(now, of));
    case frame::kind::probe_answer:
      return perform(fsm_->on_probe_answered(now, of));
    case frame::kind::opened:
      return is_ours ? perform(forward_.on_opened(now, f.channel)) : void();
    case frame::kind::refused:
      world_.met("tunnel.open_refused");
      return is_ours ? perform(forward_.on_open_refused(now, f.channel, "refused")) : void();
    case frame::kind::bytes:
      return is_ours ? perform(forward_.on_channel_bytes(now, f.channel, f.data)) : void();
    case frame::kind::end:
      return is_ours ? perform(forward_.on_channel_end(now, f.channel)) : void();
    case frame::kind::close:
      if (is_ours) perform(forward_.on_channel_closed(now, f.channel));
      over_.erase(f.channel);
      return;
    default:
      return;
  }
}

void sim_tunnel::perform(const tunnel_effects& todo) {
  for (const auto& one : todo) {
    std::visit(
        overload{[&](const tunnel::dial& e) { dial(e.of); },
                 [&](const abandon& e) { drop_session(e.of); },
                 [&](const probe& e) {
                   if (const auto at = sessions_.find(e.of); at != sessions_.end())
                     net_.send(at->second, true, {frame::kind::probe, 0, {}});
                 },
                 [&](const switch_to& e) { perform(forward_.on_session(process_.now(), e.of)); },
                 [&](const reset_connections& e) {
                   perform(forward_.on_session_lost(process_.now(), e.of));
                 },
                 [&](const wake& e) {
                   process_.at(e.at, still([this] { perform(fsm_->on_tick(process_.now())); }));
                 },
                 [&](const report& e) {
                   if (e.to == tunnel_state::idle) start_again();
                   world_.met("tunnel." + std::string{to_string(e.from)} + ">" +
                              std::string{to_string(e.to)});
                 }},
        one);
  }
}

void sim_tunnel::perform(const forward_effects& todo) {
  const auto now = process_.now();
  for (const auto& one : todo) {
    std::visit(
        overload{[&](const open_channel& e) {
                   over_[e.of] = fsm_->live();
                   say(e.of, frame::kind::open);
                 },
                 [&](const write_channel& e) {
                   say(e.of, frame::kind::bytes, e.data);
                   perform(forward_.on_channel_took(now, e.of, e.data.size()));
                 },
                 [&](const write_local& e) {
                   if (const auto at = locals_.find(e.of); at != locals_.end())
                     net_.send_bytes(at->second, false, e.data);
                   perform(forward_.on_local_took(now, e.of, e.data.size()));
                 },
                 [&](const end_channel& e) { say(e.of, frame::kind::end); },
                 [&](const end_local& e) {
                   if (const auto at = locals_.find(e.of); at != locals_.end())
                     net_.send(at->second, false, {frame::kind::end, 0, {}});
                 },
                 [&](const close_channel& e) { say(e.of, frame::kind::close); },
                 [&](const close_local& e) {
                   world_.met(e.is_reset ? "tunnel.connection_reset" : "tunnel.connection_closed");
                   if (const auto gone = locals_.extract(e.of)) net_.reset(gone.mapped(), false);
                 },
                 [&](const tunnel::look_again& e) {
                   process_.at(e.at, still([this] { perform(forward_.on_tick(process_.now())); }));
                 },
                 [](const auto&) {}},  // Buffers are taken at once: no side is stopped.
        one);
  }
  if (!fsm_) return;
  if (const bool is = forward_.is_outstanding(); is != was_outstanding_) {
    was_outstanding_ = is;
    perform(fsm_->on_outstanding(process_.now(), is));
  }
  perform(fsm_->on_connections(process_.now(), forward_.size()));
}

}  // namespace ntrace::sim
