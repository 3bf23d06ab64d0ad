#pragma once
// Streams between runners and the dispatcher: in order, delayed, broken at any moment. Each side
// learns of a break by itself, early or late (half-open).
#include <nlohmann/json.hpp>
#include <set>

#include "config/result.hpp"
#include "tests/sim/world.hpp"

namespace ntrace::sim {

struct message {
  enum class kind { request, reply, notify } what{};
  std::uint64_t id = 0;  ///< Of a request and its reply.
  std::string method;
  nlohmann::json args;
  std::string data;  ///< Of `append`: what production packs into args.
  result<nlohmann::json> value{};
};

/// One connection of one runner; never used again once it is broken.
struct stream {
  std::uint64_t session = 0;
  unsigned runner = 0;
  bool is_cut = false;
  time_point to_dispatcher{}, to_runner{};  ///< Earliest arrival of the next message.
};

class network {
public:
  network(world& w, unsigned runners) : world_{w}, partitioned_until_(runners) {}

  std::function<void(const std::shared_ptr<stream>&, message)> to_dispatcher, to_runner;
  std::function<void(const std::shared_ptr<stream>&)> dispatcher_hears_end, runner_hears_end;

  bool can_connect(unsigned runner) const { return world_.now() >= partitioned_until_[runner]; }
  std::shared_ptr<stream> connect(unsigned runner) {
    auto out = std::make_shared<stream>();
    out->session = next_session_++;
    out->runner = runner;
    streams_.insert(out);
    return out;
  }
  void send(const std::shared_ptr<stream>& s, bool from_runner, message m) {
    auto& arrival = from_runner ? s->to_dispatcher : s->to_runner;
    arrival = std::max({arrival, partitioned_until_[s->runner],
                        world_.now() + std::chrono::microseconds{50 + world_.random.below(3000)}});
    world_.after(arrival - world_.now(), [this, s, from_runner, m = std::move(m)] {
      if (!s->is_cut) (from_runner ? to_dispatcher : to_runner)(s, m);
    });
  }
  /// What is under way is lost; `late`: the longest time until a side learns of it.
  void cut(const std::shared_ptr<stream>& s, milliseconds late) {
    if (std::exchange(s->is_cut, true)) return;
    streams_.erase(s);
    const auto longest = static_cast<std::uint64_t>(late.count()) * 1000;
    world_.after_between(0, longest, [this, s] { dispatcher_hears_end(s); });
    world_.after_between(0, longest, [this, s] { runner_hears_end(s); });
  }
  void cut_all(unsigned runner, milliseconds late) {
    const auto all = streams_;
    for (const auto& s : all)
      if (s->runner == runner) cut(s, late);
  }
  void cut_everything() {
    const auto all = streams_;
    for (const auto& s : all) cut(s, milliseconds{5});
  }
  void partition(unsigned runner, milliseconds lasts) {
    partitioned_until_[runner] = std::max(partitioned_until_[runner], world_.now() + lasts);
  }

private:
  struct by_session {
    bool operator()(const std::shared_ptr<stream>& a, const std::shared_ptr<stream>& b) const {
      return a->session < b->session;
    }
  };
  world& world_;
  std::vector<time_point> partitioned_until_;
  std::set<std::shared_ptr<stream>, by_session> streams_;
  std::uint64_t next_session_ = 1;
};

}  // namespace ntrace::sim
