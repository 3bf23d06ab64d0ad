// provision dispatcher-user: on the dispatcher's machine, a user whose keys can reach the
// dispatcher's port and nothing else.
#include <fmt/core.h>
#include <pwd.h>
#include <unistd.h>

#include <filesystem>
#include <iostream>
#include <sstream>

#include "actors/tunnel/tunnel_settings.hpp"
#include "config/base64.hpp"
#include "config/file.hpp"
#include "config/subprocess.hpp"
#include "tools/command.hpp"

namespace ntrace::tools {
namespace {

struct provision_args {
  std::string user = "ntrace-tunnel", key, key_file, permit{dispatcher_address};
  std::vector<std::string> permit_listen;
  std::string keys_folder = "/etc/ssh/ntrace", sshd_config = "/etc/ssh/sshd_config.d/ntrace.conf";
  bool print_only = false, as_json = false;
};

/// The addresses on which the lines of all runners' keys let them listen. A key without
/// permitlisten may listen on all that the server allows, so the server must allow no more than
/// these.
std::string permitted_listens(const std::string& keys) {
  constexpr std::string_view option = "permitlisten=\"";
  std::string out;
  for (auto at = keys.find(option); at != keys.npos; at = keys.find(option, at)) {
    at += option.size();
    const auto one = " " + keys.substr(at, keys.find('"', at) - at);
    if ((out + " ").find(one + " ") == out.npos) out += one;
  }
  return out;
}

/// sshd_config(5) for the user: its keys where it cannot change them, forwarding and nothing else,
/// and a dead runner's session ended soon, since it holds the ports of reverse forwarding.
std::string sshd_text(const provision_args& a, const std::string& keys) {
  const auto listens = permitted_listens(keys);
  return fmt::format(
      "# Written by `ntrace provision dispatcher-user`.\n"
      "Match User {}\n"
      "  AuthorizedKeysFile {}/{}.keys\n"
      "  AuthenticationMethods publickey\n"
      "  AllowTcpForwarding {}\n"
      "  PermitOpen {}\n"
      "  PermitListen{}\n"
      "  PermitTTY no\n"
      "  X11Forwarding no\n"
      "  AllowAgentForwarding no\n"
      "  AllowStreamLocalForwarding no\n"
      "  PermitTunnel no\n"
      "  ForceCommand /bin/false\n"
      "  ClientAliveInterval 5\n"
      "  ClientAliveCountMax 3\n",
      a.user, a.keys_folder, a.user, listens.empty() ? "local" : "yes", a.permit,
      listens.empty() ? " none" : listens);
}

result<net::public_key> read_public_key(const provision_args& a) {
  auto text = a.key;
  if (text.empty()) {
    auto file = read_file(a.key_file, 65'536);
    if (!file) return fail(file.error());
    text = *file;
  }
  std::istringstream in{text};
  std::string type, digits;
  in >> type >> digits;
  const auto blob = from_base64(digits);
  const auto key = blob ? net::parse_key_blob(*blob) : std::nullopt;
  if (!key || key->type != type)
    return fail(ec::bad_key,
                "\"" + text.substr(0, 80) +
                    "\" is no public key; give the line of the runner's `ntrace tunnel "
                    "keygen`: TYPE BASE64");
  return *key;
}

result<bool> add_user(const std::string& name) {
  if (::getpwnam(name.c_str()) != nullptr) return false;
  subprocess_spec command;
  command.argv = {"/usr/sbin/useradd", "--system", "--no-create-home",  "--home-dir",
                  "/nonexistent",      "--shell",  "/usr/sbin/nologin", "--comment",
                  "ntrace tunnels",    name};
  const auto made = run_subprocess(command);
  if (!made) return fail(made.error());
  if (!made->ok())
    return fail(ec::io, fmt::format("useradd {} failed: {}", name, made->err.substr(0, 300)));
  return true;
}

/// Adds the key's line, or replaces the line of the same key. True when something changed.
result<bool> add_key(const std::string& path, const net::public_key& key, const std::string& line) {
  std::string text;
  bool is_there = false;
  if (std::filesystem::exists(path)) {
    const auto before = read_file(path, 1u << 20);
    if (!before) return fail(before.error());
    std::istringstream in{*before};
    for (std::string held; std::getline(in, held);) {
      if (held.find(to_base64(key.blob)) == std::string::npos)
        text += held + "\n";
      else
        is_there = held == line;
    }
    if (is_there) return false;
  }
  text += line + "\n";
  if (auto done = write_file_durably(path, text, 0644); !done) return fail(done.error());
  return true;
}

int dispatcher_user(const provision_args& a) {
  const auto fail_with = [&](const error& e) { return report(e, a.as_json); };
  if (a.key.empty() && a.key_file.empty())
    return fail_with(
        {ec::bad_config, "whose key? --key \"TYPE BASE64\" or --key-file FILE.pub", {}});
  const auto key = read_public_key(a);
  if (!key) return fail_with(key.error());
  const auto permit = parse_host_port(a.permit);
  if (!permit || permit->port == 0)
    return fail_with({ec::bad_config, "--permit " + a.permit + " is not HOST:PORT", {}});
  std::vector<net::reverse_forward> reverse;
  for (const auto& text : a.permit_listen) {
    const auto at = parse_host_port(text);
    if (!at || at->port == 0)
      return fail_with({ec::bad_config, "--permit-listen " + text + " is not HOST:PORT", {}});
    reverse.push_back({*at, *at});
  }
  const auto line = net::authorized_line(*key, *permit, reverse);
  const auto keys = fmt::format("{}/{}.keys", a.keys_folder, a.user);
  if (a.print_only) {
    std::cout << "# as root:\nuseradd --system --no-create-home --home-dir /nonexistent --shell "
                 "/usr/sbin/nologin "
              << a.user << "\n\n# a line of " << keys << " (owner root, mode 0644):\n"
              << line << "\n\n# " << a.sshd_config << ":\n"
              << sshd_text(a, line) << "\n# then: sshd -t && systemctl reload ssh\n";
    return 0;
  }
  if (::geteuid() != 0)
    return fail_with(
        {ec::io, "only root can do this; --print shows the steps without doing them", {}});
  const auto user = add_user(a.user);
  if (!user) return fail_with(user.error());
  if (auto made = make_folders(a.keys_folder, 0755); !made) return fail_with(made.error());
  const auto added = add_key(keys, *key, line);
  if (!added) return fail_with(added.error());
  const auto all = read_file(keys, 1u << 20);
  if (!all) return fail_with(all.error());
  if (auto done = write_file_durably(a.sshd_config, sshd_text(a, *all), 0644); !done)
    return fail_with(done.error());
  if (a.as_json)
    std::cout << json{{"user", a.user},
                      {"user_made", *user},
                      {"keys", keys},
                      {"key_added", *added},
                      {"fingerprint", net::fingerprint(*key)},
                      {"sshd_config", a.sshd_config}}
                     .dump()
              << "\n";
  else
    std::cout << "user " << a.user << (*user ? " made" : " was there") << "\nkey "
              << net::fingerprint(*key) << (*added ? " added to " : " was in ") << keys
              << "\nwrote " << a.sshd_config
              << "\nNow check and reload the server: sshd -t && systemctl reload ssh\n";
  return 0;
}

}  // namespace

void add_provision(cli::app app, outcome& out) {
  const auto group = app.add_subcommand("provision", "Sets a machine up for ntrace");
  group.require_subcommand(1);
  const auto sub = group.add_subcommand("dispatcher-user",
                                        "On the dispatcher's machine: a user whose keys reach the "
                                        "dispatcher's port and nothing else");
  auto a = std::make_shared<provision_args>();
  sub.add_option("--key", a->key, "a runner's public key, \"TYPE BASE64\"").type_name("KEY");
  sub.add_option("--key-file", a->key_file, "or the file that holds it").type_name("FILE");
  sub.add_option("--user", a->user, "the user's name").type_name("USER").capture_default_str();
  sub.add_option("--permit", a->permit, "what runners may reach")
      .type_name("ADDRESS")
      .capture_default_str();
  sub.add_option("--permit-listen", a->permit_listen, "HOST:PORT that this runner may listen on")
      .type_name("ADDRESS");
  sub.add_option("--keys-folder", a->keys_folder, "where the users' keys are kept")
      .type_name("DIR")
      .capture_default_str();
  sub.add_option("--sshd-config", a->sshd_config, "the file for sshd's part")
      .type_name("FILE")
      .capture_default_str();
  sub.add_flag("--print", a->print_only, "print the steps, do nothing");
  sub.add_flag("--json", a->as_json, "print JSON");
  sub.callback([&out, a] { out.run = [a] { return dispatcher_user(*a); }; });
}

}  // namespace ntrace::tools
