// Git repositories behind a real sshd.
#include "actors/runner/ssh_remote.hpp"
#include "actors/runner/git_remote.hpp"
#include "tests/support/real_sshd.hpp"
#include "tests/support/source_world.hpp"

using namespace ntrace;
using namespace ntrace::runner;
using namespace std::chrono_literals;
using test::code_of;
using test::fetch;
using test::ok;
using test::outage_in;
using test::scratch;

TEST(source_git, takes_what_an_ssh_server_says_for_good_as_its_answer) {
  const scratch dir;
  test::real_sshd server{dir, {"127.0.0.1", 1}};
  // ssh(1) reads no other person's files here.
  const auto config = dir.file("config", "UserKnownHostsFile " + server.known_hosts_file() +
                                             "\nIdentitiesOnly yes\nIdentityAgent none\n"
                                             "IdentityFile " +
                                             server.key_file() + "\n");
  std::filesystem::create_directories(dir / "bin");
  dir.file("bin/ssh", "#!/bin/sh\nexec /usr/bin/ssh -F " + config + " \"$@\"\n");
  ASSERT_EQ(::chmod((dir / "bin/ssh").c_str(), 0755), 0);
  const std::string path = std::getenv("PATH");
  ::setenv("PATH", (dir / "bin" + ":" + path).c_str(), 1);
  const auto from = [&](const std::string& folder) {
    return fetch("git+" + server.url() + folder + "#main", {}, dir);
  };
  test::make_package(dir, "work", 50);
  (void)test::make_mirror(dir / "work", dir / "mirror.git");
  std::filesystem::rename(dir / "mirror.git", dir / "it's.git");
  ok(write_file_durably(server.folder + "/authorized_keys", net::key_text(server.client) + "\n",
                        0600));
  EXPECT_EQ(ok(from(dir / "it's.git")).package_json.empty(), false);
  EXPECT_EQ(code_of(from(dir / "absent.git")), ec::not_found);
  EXPECT_EQ(code_of(fetch("git+" + server.url() + (dir / "it's.git") + "#none", {}, dir)),
            ec::not_found);
  ok(server.forbid_key());
  EXPECT_EQ(code_of(from(dir / "it's.git")), ec::forbidden);
  server.stop();
  ASSERT_TRUE(outage_in(from(dir / "it's.git")));
  ::setenv("PATH", path.c_str(), 1);
}

TEST(source_git, takes_an_ssh_server_without_room_for_an_outage) {
  const scratch dir;
  const test::real_sshd server{dir, {"127.0.0.1", 1}, "MaxStartups 1:100:1\n"};
  unique_fd held;
  test::eventually(10s, [&] {  // Until the server has forgotten who asked whether it is there.
    held = ok(net::connect_tcp({"127.0.0.1", static_cast<std::uint16_t>(server.port)}, 5s));
    if (!net::wait_ready(held.get(), false, 5s)) return false;
    std::array<char, 64> said{};
    const auto n = ::recv(held.get(), said.data(), said.size(), 0);
    return n > 0 && has_ssh_greeting({said.data(), static_cast<std::size_t>(n)});
  });
  const auto got = fetch("git+" + server.url() + "/o/r.git#main", {}, dir);
  ASSERT_TRUE(outage_in(got)) << (got ? "" : to_string(got.error()));
  EXPECT_EQ(outage_in(got)->cause, outage_cause::connection_lost);
}

TEST(ssh_remote, is_where_the_users_own_configuration_leads) {
  const auto route = [](const char* text) { return parse_ssh_route(text); };
  EXPECT_EQ(route("user git\nhostname forge.example\nport 2222\n")->at.text(),
            "forge.example:2222");
  EXPECT_FALSE(route("hostname a\nport 22\nproxyjump none\n")->is_proxied);
  EXPECT_TRUE(route("hostname a\nport 22\nproxyjump bastion\n")->is_proxied);
  EXPECT_TRUE(route("hostname a\nport 22\nproxycommand nc %h %p\n")->is_proxied);
  for (const auto* none : {"", "hostname a", "port 22", "hostname a\nport x\n", "\n\n \n"})
    EXPECT_FALSE(route(none)) << none;
}

TEST(ssh_remote, has_greeted_once_a_line_of_ssh_is_there) {
  EXPECT_TRUE(has_ssh_greeting("SSH-2.0-OpenSSH_9.2\r\n"));
  EXPECT_TRUE(has_ssh_greeting("welcome\r\nSSH-2.0-x\r\n"));
  EXPECT_FALSE(has_ssh_greeting("Exceeded MaxStartups\r\n"));
  EXPECT_FALSE(has_ssh_greeting("no SSH-2.0 here"));
}

TEST(git_remote, understands_the_locations_of_sources) {
  const auto at = [](const char* text) { return parse_git_location(text); };
  EXPECT_EQ(at("https://u:p@forge.example/o/r").kind, remote_kind::http);
  EXPECT_EQ(at("ssh://git@forge.example:2222/o/r").at.text(), "forge.example:2222");
  EXPECT_EQ(at("ssh://forge.example/o/r.git").at.text(), "forge.example:22");
  EXPECT_EQ(at("ssh://[::1]:2222/o").at.host, "::1");
  EXPECT_EQ(at("ssh://[::1]:2222/o").at.port, 2222);
  EXPECT_EQ(at("ssh://git@forge.example/o/r").user, "git");
  EXPECT_EQ(at("ssh://forge.example/~me/r.git").path, "~me/r.git");
  EXPECT_EQ(at("ssh://forge.example").path, "");
  EXPECT_EQ(at("git@forge.example:o/r.git").kind, remote_kind::ssh);
  EXPECT_EQ(at("git@forge.example:o/r.git").at.text(), "forge.example:22");
  EXPECT_EQ(at("/m/o:r.git").kind, remote_kind::local);
  EXPECT_EQ(at("file:///m/o/r.git").path, "/m/o/r.git");
}
