#pragma once
// The files of an sshd of one's own in a folder: host key, client key, authorized_keys, config.
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config/file.hpp"
#include "net/known_hosts.hpp"
#include "net/ssh_keygen.hpp"
#include "net/ssh_session.hpp"

namespace ntrace::test {

struct sshd_setup {
  std::string folder;
  int port = 0;
  host_port target;         ///< What the client's key may reach.
  std::string config = {};  ///< More of sshd_config(5).
  std::vector<net::reverse_forward> reverse = {};
  net::public_key client = {};
  std::string address = "127.0.0.1";

  static std::string user() { return ::getpwuid(::geteuid())->pw_name; }
  std::string url() const { return "ssh://" + user() + "@" + address + ":" + std::to_string(port); }
  std::string key_file() const { return folder + "/key"; }
  std::string known_hosts_file() const { return folder + "/known_hosts"; }
  std::vector<std::string> argv() const {
    return {"/usr/sbin/sshd", "-D", "-e", "-f", folder + "/config"};
  }

  result<void> make_keys() {
    if (auto made = make_folders(folder); !made) return made;
    if (auto host = net::write_new_key(folder + "/host_key", "host"); !host)
      return fail(host.error());
    auto made = net::write_new_key(key_file(), "runner");
    if (!made) return fail(made.error());
    client = *made;
    if (auto allowed = allow_key(); !allowed) return allowed;
    return pin();
  }
  result<void> allow_key() const {
    return write_file_durably(folder + "/authorized_keys",
                              net::authorized_line(client, target, reverse) + "\n", 0600);
  }
  result<void> forbid_key() const {
    return write_file_durably(folder + "/authorized_keys", "", 0600);
  }
  /// The host key as it is now into known_hosts, alone.
  result<void> pin() const {
    ::unlink(known_hosts_file().c_str());
    const auto key = net::read_private_key(folder + "/host_key");
    if (!key) return fail(key.error());
    return net::trust_host_key(known_hosts_file(), {address, static_cast<std::uint16_t>(port)},
                               key->shown);
  }
  result<void> write_config() const {
    ::mkdir("/run/sshd", 0755);  // sshd insists on it.
    return write_file_durably(
        folder + "/config",
        "Port " + std::to_string(port) + "\nListenAddress " + address + "\nHostKey " + folder +
            "/host_key\nPidFile none\nAuthorizedKeysFile " + folder +
            "/authorized_keys\nStrictModes no\nUsePAM no\nPermitRootLogin prohibit-password\n"
            "PasswordAuthentication no\nLogLevel VERBOSE\n" +
            config + "\n");
  }
};

}  // namespace ntrace::test
