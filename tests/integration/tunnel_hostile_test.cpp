// The tunnel against servers and lines that do what they must not.
#include <libssh/server.h>

#include "net/ssh_keygen.hpp"
#include "tests/support/ssh_proxy.hpp"
#include "tests/support/tunnel_world.hpp"

using namespace ntrace;
using namespace ntrace::test;

namespace {

/// An SSH server that lets everybody in who has a key, and then answers opens as it is told.
class odd_server {
public:
  enum class answer { confirms_all, says_nothing };

  odd_server(std::string host_key_file, answer how)
      : key_file_{std::move(host_key_file)},
        how_{how},
        port_{free_port()},
        listener_{ok(net::listen_tcp(at(), 16))},
        thread_{[this] { run(); }} {}
  ~odd_server() {
    stop_.raise();
    thread_.join();
  }
  host_port at() const { return {"127.0.0.1", static_cast<std::uint16_t>(port_)}; }
  int served() const { return served_; }

private:
  void run() {
    while (net::wait_ready(listener_.get(), false, std::chrono::hours{1}, &stop_)) {
      unique_fd client{::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC)};
      if (client) serve(std::move(client));
    }
  }
  void serve(unique_fd client) {
    auto* bind = ::ssh_bind_new();
    auto* session = ::ssh_new();
    const int no = 0;
    ::ssh_bind_options_set(bind, SSH_BIND_OPTIONS_PROCESS_CONFIG, &no);
    ::ssh_bind_options_set(bind, SSH_BIND_OPTIONS_HOSTKEY, key_file_.c_str());
    const bool is_up = ::ssh_bind_accept_fd(bind, session, client.release()) == SSH_OK &&
                       ::ssh_handle_key_exchange(session) == SSH_OK;
    while (is_up && !stop_.is_raised()) {
      auto* m = ::ssh_message_get(session);
      if (!m) break;
      answer_to(m);
      ::ssh_message_free(m);
    }
    ::ssh_disconnect(session);
    ::ssh_free(session);
    ::ssh_bind_free(bind);
  }
  void answer_to(ssh_message m) {
    const int type = ::ssh_message_type(m), kind = ::ssh_message_subtype(m);
    if (type == SSH_REQUEST_AUTH && kind == SSH_AUTH_METHOD_PUBLICKEY) {
      ::ssh_message_auth_reply_success(m, 0);
    } else if (type == SSH_REQUEST_CHANNEL_OPEN) {
      ++served_;
      if (how_ == answer::confirms_all) ::ssh_message_channel_request_open_reply_accept(m);
    } else {
      ::ssh_message_auth_set_methods(m, SSH_AUTH_METHOD_PUBLICKEY);
      ::ssh_message_reply_default(m);
    }
  }

  std::string key_file_;
  answer how_;
  int port_;
  unique_fd listener_;
  cancellation stop_;
  std::atomic<int> served_{0};
  std::thread thread_;
};

struct odd_world {
  scratch dir;
  odd_server server;
  tunnel::tunnel_settings settings;
  std::unique_ptr<tunnel::tunnel_engine> engine;

  explicit odd_world(odd_server::answer how) : server{made_key("host_key"), how} {
    ok(net::write_new_key(dir / "key", "runner"));
    const auto host = ok(net::read_private_key(dir / "host_key"));
    ok(net::trust_host_key(dir / "known_hosts", server.at(), host.shown));
    settings.to = ok(net::parse_ssh_target("ssh://user@" + server.at().text()));
    settings.listen = {"127.0.0.1", static_cast<std::uint16_t>(test::free_port())};
    settings.target = {"127.0.0.1", 9181};
    settings.key_file = dir / "key";
    settings.known_hosts_file = dir / "known_hosts";
    engine = std::make_unique<tunnel::tunnel_engine>(settings, 1);
  }
  ~odd_world() { engine.reset(); }  // Its sessions before their server.

private:
  std::string made_key(const std::string& name) const {
    ok(net::write_new_key(dir / name, name));
    return dir / name;
  }
};

}  // namespace

TEST(tunnel_hostile, does_not_come_up_over_a_server_that_opens_what_it_must_refuse) {
  odd_world w{odd_server::answer::confirms_all};
  json last;
  eventually(
      15s,
      [&] {
        last = status_of(*w.engine);
        return last.value("last_failure", "").find("only it may open") != std::string::npos;
      },
      [&] { return last.dump(); });
  EXPECT_EQ(last.value("ups", 1), 0);
}

TEST(tunnel_hostile, does_not_come_up_over_a_server_that_answers_no_probe) {
  odd_world w{odd_server::answer::says_nothing};
  eventually(15s, [&] { return w.server.served() >= 1; });
  json last;
  eventually(
      30s, [&] { return (last = status_of(*w.engine)).value("dials", 0) >= 2; },
      [&] { return last.dump(); });
  EXPECT_EQ(last.value("ups", 1), 0);
}

TEST(tunnel_hostile, ends_a_session_whose_bytes_were_changed_or_cut_and_delivers_none_of_them) {
  seeded s;
  tunnel_world w;
  ssh_proxy proxy{{"127.0.0.1", static_cast<std::uint16_t>(w.sshd.port)}};
  const auto host = ok(net::read_private_key(w.sshd.folder + "/host_key"));
  ok(net::trust_host_key(w.sshd.known_hosts_file(), proxy.at(), host.shown));
  w.settings.to =
      ok(net::parse_ssh_target("ssh://" + sshd_setup::user() + "@" + proxy.at().text()));
  w.start_as_set().wait_for("up");
  for (int round = 0; round < 12; ++round) {
    const auto before = w.status().value("lost", 0);
    const auto fd = w.connect();
    proxy.arm(round % 3 == 2 ? ssh_proxy::fault::cut : ssh_proxy::fault::flip_a_bit,
              s.random.below(2u << 20));
    const auto seen = stream_through(fd.get(), s.random.next(), 4u << 20);
    EXPECT_FALSE(seen.is_wrong);
    EXPECT_FALSE(seen.has_ended);
    eventually(10s, [&] { return w.status().value("lost", 0) > before; });
    w.wait_for("up");
  }
}

TEST(tunnel_hostile, lives_through_damage_at_any_byte_of_a_dial) {
  seeded s;
  tunnel_world w;
  ssh_proxy proxy{{"127.0.0.1", static_cast<std::uint16_t>(w.sshd.port)}};
  const auto host = ok(net::read_private_key(w.sshd.folder + "/host_key"));
  ok(net::trust_host_key(w.sshd.known_hosts_file(), proxy.at(), host.shown));
  w.settings.to =
      ok(net::parse_ssh_target("ssh://" + sshd_setup::user() + "@" + proxy.at().text()));
  for (int round = 0; round < 20; ++round) {
    proxy.arm(round % 3 == 2 ? ssh_proxy::fault::cut : ssh_proxy::fault::flip_a_bit,
              s.random.below(2500));
    w.start_as_set();
    w.wait_for("up", 40s);  // By itself, whatever was damaged: a step's deadline is 10 s.
  }
}

TEST(tunnel_hostile, dials_again_when_one_byte_of_the_first_key_exchange_was_damaged) {
  tunnel_world w;
  ssh_proxy proxy{{"127.0.0.1", static_cast<std::uint16_t>(w.sshd.port)}};
  const auto host = ok(net::read_private_key(w.sshd.folder + "/host_key"));
  ok(net::trust_host_key(w.sshd.known_hosts_file(), proxy.at(), host.shown));
  w.settings.to =
      ok(net::parse_ssh_target("ssh://" + sshd_setup::user() + "@" + proxy.at().text()));
  // In the offer's lists, in their lengths, behind them, in the server's signature.
  for (const std::uint64_t at : {60u, 66u, 700u, 1100u, 1300u}) {
    proxy.arm(ssh_proxy::fault::flip_a_bit, at);
    w.start_as_set().wait_for("up", 40s);
    EXPECT_FALSE(proxy.is_armed()) << at;
    EXPECT_GE(w.status().value("dials", 0), 2) << at;
  }
}

TEST(tunnel_hostile, parks_when_nothing_is_in_common_and_says_first_what_does_not_match) {
  tunnel_world w{"Ciphers chacha20-poly1305@openssh.com\nMACs hmac-sha1"};
  subprocess_spec keygen;
  keygen.argv = {"ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", w.sshd.folder + "/host_ecdsa"};
  ASSERT_TRUE(ok(run_subprocess(keygen)).ok());
  w.start().wait_for("parked");
  const auto cipher = w.status().value("why", "");
  EXPECT_TRUE(cipher.starts_with("no_common_method: cipher: we offer aes128-gcm@openssh.com, "))
      << cipher;
  EXPECT_NE(cipher.find("the server offers chacha20-poly1305@openssh.com"), cipher.npos) << cipher;
  EXPECT_EQ(w.status().value("dials", 0), 2) << "once it may have been damage";
  w.sshd.stop();
  w.sshd.config = "HostKey " + w.sshd.folder + "/host_ecdsa\nHostKeyAlgorithms ecdsa-sha2-nistp256";
  w.sshd.start();
  w.engine->retry();
  eventually(15s, [&] { return w.status().value("dials", 0) >= 3; });
  w.wait_for("parked");
  const auto key = w.status().value("why", "");
  EXPECT_TRUE(key.starts_with(
      "no_common_method: host key: pinned ssh-ed25519, the server offers ecdsa-sha2-nistp256"))
      << key;
  w.sshd.stop();
  w.sshd.config.clear();
  w.sshd.start();
  w.engine->retry();
  w.wait_for("up");
}
