#pragma once
// A method of a port that is served past the actor behind it.
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "config/result.hpp"

namespace ntrace::net {
class task_queue;
}

namespace ntrace::rpc {

/// A method that is served on the listener's thread itself, without a message for each call: for
/// what is asked most. Called there only; nothing may block.
class port_method {
public:
  /// The value as JSON text.
  using reply = std::function<void(const result<std::string>&)>;
  virtual ~port_method() = default;
  /// `then` is called on the listener's thread, once, at any time.
  virtual void on_call(const nlohmann::json& args, reply then) = 0;
  /// All calls that came together were given.
  virtual void on_round() = 0;
};
/// A method's name and how to make it; `tasks`: of the listener's thread.
struct port_method_spec {
  std::string name;
  std::function<std::unique_ptr<port_method>(const std::shared_ptr<net::task_queue>& tasks)> make;
};

}  // namespace ntrace::rpc
