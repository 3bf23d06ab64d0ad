// The dispatcher's port: its connections, and the intake that serves `push` there.
#include <cstdio>

#include "actors/rpc/messages/push_messages.hpp"
#include "config/overload.hpp"
#include "tests/sim/sim_dispatcher.hpp"

namespace ntrace::sim {

using namespace dispatcher;
using nlohmann::json;

void sim_dispatcher::take_push(const json& args, reply answer) {
  const auto request = next_request_++;
  pushers_[request] = std::move(answer);
  char id[16];
  std::snprintf(id, sizeof id, "run%05llu", static_cast<unsigned long long>(next_run_++));
  const auto ms = std::chrono::duration_cast<milliseconds>(now().time_since_epoch());
  perform(
      intake_->on_push(now(), request, rpc::parse_push(args), id, ms.count() + wall_offset_ms_));
  // What comes until then is in the same round.
  if (!std::exchange(has_round_, true))
    after_between(0, 2000, tree_.only_for("rpc_server", [this] {
      has_round_ = false;
      perform(intake_->on_round());
    }));
}

void sim_dispatcher::perform(intake_effects todo) {
  for (auto& one : todo)
    std::visit(overload{[&](dispatcher::write_pushes& e) { write_pushes(e); },
                        [&](const answer_push& e) {
                          const auto pusher = pushers_.extract(e.request);
                          if (!pusher) return;
                          if (e.value)
                            pusher.mapped()(json::parse(rpc::to_text(*e.value)));
                          else
                            pusher.mapped()(fail(e.value.error()));
                        }},
               one);
}

void sim_dispatcher::write_pushes(dispatcher::write_pushes& e) {
  const auto size = e.batches.size();
  to_journal_.ask(
      [this, batches = std::move(e.batches)](const reply& answer) { write_all(batches, answer); },
      tree_.only_for("rpc_server", [this, group = e.group, size](const result<json>& said) {
        std::vector<result<journal::committed>> outcomes;
        for (std::size_t i = 0; i < size; ++i)
          outcomes.push_back(committed_from(said ? outcome_in(said->at(i)) : said));
        perform(intake_->on_written(group, outcomes));
      }));
}

bool sim_dispatcher::accept(const stream_ptr& s) {
  if (!is_alive_ || !tree_.is_up("rpc_server")) return false;
  const auto id = next_peer_++;
  peers_[id].to = s;
  s->server.of = this;
  s->server.on_frame = [this, id](const frame& f) {
    const auto at = peers_.find(id);
    if (at == peers_.end()) return;
    perform(id, f.what == frame::kind::end ? at->second.fsm.on_half_close(now())
                                           : at->second.fsm.on_bytes(now(), f.data));
  };
  s->server.on_broken = [this, id] {
    if (const auto at = peers_.find(id); at != peers_.end())
      perform(id, at->second.fsm.on_broken());
  };
  return true;
}

void sim_dispatcher::notify(std::uint64_t id, const std::string& method, const json& args) {
  if (const auto at = peers_.find(id); at != peers_.end())
    perform(id, at->second.fsm.on_notify(now(), method, args));
}

void sim_dispatcher::perform(std::uint64_t id, net::peer_effects todo) {
  const auto with_peer = [this, id](const std::function<net::peer_effects(peer&)>& what) {
    if (const auto at = peers_.find(id); at != peers_.end()) perform(id, what(at->second));
  };
  for (auto& one : todo) {
    std::visit(overload{[&](const net::serve_request& e) {
                          const auto request = e.request;
                          const call c{id, request.method, request.args};
                          const auto answer = [this, with_peer, c,
                                               request](const result<json>& value) {
                            if (c.method == "push") note_answer({c, {}, now()}, value);
                            with_peer([&](peer& p) {
                              return p.fsm.on_answer(now(), request, net::to_text(value));
                            });
                          };
                          if (c.method == "push") return take_push(c.args, answer);
                          to_dispatcher_.ask([this, c](const reply& then) { serve(c, then); },
                                             tree_.only_for("rpc_server", answer));
                        },
                        [&](const net::write_bytes& e) {
                          net_.send_bytes(peers_.at(id).to, false, e.text);
                          after_between(1, 50, [this, with_peer] {
                            with_peer([this](peer& p) { return p.fsm.on_written(now(), 0); });
                          });
                        },
                        [&](const net::peer_is_gone&) {
                          world_.met("peer.gone");
                          to_dispatcher_.tell([this, id] {
                            names_.erase(id);
                            note_gone_early(id, id + 1);
                            if (queue_) perform(queue_->on_session_gone(now(), id));
                          });
                        },
                        [&](const net::close_connection&) {
                          net_.reset(peers_.at(id).to, false);
                          peers_.erase(id);
                        },
                        [](const auto&) {}},
               one);
  }
}

}  // namespace ntrace::sim
