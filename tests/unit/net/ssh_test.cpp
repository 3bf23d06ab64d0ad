// What of SSH is ours: addresses, keys, pinned host keys, the banner, and what hostile servers say.
#include <gtest/gtest.h>
#include <sys/socket.h>

#include "config/base64.hpp"
#include "net/known_hosts.hpp"
#include "net/ssh_dial_fsm.hpp"
#include "net/ssh_keygen.hpp"
#include "net/ssh_session.hpp"
#include "tests/support/ok.hpp"
#include "tests/support/scratch.hpp"
#include "tests/support/ssh_packets.hpp"

using namespace ntrace;
using namespace ntrace::net;
using ntrace::test::code_of;
using ntrace::test::ok;
using namespace std::chrono_literals;

namespace {

public_key new_key() { return ok(make_ed25519_key()).shown; }
const host_port server{"Build.Example", 2222};

known_hosts read(const std::string& text) { return ok(known_hosts::parse(text, "kh")); }

/// What a session says of a server that sends this and then nothing, or its end.
error verdict_on(const std::string& sent, bool ends = false, milliseconds later = 0ms) {
  int pair[2];
  EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
  unique_fd ours{pair[0]}, theirs{pair[1]};
  const auto pair_of_keys = ok(make_ed25519_key());
  ssh_session_options options;
  options.to = ok(parse_ssh_target("ssh://user@127.0.0.1"));
  options.key = ok(parse_private_key(pair_of_keys.private_text, "key"));
  const auto now = steady_clock::now();
  ssh_session session{std::move(ours), options, now};
  for (std::size_t at = 0; at <= sent.size(); at += 4096) {
    const auto part = sent.substr(at, 4096);
    (void)!::write(theirs.get(), part.data(), part.size());
    if (ends && at + 4096 > sent.size()) theirs.reset();
    for (int i = 0; i < 4; ++i)
      for (const auto& e : session.pump(now + later))
        if (const auto* ended = std::get_if<ssh_ended>(&e)) return ended->why;
  }
  return {};
}

}  // namespace

TEST(ssh_target, reads_user_host_and_port_and_says_what_is_wrong) {
  const auto plain = ok(parse_ssh_target("ssh://ops@host.example"));
  EXPECT_EQ(plain.user, "ops");
  EXPECT_EQ(plain.at.text(), "host.example:22");
  EXPECT_EQ(ok(parse_ssh_target("ssh://ops@10.0.0.1:2222")).at.port, 2222);
  EXPECT_EQ(ok(parse_ssh_target("ssh://ops@[::1]:22")).at.host, "::1");
  EXPECT_EQ(ok(parse_ssh_target("ssh://ops@[fe80::1]")).at.port, 22);
  for (const auto* wrong :
       {"", "host", "http://a@b", "ssh://host", "ssh://@host", "ssh://a@", "ssh://a@b:0",
        "ssh://a@b:99999", "ssh://a@b/path", "ssh://a@::1", "ssh://a:b@c", "ssh://a@b c"})
    EXPECT_EQ(code_of(parse_ssh_target(wrong)), ec::bad_config) << wrong;
}

TEST(known_hosts, matches_the_pinned_key_and_tells_a_changed_one_from_an_unknown_one) {
  const auto key = new_key(), other = new_key();
  const auto held = read("# a comment\n\n" + known_hosts_line(server, key));
  EXPECT_EQ(held.check(server, key).verdict, host_key_verdict::match);
  const auto changed = held.check(server, other);
  EXPECT_EQ(changed.verdict, host_key_verdict::changed);
  EXPECT_EQ(changed.line, 3u);
  EXPECT_EQ(changed.pinned, key);
  EXPECT_EQ(held.check({"build.example", 22}, key).verdict, host_key_verdict::unknown);
  EXPECT_EQ(held.check({"BUILD.example", 2222}, key).verdict, host_key_verdict::match);
  EXPECT_EQ(held.types_of(server), std::vector<std::string>{"ssh-ed25519"});
}

TEST(known_hosts, obeys_a_revocation_wherever_it_stands) {
  const auto key = new_key();
  const auto line = known_hosts_line(server, key);
  for (const auto& text : {"@revoked " + line + line, line + "@revoked " + line,
                           line + "@revoked * " + key_text(key) + "\n"})
    EXPECT_EQ(read(text).check(server, key).verdict, host_key_verdict::revoked) << text;
}

TEST(known_hosts, finds_hashed_names) {
  // Made with `ssh-keygen -H` from a line for [build.example]:2222.
  const std::string key = "AAAAC3NzaC1lZDI1NTE5AAAAIM+WU3WnVrbRI5FG4HRpybcReXLcSlKM8ba1pLg7S40d";
  const auto held = read(
      "|1|eXnZY+q8OyNSlnQ3UcJxR0wrxTg=|tzIhMGxUqVyDdmm5l70zn2IQgsM= ssh-ed25519 " + key + "\n");
  const auto shown = *parse_key_blob(*from_base64(key));
  EXPECT_EQ(held.check(server, shown).verdict, host_key_verdict::match);
  EXPECT_EQ(held.check({"build.example", 22}, shown).verdict, host_key_verdict::unknown);
  EXPECT_EQ(code_of(known_hosts::parse("|1|x ssh-ed25519 " + key, "kh")), ec::bad_key);
}

TEST(known_hosts, refuses_lines_that_it_cannot_hold_and_names_them) {
  const auto key = key_text(new_key());
  for (const auto& line : {"@cert-authority *.example " + key, "*.example " + key, "!a,b " + key,
                           std::string{"host ssh-ed25519"}, "host ssh-rsa " + key.substr(12),
                           std::string{"host ssh-ed25519 AAAA"}, "@unknown host " + key}) {
    const auto read = known_hosts::parse("ok " + key + "\n" + line + "\n", "kh");
    ASSERT_EQ(code_of(read), ec::bad_key) << line;
    EXPECT_NE(read.error().message.find("kh:2"), std::string::npos) << read.error().message;
  }
}

TEST(known_hosts, pins_a_key_once_and_keeps_what_was_there) {
  test::scratch dir;
  const auto path = dir / "sub/known_hosts";
  const auto key = new_key();
  EXPECT_EQ(code_of(known_hosts::load(path)), ec::none) << "a file that is not there is empty";
  ok(trust_host_key(path, server, key));
  ok(trust_host_key(path, server, key));
  ok(trust_host_key(path, {"other", 22}, key));
  EXPECT_EQ(ok(read_file(path)),
            known_hosts_line(server, key) + known_hosts_line({"other", 22}, key));
}

TEST(ssh_dial_fsm, takes_the_banner_after_other_lines_and_in_pieces) {
  const time_point now{};
  ssh_dial_fsm uut{{}, now};
  EXPECT_FALSE(ok(uut.on_bytes(now, "welcome\r\nSSH-2")));
  EXPECT_TRUE(ok(uut.on_bytes(now, ".0-OpenSSH_9.2\r\n\x01\x02")));
  EXPECT_EQ(uut.server(), "SSH-2.0-OpenSSH_9.2");
  EXPECT_EQ(uut.stage(), ssh_stage::key_exchange);
}

TEST(ssh_dial_fsm, gives_each_step_its_own_deadline) {
  const time_point now{};
  ssh_dial_fsm uut{{2s, 10s, 5s}, now};
  EXPECT_FALSE(uut.on_tick(now + 1999ms));
  EXPECT_EQ(uut.on_tick(now + 2s)->code, ec::timed_out);
  ok(uut.on_bytes(now + 1s, "SSH-2.0-x\n"));
  EXPECT_EQ(uut.until(), now + 11s);
  uut.on_keys_exchanged(now + 3s);
  EXPECT_EQ(uut.until(), now + 8s);
  uut.on_authenticated();
  EXPECT_FALSE(uut.until());
}

TEST(ssh_session, ends_with_a_typed_error_for_each_kind_of_hostile_server) {
  const auto http = verdict_on("HTTP/1.1 400 Bad Request\r\n", true);
  EXPECT_EQ(http.code, ec::connection_lost);
  EXPECT_NE(http.message.find("400 Bad Request"), std::string::npos) << http.message;
  EXPECT_EQ(verdict_on(std::string(20'000, 'x')).code, ec::ssh_failed) << "a banner without an end";
  std::string lines;
  for (int i = 0; i < 200; ++i) lines += "no banner yet\r\n";
  EXPECT_EQ(verdict_on(lines).code, ec::ssh_failed);
  EXPECT_EQ(verdict_on("SSH-1.5-old\r\n").code, ec::ssh_failed);
  EXPECT_EQ(verdict_on("").code, ec::none) << "patience until the deadline";
  EXPECT_EQ(verdict_on("", false, 1h).code, ec::timed_out);
  EXPECT_EQ(verdict_on("SSH-2.0-x\r\n", true).code, ec::connection_lost);
  EXPECT_NE(verdict_on("SSH-2.0-x\r\n" + std::string(8192, '\xff')).code, ec::none);
}

TEST(ssh_session, says_first_what_does_not_match_when_nothing_is_in_common) {
  const auto packet =
      test::key_exchange_offer("diffie-hellman-group1-sha1", "ssh-dss", "3des-cbc", "hmac-md5");
  const auto seen = verdict_on("SSH-2.0-old\r\n" + packet);
  EXPECT_EQ(seen.code, ec::no_common_method) << seen.message;
  EXPECT_TRUE(seen.message.starts_with("host key: we offer ssh-ed25519, ")) << seen.message;
  EXPECT_NE(seen.message.find("the server offers ssh-dss"), std::string::npos) << seen.message;
  EXPECT_NE(seen.message.find("3des-cbc"), std::string::npos);
  ASSERT_EQ(seen.facts.size(), 3u);
  EXPECT_EQ(seen.facts[0].first, "host key");
  // The server may have closed the line by the time that it is noticed.
  EXPECT_EQ(verdict_on("SSH-2.0-old\r\n" + packet, true).code, ec::no_common_method);
}

TEST(ssh_session, takes_a_damaged_offer_for_no_offer) {
  const auto packet =
      test::key_exchange_offer("diffie-hellman-group1-sha1", "ssh-dss", "3des-cbc", "hmac-md5");
  // Its length, its type, the length of a list, a letter that is none.
  for (const std::size_t at : {2u, 5u, 24u, 30u}) {
    auto damaged = packet;
    damaged[at] = static_cast<char>(damaged[at] ^ 0x80);
    const auto seen = verdict_on("SSH-2.0-old\r\n" + damaged, true);
    EXPECT_TRUE(seen.code == ec::ssh_failed || seen.code == ec::connection_lost) << seen.message;
  }
}

TEST(ssh_session, says_what_a_server_sent_that_is_no_ssh_server) {
  const auto http = verdict_on("HTTP/1.1 400 Bad Request\r\nServer: x\r\n", true).message;
  EXPECT_NE(http.find("it sent \"HTTP/1.1 400 Bad Request\\r\\nServer: x\\r\\n\", which is HTTP"),
            std::string::npos)
      << http;
  EXPECT_NE(http.find("127.0.0.1:22 is no SSH server"), std::string::npos) << http;
  const auto tls = verdict_on({"\x15\x03\x01\0\x02\x02\x46", 7}, true).message;
  EXPECT_NE(tls.find("\\x15\\x03\\x01\\x00\\x02\\x02F\", which is TLS"), std::string::npos) << tls;
  const auto mail = verdict_on("220 mail.example ESMTP\r\n", false, 1h).message;
  EXPECT_NE(mail.find("\"220 mail.example ESMTP\\r\\n\""), std::string::npos) << mail;
  EXPECT_NE(verdict_on("", false, 1h).message.find("127.0.0.1:22 sent nothing"), std::string::npos);
  EXPECT_NE(verdict_on("", true).message.find("sent nothing"), std::string::npos);
  const auto cut = verdict_on(std::string(20'000, '\x1b')).message;
  EXPECT_NE(cut.find("\\x1b\" and more"), std::string::npos) << cut;
  EXPECT_LT(cut.size(), 700u);
}
