#pragma once
// Streams between processes, as TCP gives them: in order, delayed, cut into other pieces, ended on
// one side, broken at any moment. Each side learns of a break by itself, early or late (half-open).
#include <memory>
#include <set>

#include "tests/sim/world.hpp"

namespace ntrace::sim {

/// A piece of a stream: plain bytes, or what an SSH session carries for one channel.
struct frame {
  enum class kind {
    bytes,
    end,
    banner,
    auth,
    auth_ok,
    auth_refused,
    probe,
    probe_answer,
    open,
    opened,
    refused,
    close
  };
  kind what = kind::bytes;
  std::uint64_t channel = 0;
  std::string data;
};

struct stream {
  struct side {
    std::function<void(const frame&)> on_frame;
    std::function<void()> on_broken;
    time_point arrival{};   ///< Earliest arrival of the next frame here.
    process* of = nullptr;  ///< Which hears nothing while it is stopped.
  };
  std::uint64_t number = 0;
  unsigned path = 0;
  bool is_cut = false;
  side caller, server;
};
using stream_ptr = std::shared_ptr<stream>;

class network {
public:
  /// Paths 0 … faulty_paths - 1 may be partitioned; `local` is a machine's own loopback.
  static constexpr unsigned local = ~0u;

  network(world& w, unsigned faulty_paths) : world_{w}, partitioned_until_(faulty_paths) {}

  bool can_connect(unsigned path) const { return world_.now() >= free_at(path); }
  stream_ptr connect(unsigned path) {
    auto out = std::make_shared<stream>();
    out->number = next_++;
    out->path = path;
    if (path != local) streams_.insert(out);
    return out;
  }
  void send(const stream_ptr& s, bool by_caller, frame f) {
    if (s->is_cut) return;
    if (f.what == frame::kind::bytes && f.data.size() > 1 && world_.random.below(8) == 0) {
      const auto at = 1 + world_.random.below(f.data.size() - 1);
      deliver(s, by_caller, {f.what, f.channel, f.data.substr(0, at)});
      f.data.erase(0, at);
    }
    deliver(s, by_caller, std::move(f));
  }
  void send_bytes(const stream_ptr& s, bool by_caller, std::string data) {
    send(s, by_caller, {frame::kind::bytes, 0, std::move(data)});
  }
  /// One side breaks the stream off; the other hears it after what was sent before.
  void reset(const stream_ptr& s, bool by_caller) {
    (by_caller ? s->caller
               : s->server) = {};  // Who breaks it off hears no more, whoever was first.
    if (s->is_cut) return;
    forget(s);
    auto& to = by_caller ? s->server : s->caller;
    const auto at = arrival(s, to);
    s->is_cut = true;
    world_.after(at - world_.now(), [s, by_caller] { hear_end(s, !by_caller); });
  }
  /// What is under way is lost; `late`: the longest time until a side learns of it.
  void cut(const stream_ptr& s, milliseconds late) {
    if (std::exchange(s->is_cut, true)) return;
    forget(s);
    const auto longest = static_cast<std::uint64_t>(late.count()) * 1000;
    world_.after_between(0, longest, [s] { hear_end(s, false); });
    world_.after_between(0, longest, [s] { hear_end(s, true); });
  }
  void cut_path(unsigned path, milliseconds late) {
    const auto all = streams_;
    for (const auto& s : all)
      if (s->path == path) cut(s, late);
  }
  void partition(unsigned path, milliseconds lasts) {
    partitioned_until_[path] = std::max(partitioned_until_[path], world_.now() + lasts);
  }

private:
  struct by_number {
    bool operator()(const stream_ptr& a, const stream_ptr& b) const {
      return a->number < b->number;
    }
  };
  static void when_running(const stream::side& side, std::function<void()> what) {
    side.of != nullptr ? side.of->when_running(std::move(what)) : what();
  }
  static void hear_end(const stream_ptr& s, bool is_caller) {
    when_running(is_caller ? s->caller : s->server, [s, is_caller] {
      const auto what = std::exchange(is_caller ? s->caller : s->server, {}).on_broken;
      if (what) what();
    });
  }
  time_point free_at(unsigned path) const {
    return path < partitioned_until_.size() ? partitioned_until_[path] : time_point{};
  }
  time_point arrival(const stream_ptr& s, stream::side& to) {
    const auto delay =
        s->path == local ? 1 + world_.random.below(50) : 50 + world_.random.below(3000);
    to.arrival =
        std::max({to.arrival, free_at(s->path), world_.now() + std::chrono::microseconds{delay}});
    return to.arrival;
  }
  void deliver(const stream_ptr& s, bool by_caller, frame f) {
    const auto at = arrival(s, by_caller ? s->server : s->caller);
    world_.after(at - world_.now(), [s, by_caller, f = std::move(f)] {
      when_running(by_caller ? s->server : s->caller, [s, by_caller, f] {
        // A copy: what it does may break this very stream off.
        const auto what = (by_caller ? s->server : s->caller).on_frame;
        if (!s->is_cut && what) what(f);
      });
    });
  }
  void forget(const stream_ptr& s) { streams_.erase(s); }

  world& world_;
  std::vector<time_point> partitioned_until_;
  std::set<stream_ptr, by_number> streams_;
  std::uint64_t next_ = 1;
};

}  // namespace ntrace::sim
