// What `ntrace tunnel test` says of keys, servers and settings with which no tunnel comes up, and
// that the commands which it names help.
#include <thread>

#include "net/tcp_connector.hpp"
#include "tests/support/real_sshd.hpp"

using namespace ntrace;
using namespace ntrace::test;
using namespace std::chrono_literals;

namespace {

host_port at_free_port() { return {"127.0.0.1", static_cast<std::uint16_t>(free_port())}; }

void run_tool(std::vector<std::string> argv) {
  subprocess_spec spec;
  spec.argv = std::move(argv);
  const auto done = ok(run_subprocess(spec));
  ASSERT_TRUE(done.ok()) << done.err;
}

/// An sshd, a target that somebody serves, and a pinned host key.
struct advice_world {
  scratch dir;
  host_port target = at_free_port();
  unique_fd listener = ok(net::listen_tcp(target, 8));
  real_sshd sshd;
  std::string known_hosts = {};  ///< Instead of the right one.

  explicit advice_world(const std::string& config = {}) : sshd{dir, target, config} {}
  auto test(const std::string& to, const std::string& key, std::vector<std::string> more = {}) {
    std::vector<std::string> words{"tunnel",
                                   "test",
                                   to,
                                   "--data",
                                   dir / "data",
                                   "--dispatcher",
                                   target.text(),
                                   "--tunnel-key-file",
                                   key,
                                   "--tunnel-known-hosts-file",
                                   known_hosts.empty() ? sshd.known_hosts_file() : known_hosts};
    words.insert(words.end(), more.begin(), more.end());
    return run_ntrace(words);
  }
  std::string make_key(const std::string& name, std::vector<std::string> how) {
    std::vector<std::string> argv{"ssh-keygen", "-q", "-f", dir / name};
    argv.insert(argv.end(), how.begin(), how.end());
    run_tool(argv);
    return dir / name;
  }
};

/// Takes one connection, sends `says` once something came, and closes it.
class other_server {
public:
  explicit other_server(std::string says)
      : says_{std::move(says)}, listener_{ok(net::listen_tcp(at_, 8))}, thread_{[this] {
          run();
        }} {}
  ~other_server() {
    stop_.raise();
    thread_.join();
  }
  std::string url() const { return "ssh://user@" + at_.text(); }

private:
  void run() {
    while (net::wait_ready(listener_.get(), false, std::chrono::hours{1}, &stop_)) {
      const unique_fd fd{::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC)};
      char bytes[4096];
      if (fd && net::wait_ready(fd.get(), false, 5s, &stop_) &&
          ::recv(fd.get(), bytes, sizeof bytes, 0) > 0)
        net::send_all(fd.get(), says_, 5s);
      ::shutdown(fd.get(), SHUT_WR);
      while (::recv(fd.get(), bytes, sizeof bytes, 0) > 0) {
      }
    }
  }
  host_port at_ = at_free_port();
  std::string says_;
  unique_fd listener_;
  cancellation stop_;
  std::thread thread_;
};

bool holds(const std::string& text, const std::string& part) {
  return text.find(part) != text.npos;
}

}  // namespace

TEST(tunnel_advice, refuses_a_key_file_with_an_aead_cipher_and_names_the_command_that_helps) {
  advice_world w;
  const auto passphrase = w.dir.secret("passphrase", "secret\n");
  for (const auto* cipher : {"aes128-gcm@openssh.com", "aes256-gcm@openssh.com",
                             "chacha20-poly1305@openssh.com", "aes256-ctr", "aes256-cbc"}) {
    const auto key = w.make_key(cipher, {"-t", "ed25519", "-N", "secret", "-Z", cipher});
    const auto first = w.test(w.sshd.url(), key, {"--tunnel-passphrase-file", passphrase});
    if (holds(cipher, "gcm") || holds(cipher, "chacha")) {
      EXPECT_EQ(first.exit_code, 2) << cipher << first.err;
      EXPECT_TRUE(holds(first.err, "`ssh-keygen -p -Z aes256-ctr -f " + key + "`")) << first.err;
      run_tool({"ssh-keygen", "-p", "-Z", "aes256-ctr", "-f", key, "-P", "secret", "-N", "secret"});
    }
    w.sshd.client = ok(net::read_private_key(key)).shown;
    ok(w.sshd.allow_key());
    const auto after = w.test(w.sshd.url(), key, {"--tunnel-passphrase-file", passphrase});
    EXPECT_EQ(after.exit_code, 0) << cipher << after.err;
  }
}

TEST(tunnel_advice, takes_keys_of_other_forms_after_the_command_that_it_names) {
  advice_world w;
  for (const auto& [form, passphrase] :
       {std::pair{"PEM", ""}, {"PEM", "secret"}, {"PKCS8", ""}, {"PKCS8", "secret"}}) {
    const auto name = std::string{form} + passphrase;
    const auto key = w.make_key(name, {"-t", "ecdsa", "-m", form, "-N", passphrase});
    const auto first = w.test(w.sshd.url(), key);
    EXPECT_EQ(first.exit_code, 2) << name << first.err;
    EXPECT_TRUE(holds(first.err, "`ssh-keygen -p -f " + key + "`")) << first.err;
    run_tool({"ssh-keygen", "-p", "-f", key, "-P", passphrase, "-N", ""});
    w.sshd.client = ok(net::read_private_key(key)).shown;
    ok(w.sshd.allow_key());
    EXPECT_EQ(w.test(w.sshd.url(), key).exit_code, 0) << name;
    const auto half = w.test(w.sshd.url(), key + ".pub");
    EXPECT_EQ(half.exit_code, 2);
  }
}

TEST(tunnel_advice, never_waits_for_a_key_or_list_that_is_no_file) {
  advice_world w;
  ASSERT_EQ(::mkfifo((w.dir / "pipe").c_str(), 0600), 0);
  for (const auto& path : {w.dir / "pipe", w.dir.path(), std::string{"/dev/zero"}}) {
    EXPECT_EQ(w.test(w.sshd.url(), path).exit_code, 2) << path;
    w.known_hosts = path;
    EXPECT_EQ(w.test(w.sshd.url(), w.sshd.key_file()).exit_code, 2) << path;
    w.known_hosts.clear();
    const auto key = w.dir / "locked";
    if (::access(key.c_str(), F_OK) != 0) w.make_key("locked", {"-t", "ed25519", "-N", "secret"});
    EXPECT_EQ(w.test(w.sshd.url(), key, {"--tunnel-passphrase-file", path}).exit_code, 2) << path;
  }
}

TEST(tunnel_advice, names_the_settings_of_sshd_that_forbid_a_forward) {
  for (const auto* config : {"AllowTcpForwarding no", "DisableForwarding yes",
                             "PermitOpen 127.0.0.1:1", "AllowTcpForwarding remote"}) {
    advice_world w{config};
    const auto seen = w.test(w.sshd.url(), w.sshd.key_file());
    EXPECT_EQ(seen.exit_code, 3) << seen.err;
    for (const auto* part : {"AllowTcpForwarding", "DisableForwarding",
                             "permitopen=", "port-forwarding after restrict", "PermitOpen"})
      EXPECT_TRUE(holds(seen.err, part)) << config << ": " << seen.err;
  }
}

TEST(tunnel_advice, says_what_a_port_sent_that_serves_something_else) {
  advice_world w;
  {
    other_server http{"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"};
    const auto seen = w.test(http.url(), w.sshd.key_file());
    EXPECT_EQ(seen.exit_code, 3) << seen.err;
    EXPECT_TRUE(holds(seen.err, "HTTP/1.1 400 Bad Request")) << seen.err;
    EXPECT_TRUE(holds(seen.err, "which is HTTP")) << seen.err;
    EXPECT_TRUE(holds(seen.err, "is no SSH server")) << seen.err;
  }
  {
    other_server tls{std::string{"\x15\x03\x01\0\x02\x02\x46", 7}};
    EXPECT_TRUE(holds(w.test(tls.url(), w.sshd.key_file()).err, "which is TLS"));
  }
  other_server silent{""};
  EXPECT_TRUE(holds(w.test(silent.url(), w.sshd.key_file()).err, "sent nothing"));
}

TEST(tcp_connector, tries_each_address_first_in_turn) {
  using order = std::vector<std::size_t>;
  const std::vector<int> families{AF_INET6, AF_INET6, AF_INET, AF_INET};
  EXPECT_EQ(net::order_of_addresses(families, 0), (order{0, 2, 1, 3}));
  EXPECT_EQ(net::order_of_addresses(families, 1), (order{2, 1, 3, 0}));
  EXPECT_EQ(net::order_of_addresses(families, 7), (order{3, 0, 2, 1}));
  EXPECT_EQ(net::order_of_addresses({AF_INET, AF_INET}, 1), (order{1, 0}));
  EXPECT_EQ(net::order_of_addresses({}, 3), order{});
}
