#pragma once
// The brokers that `ntrace bench push` measures: how each is started on a folder of its own, and
// how a client asks it to keep one item durably.
#include <memory>
#include <string>
#include <vector>

#include "config/file.hpp"
#include "config/result.hpp"

namespace ntrace::bench {

/// A client's side of one connection; all of them ask the same thing: keep this item.
class speaker {
public:
  virtual ~speaker() = default;
  /// What has to be said before the first request. Blocks; the descriptor is a blocking one.
  virtual result<void> greet(int) { return {}; }
  /// The request to keep item `n`, as bytes.
  virtual std::string request(std::uint64_t n) = 0;
  /// Takes complete answers off the front of `heard`, and gives their count. An answer that is not
  /// "kept" is an error.
  virtual result<unsigned> answers(std::string& heard) = 0;
};

struct broker_spec {
  std::string name;
  std::string note;  ///< How it is set to be durable.
  std::vector<std::string> argv, env;
  std::vector<std::string> helper;  ///< Another program that it needs, started before it.
  std::string prepare;              ///< A request that is made once, before all others.
  std::uint16_t port = 0;
  std::unique_ptr<speaker> (*speak)() = nullptr;
};

/// Of the peers, those that are installed; names of those that are not are added to `missing`.
/// `dir`: where each keeps its data, on the disk that is measured.
result<std::vector<broker_spec>> push_brokers(const std::string& dir, bool with_peers,
                                              std::vector<std::string>& missing);

/// A process that was started, gone with the object.
class started_broker {
public:
  static result<std::unique_ptr<started_broker>> start(const broker_spec& spec,
                                                       const std::string& log);
  ~started_broker();
  started_broker(const started_broker&) = delete;
  started_broker& operator=(const started_broker&) = delete;

private:
  started_broker() = default;
  std::vector<int> pids_;
};

}  // namespace ntrace::bench
