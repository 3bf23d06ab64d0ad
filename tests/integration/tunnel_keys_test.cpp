// The tunnel's trust and identity: host keys, its own key, and what that permits.
#include "tests/support/tunnel_world.hpp"

using namespace ntrace;
using namespace ntrace::test;

TEST(tunnel, parks_when_the_host_key_is_another_one_and_never_dials_again_by_itself) {
  tunnel_world w;
  w.start().wait_for("up");
  w.sshd.stop();
  w.sshd.replace_host_key();
  w.sshd.start();
  w.wait_for("parked");
  const auto parked = w.status();
  const auto why = parked.value("why", "");
  EXPECT_NE(why.find("host_key_changed"), why.npos) << why;
  const auto first = why.find("SHA256:");
  EXPECT_NE(why.find("SHA256:", first + 7), why.npos) << "both fingerprints: " << why;
  EXPECT_NE(why.find("ntrace tunnel trust"), why.npos) << why;
  const auto fd = w.connect();  // Demand does not help either.
  eventually(2s, [&] { return w.status().value("held", 0) == 1; });
  EXPECT_EQ(w.status().value("dials", 0), parked.value("dials", -1));
  ok(w.sshd.pin());
  w.engine->retry();
  w.wait_for("up");
  EXPECT_TRUE(is_echoed(fd.get(), "held meanwhile\n"));
}

TEST(tunnel, does_not_mind_a_second_host_key_of_another_type) {
  tunnel_world w;
  w.start().wait_for("up");
  w.sshd.stop();
  subprocess_spec keygen;
  keygen.argv = {"ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", w.sshd.folder + "/host_ecdsa"};
  ASSERT_TRUE(ok(run_subprocess(keygen)).ok());
  w.sshd.config = "HostKey " + w.sshd.folder + "/host_ecdsa";
  w.sshd.start();
  w.wait_for("up");
  EXPECT_EQ(w.status().value("ups", 0), 2);
}

TEST(tunnel, lives_on_when_its_key_is_withdrawn_and_says_so_at_the_next_dial) {
  tunnel_world w;
  w.start().wait_for("up");
  ok(w.sshd.forbid_key());
  const auto fd = w.connect();
  EXPECT_TRUE(is_echoed(fd.get(), "still\n"));
  w.sshd.signal_sessions(SIGKILL);
  w.wait_for("parked");
  const auto why = w.status().value("why", "");
  EXPECT_NE(why.find("key_refused"), why.npos) << why;
  EXPECT_NE(why.find("restrict,port-forwarding,permitopen="), why.npos) << "the line that helps";
  ok(w.sshd.allow_key());
  w.engine->retry();
  w.wait_for("up");
}

TEST(tunnel, logs_in_with_an_ecdsa_key_and_with_an_encrypted_one) {
  const auto made = [](tunnel_world& w, const char* type, const char* passphrase) {
    w.settings.key_file = w.sshd.folder + "/other_key";
    subprocess_spec keygen;
    keygen.argv = {"ssh-keygen", "-q", "-t", type, "-N", passphrase, "-f", w.settings.key_file};
    ASSERT_TRUE(ok(run_subprocess(keygen)).ok());
    w.sshd.client = ok(net::read_private_key(w.settings.key_file)).shown;
    ok(w.sshd.allow_key());
  };
  tunnel_world ecdsa;
  made(ecdsa, "ecdsa", "");
  ecdsa.start().wait_for("up");
  tunnel_world encrypted;
  made(encrypted, "ed25519", "open sesame");
  encrypted.start().wait_for("parked");
  EXPECT_NE(encrypted.status().value("why", "").find("tunnel_passphrase_file"), std::string::npos);
  encrypted.settings.passphrase_file = encrypted.dir.secret("passphrase", "open sesame\n");
  encrypted.start().wait_for("up");
}

TEST(tunnel, refuses_a_key_that_others_may_read_and_names_the_mend) {
  tunnel_world w;
  ::chmod(w.sshd.key_file().c_str(), 0644);
  w.start().wait_for("parked");
  EXPECT_NE(w.status().value("why", "").find("chmod 600"), std::string::npos);
  ::chmod(w.sshd.key_file().c_str(), 0600);
  w.engine->retry();
  w.wait_for("up");
}

TEST(tunnel, reaches_nothing_but_what_the_key_permits) {
  tunnel_world w;
  echo_server other;
  w.settings.target = other.at();  // Not what permitopen names.
  w.start().wait_for("up");
  EXPECT_TRUE(is_reset(w.at()));
  EXPECT_EQ(w.status().value("state", ""), "up") << "a refused connection is no lost session";
}
