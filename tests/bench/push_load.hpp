#pragma once
// The clients of `ntrace bench push`: the same loop for every broker.
#include "config/clock.hpp"
#include "config/file.hpp"
#include "tests/bench/bench.hpp"
#include "tests/bench/push_peers.hpp"

namespace ntrace::bench {

/// What the clients of a broker got out of it.
struct load_figures {
  double per_second = 0;
  sample latency;  ///< Of each request, from its sending to its answer.
};

/// Before what is measured.
inline constexpr milliseconds warm_up{200};

/// `clients` connections to a broker, each with one request under way at a time. Between two slices
/// nothing is under way, so that several brokers can be measured by turns.
class broker_load {
public:
  static result<broker_load> start(const broker_spec& to, unsigned clients);
  /// Blocks for a warm-up and then `time`. An answer that refuses an item is an error.
  result<void> run_slice(milliseconds time);
  /// Of all slices.
  load_figures figures() const;

private:
  struct client {
    unique_fd fd;
    std::unique_ptr<speaker> speaks;
    std::string heard{};
    time_point asked_at{};
  };
  bool ask(client& c);
  /// Takes answers; false for a client whose request is still under way.
  result<bool> hear_answer(client& c, time_point count_from);

  std::string name_;
  std::vector<client> clients_;
  unique_fd ready_;
  std::uint64_t asked_ = 0;
  std::vector<double> latency_us_;
  std::chrono::duration<double> measured_{};
};

inline constexpr std::size_t written_bytes = 16 << 20;
/// A file of written_bytes that were written before: a sync of them has no metadata to write, as it
/// has none in a broker's log.
result<unique_fd> written_file(const std::string& path);

/// Durable writes of a page to such a file in `dir`, one after the other: fdatasync calls per
/// second.
result<double> sync_rate(const std::string& dir, milliseconds time);

/// Connects and greets; the request that prepares is made too.
result<void> greet_once(const broker_spec& to);

// On blocking descriptors.
bool say(int fd, std::string_view bytes);
bool hear(int fd, std::string& heard);

inline time_point steady_now() { return std::chrono::steady_clock::now(); }
/// 20 ms: how often a process that is being started or stopped is looked at.
void wait_a_moment();

}  // namespace ntrace::bench
