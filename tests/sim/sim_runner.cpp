#include "tests/sim/sim_runner.hpp"

namespace ntrace::sim {

using namespace runner;
using nlohmann::json;
using supervision::child_spec;

namespace {

constexpr supervision::supervisor_flags role{supervision::strategy::rest_for_one, 4,
                                             milliseconds{5000}};
constexpr supervision::supervisor_flags dynamic{supervision::strategy::simple_one_for_one, 20,
                                                milliseconds{60'000}};

/// As in tools/wire.cpp, without the port for people.
std::vector<child_spec> children() {
  std::vector<child_spec> out;
  for (const auto* id : {"outbox", "zone_sup", "runner", "attempt_sup", "tunnel", "link"}) {
    child_spec c;
    c.id = id;
    if (c.id.ends_with("_sup")) {
      c.kind = supervision::child_kind::supervisor;
      c.shutdown = supervision::shutdown_policy::infinity();
    }
    c.backoff = {milliseconds{50}, milliseconds{1000}, 2, 0, milliseconds{5000}};
    out.push_back(std::move(c));
  }
  return out;
}

/// A request to the link fails before the link's longest backoff is over.
supervision::facade_options impatient() {
  supervision::facade_options out;
  out.wait_max = milliseconds{150};
  return out;
}

child_spec template_of(const char* id, supervision::restart_type restart) {
  child_spec out;
  out.id = id;
  out.restart = restart;
  return out;
}

std::uint64_t token_of(const std::string& child) {
  return std::stoull(child.substr(child.find('_') + 1));
}
std::string worker_of(const std::string& child) { return child.substr(child.find('_') + 1); }

}  // namespace

sim_runner::sim_runner(world& w, network& net, sim_sshd& sshd, unsigned index, unsigned workers,
                       milliseconds script_max)
    : process{w},
      net_{net},
      index_{index},
      workers_{workers},
      script_us_max_{static_cast<std::uint64_t>(script_max.count()) * 1000},
      random_{w.random.next()},
      tree_{*this,
            w,
            "runner",
            role,
            {},
            {[this](const std::string& child) { bring_up(child); },
             [this](const std::string& child, const std::function<void()>& done) {
               take_down(child, done);
             },
             [this](const std::string& child) { return front_of(child); },
             [this] { crash(milliseconds{500}); }}},
      zone_sup_{*this,
                w,
                "zone_sup",
                dynamic,
                template_of("zone", supervision::restart_type::permanent),
                {[this](const std::string& child) { zones_[worker_of(child)]; },
                 [this](const std::string& child, const std::function<void()>& done) {
                   const auto gone = zones_.extract(worker_of(child));
                   if (gone && gone.mapped().token != 0)
                     world_.note(about(fact_kind::zone_ended, gone.mapped().token, gone.key()));
                   done();
                 },
                 [this](const std::string& child) { return to_zones_.at(child).get(); },
                 [this] {
                   tree_.die("zone_sup", {supervision::exit_kind::failed, "gave up"});
                 }}},
      attempt_sup_{*this,
                   w,
                   "attempt_sup",
                   dynamic,
                   template_of("attempt", supervision::restart_type::temporary),
                   {[this](const std::string& child) { bring_up_attempt(token_of(child)); },
                    [this](const std::string& child, const std::function<void()>& done) {
                      end_attempt(token_of(child));
                      done();
                    },
                    [](const std::string&) { return nullptr; }, [] {}}},
      to_outbox_{*this, w},
      to_runner_{*this, w},
      to_zone_sup_{*this, w},
      to_attempt_sup_{*this, w},
      to_link_{*this, w, impatient()},
      tunnel_{*this, w, net, sshd, index},
      link_{*this, w, net, to_runner_, [this]() -> stream_ptr {
              if (!tunnel_.is_listening()) return nullptr;
              auto out = net_.connect(network::local);
              out->caller.of = out->server.of = this;
              tunnel_.accept(out);
              return out;
            }} {
  supervision::facade_options once;
  once.resend = false;
  for (unsigned i = 0; i < workers_; ++i)
    to_zones_["zone_z" + std::to_string(i)] = std::make_unique<sim_facade>(*this, w, once);
  link_.give_hello = [this](const reply& answer) {
    runner_->on_link_lost();
    to_outbox_.tell([this] { outbox_->on_link_lost(); });
    if (is_ready_) return answer(rpc::to_json(runner_->state(now())));
    asked_for_hello_.push_back(answer);
  };
  link_.take_up = [this](const rpc::hello_answer& hello) {
    to_outbox_.tell([this] { perform(outbox_->on_link_up()); });
    perform(runner_->on_link_up(now(), hello.heartbeat, hello.lease));
  };
  link_.take_lost = [this] {
    runner_->on_link_lost();
    to_outbox_.tell([this] { outbox_->on_link_lost(); });
  };
  link_.serve = [this](const std::string& method, const json& args, const reply& answer) {
    serve(method, args, answer);
  };
}

fact sim_runner::about(fact_kind kind, std::uint64_t token, const std::string& worker) const {
  fact f;
  f.kind = kind;
  f.who = name();
  f.token = token;
  if (!worker.empty()) f.zone = name() + "/" + worker;
  return f;
}

sim_facade* sim_runner::front_of(const std::string& child) {
  return child == "outbox"        ? &to_outbox_
         : child == "runner"      ? &to_runner_
         : child == "zone_sup"    ? &to_zone_sup_
         : child == "attempt_sup" ? &to_attempt_sup_
         : child == "link"        ? &to_link_
                                  : nullptr;
}

void sim_runner::start() {
  is_alive_ = true;
  ++life_;
  for (auto* front : {&to_outbox_, &to_runner_, &to_zone_sup_, &to_attempt_sup_, &to_link_})
    front->restart();
  for (auto& [id, front] : to_zones_) front->restart();
  tree_.start(children());
}

void sim_runner::crash(milliseconds wait) {
  if (!is_alive_) return;
  die();
  for (auto* sup : {&tree_, &zone_sup_, &attempt_sup_}) sup->forget();
  link_.stop();
  tunnel_.stop();
  runner_.reset();
  outbox_.reset();
  if (!outbox_writing_.empty() && random_.below(2) == 0) outbox_disk_.write(outbox_writing_);
  outbox_writing_.clear();
  attempts_.clear();
  zones_.clear();
  leases_.clear();
  fact f;
  f.kind = fact_kind::crashed;
  f.who = name();
  world_.note(f);
  world_.after(wait, [this] { start(); });
}

void sim_runner::bring_up(const std::string& child) {
  if (child == "outbox")
    bring_up_outbox();
  else if (child == "runner")
    bring_up_runner();
  else if (child == "zone_sup")
    zone_sup_.start({});
  else if (child == "attempt_sup")
    attempt_sup_.start({});
  else if (child == "tunnel")
    tunnel_.start();
  else
    link_.start();
}

void sim_runner::take_down(const std::string& child, const std::function<void()>& done) {
  if (child == "zone_sup") return zone_sup_.stop(done);
  if (child == "attempt_sup") return attempt_sup_.stop(done);
  if (child == "outbox")
    outbox_.reset();
  else if (child == "runner")
    runner_.reset();
  else if (child == "tunnel")
    tunnel_.stop();
  else
    link_.stop();
  done();
}

std::size_t sim_runner::overdue() const {
  std::size_t out = tunnel_.held();
  for (const auto* front : {&to_outbox_, &to_runner_, &to_zone_sup_, &to_attempt_sup_, &to_link_})
    out += front->overdue();
  for (const auto& [id, front] : to_zones_) out += front->overdue();
  return out;
}

void sim_runner::kill_actor(unsigned which) {
  if (!is_alive_) return;
  const supervision::exit_reason why{supervision::exit_kind::failed, "std::runtime_error: as told"};
  std::vector<std::pair<sim_supervisor*, std::string>> all;
  for (const auto* id : {"outbox", "runner", "tunnel", "link"})
    if (tree_.is_up(id)) all.emplace_back(&tree_, id);
  for (const auto& id : zone_sup_.running()) all.emplace_back(&zone_sup_, id);
  if (all.empty()) return;
  const auto& [by, id] = all[which % all.size()];
  world_.met("runner.kill_" + id.substr(0, id.find('_')));
  by->die(id, why);
}

}  // namespace ntrace::sim
