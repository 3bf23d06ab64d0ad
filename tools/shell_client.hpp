#pragma once
// A connection to a remote shell, and its answers for people.
#include <caf/actor.hpp>
#include <caf/actor_system.hpp>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "config/host_port.hpp"
#include "supervision/caf_config.hpp"

namespace ntrace::tools {

/// The shell's own PEM files; all empty for a server without certificates.
struct shell_credentials {
  std::string cert_file, key_file, ca_file;
};

class shell_client {
public:
  /// Connects and says hello. ec::unreachable, also when the server does not take the certificate;
  /// ec::bad_config for files that are missing; ec::version_mismatch.
  static result<std::unique_ptr<shell_client>> connect(const host_port& at,
                                                       const shell_credentials& own);
  /// The server's answer: the value, or its error. ec::connection_lost.
  result<nlohmann::json> call(const std::string& command, const std::vector<std::string>& args);
  /// The server's answer to hello: program, role, commands.
  const nlohmann::json& hello() const { return hello_; }

private:
  struct config : supervision::caf_config {
    explicit config(const shell_credentials& own);
  };
  explicit shell_client(const shell_credentials& own) : config_{own}, system_{config_} {}

  config config_;
  caf::actor_system system_;
  caf::actor server_;
  nlohmann::json hello_;
};

/// Any answer for a terminal: a tree as one, a list of objects as a table, an object as lines of
/// names and values. Fields that this program does not know are shown like the others.
std::string show_answer(const nlohmann::json& value);

}  // namespace ntrace::tools
