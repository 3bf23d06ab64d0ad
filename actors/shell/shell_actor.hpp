#pragma once
// The remote shell's server: CAF actors of their own, in systems of their own, so that a peer that
// speaks CAF's protocol can name none of the process's actors.
#include <caf/actor.hpp>
#include <caf/actor_system.hpp>
#include <optional>
#include <string>

#include "config/settings.hpp"

namespace ntrace::shell {

struct shell_options {
  std::optional<host_port> view;        ///< For viewers; without viewer_ca_file only on loopback.
  std::optional<host_port> act;         ///< For operators; needs all four files but viewer_ca_file.
  std::string cert_file{}, key_file{};  ///< This server's, PEM.
  std::string ca_file{};                ///< Who signs operators' certificates.
  std::string viewer_ca_file{};         ///< Who signs viewers'.
  std::string audit_file{};             ///< A line of JSON for each act; bounded, with one before.
  bool may_inject = false;
  std::string program{};
};

/// ec::bad_config for addresses and files that do not go together. Both addresses empty: off.
result<shell_options> shell_options_from(const settings& s);

/// What of the process it speaks for; null without the role.
struct shell_doors {
  caf::actor root, dispatcher, runner;
};

/// Listens. Messages: ("port") → the viewers' port, the operators'; 0 where there is none.
/// ec::unreachable when a port is taken.
result<caf::actor> spawn_shell(caf::actor_system& system, const shell_options& options,
                               const shell_doors& doors);

}  // namespace ntrace::shell
