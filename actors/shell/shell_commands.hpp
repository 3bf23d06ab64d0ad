#pragma once
// What the remote shell can be asked, and by whom: the server's side, without CAF. A shell learns
// all of it from `hello`, so that an older or newer one works as well: docs/protocol.md, "Shell".
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "config/result.hpp"

namespace ntrace::shell {

inline constexpr int protocol_version = 1;
inline constexpr std::size_t answer_bytes_max = 16u << 20;  ///< Of one answer.

/// From the certificate, by who signed it.
enum class role {
  viewer,    ///< Sees.
  operator_  ///< Sees and acts.
};

/// A process, as far as a shell is concerned. Each blocks until it has the answer, or 30 s.
struct faces {
  using ask = std::function<result<nlohmann::json>(std::string_view method, nlohmann::json args)>;
  ask dispatcher{};  ///< By the line protocol's methods; none without that role.
  ask runner{};
  std::function<result<nlohmann::json>()> tree{};  ///< supervision::describe()'s, of the root.
  /// restart, stop, start, kill, throw or hang, of the actor at a path "a/b" below the root.
  std::function<result<void>(std::string_view verb, const std::string& path)> child{};
  /// Notes who does what, before it is done; an error forbids it.
  std::function<result<void>(const nlohmann::json& entry)> audit{};
  bool may_inject = false;  ///< The setting `faults`.
  std::string program{};    ///< Name and version.
};

class commands {
public:
  commands(faces process, role of) : process_{std::move(process)}, role_{of} {}

  /// Of {"versions": [1…], "command", "args": [string…], "by"} the answer: {"version", "value"},
  /// or {"version", "error": {"code", "message"}}. Never throws.
  nlohmann::json answer(const std::string& request) const;

private:
  result<nlohmann::json> run(const nlohmann::json& request) const;
  nlohmann::json hello() const;

  faces process_;
  role role_;
};

}  // namespace ntrace::shell
