// `ntrace runner --tunnel` and what an operator does around it, with real programs and a real sshd.
#include "net/ssh_keygen.hpp"
#include "tests/support/netns.hpp"
#include "tests/support/real_sshd.hpp"

using namespace ntrace;
using namespace ntrace::test;
using namespace std::chrono_literals;

namespace {

json call(const std::string& at, const char* method, const json& args) {
  auto client = ok(net::rpc_client::connect(ok(parse_host_port(at))));
  return ok(client.call(method, args, 30s));
}

std::vector<std::string> operator+(std::vector<std::string> a, const std::vector<std::string>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

host_port at_free_port() { return {"127.0.0.1", static_cast<std::uint16_t>(free_port())}; }

}  // namespace

TEST(tunnel_program, makes_a_key_pins_a_server_and_tries_the_way) {
  scratch dir;
  const auto target = at_free_port();
  real_sshd sshd{dir, target};
  const auto fingerprint =
      net::fingerprint(ok(net::read_private_key(sshd.folder + "/host_key")).shown);
  const auto data = dir / "data";
  const std::vector<std::string> words{"--data", data, "--dispatcher", target.text()};

  const auto made = run_ntrace(std::vector<std::string>{"tunnel", "keygen", "--json"} + words);
  ASSERT_EQ(made.exit_code, 0) << made.err;
  const auto told = json::parse(made.out);
  EXPECT_NE(told.value("authorized_keys", "")
                .find("restrict,port-forwarding,permitopen=\"" + target.text() + "\" ssh-ed25519 "),
            std::string::npos);
  ok(write_file_durably(sshd.folder + "/authorized_keys",
                        told.value("authorized_keys", "") + "\n"));

  const auto unknown = run_ntrace(std::vector<std::string>{"tunnel", "test", sshd.url()} + words);
  EXPECT_EQ(unknown.exit_code, 4);
  EXPECT_NE(unknown.err.find("ntrace tunnel trust " + sshd.url() + " --fingerprint " + fingerprint),
            std::string::npos)
      << unknown.err;
  const auto other = run_ntrace(
      std::vector<std::string>{"tunnel", "trust", sshd.url(), "--fingerprint", "SHA256:other"} +
      words);
  EXPECT_EQ(other.exit_code, 4) << other.out;
  const auto trusted = run_ntrace(
      std::vector<std::string>{"tunnel", "trust", sshd.url(), "--fingerprint", fingerprint} +
      words);
  ASSERT_EQ(trusted.exit_code, 0) << trusted.err;

  const auto nobody = run_ntrace(std::vector<std::string>{"tunnel", "test", sshd.url()} + words);
  EXPECT_EQ(nobody.exit_code, 3) << "nobody serves the target yet: " << nobody.err;
  const auto listener = ok(net::listen_tcp(target, 8));
  const auto good =
      run_ntrace(std::vector<std::string>{"tunnel", "test", sshd.url(), "--json"} + words);
  ASSERT_EQ(good.exit_code, 0) << good.err;
  EXPECT_EQ(json::parse(good.out)["steps"].size(), 5u) << good.out;

  sshd.stop();
  sshd.replace_host_key();
  sshd.start();
  for (const auto* what : {"test", "trust"}) {
    const auto changed = run_ntrace(std::vector<std::string>{"tunnel", what, sshd.url()} + words);
    EXPECT_EQ(changed.exit_code, 4) << changed.out;
    EXPECT_NE(changed.err.find("host_key_changed"), std::string::npos) << changed.err;
  }
}

TEST(tunnel_program, runs_a_push_over_the_tunnel_also_when_its_session_dies_on_the_way) {
  NTRACE_NEEDS_ZONES();
  scratch dispatcher_dir, runner_dir;
  const auto package = make_package(dispatcher_dir, "spin", 1500);
  const auto target = at_free_port();
  server dispatcher{dispatcher_dir,
                    {"dispatcher"},
                    {"--dispatcher", target.text(), "--source-template", package}};
  real_sshd sshd{dispatcher_dir, target};
  server runner{
      runner_dir,
      {"runner"},
      std::vector<std::string>{"--tunnel", sshd.url(), "--tunnel-listen", at_free_port().text(),
                               "--tunnel-key-file", sshd.key_file(), "--tunnel-known-hosts-file",
                               sshd.known_hosts_file(), "--dispatcher", target.text()}};
  const auto push = [&] {
    return call(dispatcher.dispatcher, "push", {"o", "spin", std::string(40, 'a')})
        .value("run", "");
  };
  const auto first = push();
  ASSERT_EQ(dispatcher.wait_for_end(first), "done") << dispatcher.log() << runner.log();
  const auto status = call(runner.runner, "tunnel", json::array());
  EXPECT_EQ(status.value("state", ""), "up");
  EXPECT_EQ(run_ntrace({"tunnel", "status", "--runner", runner.runner}).exit_code, 0);

  const auto second = push();
  eventually(20s, [&] {
    return call(dispatcher.dispatcher, "show", {second}).value("state", "") == "running";
  });
  sshd.signal_sessions(SIGKILL);
  ASSERT_EQ(dispatcher.wait_for_end(second), "done") << dispatcher.log() << runner.log();
  EXPECT_EQ(call(dispatcher.dispatcher, "show", {second})["attempts"].size(), 1u)
      << "the lease outlives a lost session";
  EXPECT_EQ(runner.stop(), 0);
  EXPECT_EQ(dispatcher.stop(), 0);
}

TEST(tunnel_program, keeps_its_promises_when_the_link_is_down_for_longer_than_a_lease) {
  NTRACE_NEEDS_ZONES();
  NTRACE_NEEDS_NETWORKS();
  scratch dispatcher_dir, runner_dir;
  network_pair net;
  const auto package = make_package(dispatcher_dir, "spin", 1000);
  std::unique_ptr<server> dispatcher, runner;
  std::unique_ptr<real_sshd> sshd;
  std::vector<std::string> runs;
  network_pair::inside(net.b(), [&] {
    dispatcher = std::make_unique<server>(
        dispatcher_dir, std::vector<std::string>{"dispatcher"},
        std::vector<std::string>{"--dispatcher", "127.0.0.1:9181", "--source-template", package,
                                 "--lease-ms", "1500"});
    sshd =
        std::make_unique<real_sshd>(dispatcher_dir, host_port{"127.0.0.1", 9181}, "",
                                    std::vector<net::reverse_forward>{}, network_pair::address_b);
  });
  network_pair::inside(net.a(), [&] {
    runner = std::make_unique<server>(
        runner_dir, std::vector<std::string>{"runner"},
        std::vector<std::string>{"--tunnel", sshd->url(), "--tunnel-key-file", sshd->key_file(),
                                 "--tunnel-known-hosts-file", sshd->known_hosts_file(),
                                 "--dispatcher", "127.0.0.1:9181"});
  });
  network_pair::inside(net.b(), [&] {
    // The first run is under way when the link goes; the second is pushed while it is down.
    const auto push = [&](char digit) {
      runs.push_back(call(dispatcher->dispatcher, "push", {"o", "spin", std::string(40, digit)})
                         .value("run", ""));
    };
    const auto state = [&](const std::string& run) {
      return call(dispatcher->dispatcher, "show", {run}).value("state", "");
    };
    push('a');
    eventually(20s, [&] { return state(runs[0]) == "running"; });
    net.set_link(false);
    push('b');
    eventually(
        20s, [&] { return state(runs[0]) == "queued"; }, [&] { return dispatcher->log(); });
    net.set_link(true);
    for (const auto& run : runs)
      ASSERT_EQ(dispatcher->wait_for_end(run), "done") << dispatcher->log() << runner->log();
  });
  EXPECT_EQ(runner->stop(), 0);
  EXPECT_EQ(dispatcher->stop(), 0);
}

TEST(tunnel_program, provisions_a_user_that_reaches_the_dispatcher_and_nothing_else) {
  NTRACE_NEEDS_NETWORKS();
  scratch dir;
  const auto target = at_free_port(), other = at_free_port();
  const auto served = ok(net::listen_tcp(target, 8)), forbidden = ok(net::listen_tcp(other, 8));
  ok(net::write_new_key(dir / "key", "runner"));
  ok(net::write_new_key(dir / "host_key", "host"));
  const auto port = free_port();
  // The machine's own files stay as they are: the user, its keys and sshd's part go into a copy.
  const auto script = dir.file(
      "provision.sh",
      "set -e\nmount --make-rprivate /\ncp -a /etc " + (dir / "etc") + "\nmount --bind " +
          (dir / "etc") + " /etc\nmkdir -p /run/sshd\n'" + program_path() +
          "' provision dispatcher-user --key-file " + (dir / "key.pub") + " --permit " +
          target.text() + "\n'" + program_path() + "' provision dispatcher-user --key-file " +
          (dir / "key.pub") + " --permit " + target.text() +
          " > /dev/null\ntest $(wc -l < /etc/ssh/ntrace/ntrace-tunnel.keys) = 1\nexec "
          "/usr/sbin/sshd -D -e -f /etc/ssh/sshd_config -p " +
          std::to_string(port) + " -o ListenAddress=127.0.0.1 -o PidFile=none -h " +
          (dir / "host_key") + "\n");
  subprocess_spec spec;
  spec.argv = {"unshare", "-m", "sh", script};
  const unique_fd log{
      ::open((dir / "log").c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600)};
  const int pid = ok(spawn_guarded(spec, -1, log.get(), log.get()));
  const auto told = [&] { return read_file(dir / "log").value_or(""); };
  eventually(
      20s,
      [&] {
        return net::connect_tcp({"127.0.0.1", static_cast<std::uint16_t>(port)}, 200ms).has_value();
      },
      told);
  const auto url = "ssh://ntrace-tunnel@127.0.0.1:" + std::to_string(port);
  const auto try_it = [&](const host_port& to) {
    return run_ntrace({"tunnel", "test", url, "--tunnel-key-file", dir / "key",
                       "--tunnel-host-key-policy", "accept_first", "--data", dir / "data",
                       "--dispatcher", to.text()});
  };
  EXPECT_EQ(try_it(target).exit_code, 0) << told();
  const auto refused = try_it(other);
  EXPECT_NE(refused.exit_code, 0);
  EXPECT_NE(refused.err.find("permitopen"), std::string::npos) << refused.err;
  subprocess_spec shell;
  shell.argv = {"ssh",
                "-F",
                "/dev/null",
                "-i",
                dir / "key",
                "-p",
                std::to_string(port),
                "-o",
                "BatchMode=yes",
                "-o",
                "StrictHostKeyChecking=no",
                "-o",
                "UserKnownHostsFile=/dev/null",
                "ntrace-tunnel@127.0.0.1",
                "id"};
  const auto command = ok(run_subprocess(shell));
  EXPECT_NE(command.exit_code, 0);
  EXPECT_EQ(command.out.find("uid="), std::string::npos) << "no command runs: " << command.out;
  for (const int child : descendants(pid, "sshd")) ::kill(child, SIGKILL);
  ::kill(pid, SIGKILL);
  ::waitpid(pid, nullptr, 0);
}

TEST(tunnel_program, lends_a_runners_shell_to_the_dispatchers_machine) {
  scratch dispatcher_dir, runner_dir;
  const auto target = at_free_port(), shell = at_free_port(), lent = at_free_port();
  server dispatcher{dispatcher_dir, {"dispatcher"}, {"--dispatcher", target.text()}};
  real_sshd sshd{dispatcher_dir, target, "AllowTcpForwarding yes", {{lent, shell}}};
  server runner{runner_dir,
                {"runner"},
                std::vector<std::string>{
                    "--tunnel", sshd.url(), "--tunnel-listen", at_free_port().text(),
                    "--tunnel-key-file", sshd.key_file(), "--tunnel-known-hosts-file",
                    sshd.known_hosts_file(), "--dispatcher", target.text(), "--shell", shell.text(),
                    "--tunnel-reverse", lent.text() + "->" + shell.text(), "--workers", "0"}};
  subprocess_result seen;
  eventually(
      20s,
      [&] {
        return (seen = run_ntrace({"shell", lent.text(), "tunnel"})).exit_code == 0;
      },
      [&] { return seen.err + runner.log(); });
  EXPECT_NE(seen.out.find("state"), std::string::npos) << seen.out;
}
