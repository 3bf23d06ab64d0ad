// Untrusted input of many kinds: files, texts, SSH. See fuzz.hpp.
#include <gtest/gtest.h>
#include <sys/socket.h>

#include "actors/dashboard/webhook.hpp"
#include "actors/dispatcher/source_template.hpp"
#include "actors/profiler/flame_graph.hpp"
#include "actors/profiler/fold.hpp"
#include "actors/rpc/messages/push_messages.hpp"
#include "actors/rpc/messages/stream_data.hpp"
#include "actors/runner/bundle.hpp"
#include "actors/runner/git_remote.hpp"
#include "actors/runner/install_sources.hpp"
#include "actors/runner/npm_words.hpp"
#include "actors/runner/registry_settings.hpp"
#include "actors/runner/source_spec.hpp"
#include "actors/shell/shell_commands.hpp"
#include "actors/tunnel/remote_command.hpp"
#include "actors/tunnel/tunnel_settings.hpp"
#include "actors/zone/linux/init_wire.hpp"
#include "config/file.hpp"
#include "config/settings.hpp"
#include "config/shown_url.hpp"
#include "net/json_rpc.hpp"
#include "net/known_hosts.hpp"
#include "net/ssh_keygen.hpp"
#include "net/ssh_offer.hpp"
#include "net/ssh_session.hpp"
#include "tests/fuzz/fuzz.hpp"
#include "tests/support/ok.hpp"
#include "tests/support/scratch.hpp"
#include "tests/support/ssh_packets.hpp"
#include "tests/support/xml.hpp"

using namespace ntrace;
using ntrace::test::fuzz;

namespace {

const std::string perf_text =
    "node 7/8 [000] 1.000001: 1001001 cpu-clock:\n\ta1 JS:*f /j/a.js:1:2+0x1 "
    "(/tmp/perf-7.map)\n\ta0 std::map<int, void (*)(int)>::at(int const&) (/usr/bin/node)\n\n";

}  // namespace

/// Two parsers read what comes in: they must not differ.
TEST(fuzz, json_values) {
  fuzz("json",
       {R"({"a":[1,-2,18446744073709551615,-9223372036854775808,1.5e-3,true,null],)"
        R"("b":"\u00e9\ud83d\ude00\n"})",
        R"({"a":1,"a":2})", "[1e400]", "[-0,-0.0,0.1,123456789012345678901234567890]",
        "[\"\xc3\xa9\",\"\\ud800\"]", "[\"\xed\xa0\x80\"]", "\xef\xbb\xbf[1]", "[1] x", "[01]",
        std::string(70, '[') + std::string(70, ']'), std::string("[1]\0[", 5)},
       [](const std::string& input) {
         const auto got = net::parse_json(input);
         const auto right = nlohmann::json::parse(input, nullptr, false);
         if (!got) return;  // Refused: not JSON, or nested too deep.
         ASSERT_FALSE(right.is_discarded());
         ASSERT_EQ(*got, right);
         ASSERT_EQ(net::to_text(*got), net::to_text(right));
       });
}

TEST(fuzz, pushes) {
  fuzz("push",
       {R"(["o","r","aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",{"key":"k","priority":3}])",
        R"([{"after":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",)"
        R"("repository":{"name":"r","owner":{"login":"o"}},"uuid":"u"}])"},
       [](const std::string& input) {
         const auto args = nlohmann::json::parse(input, nullptr, false);
         if (!args.is_array()) return;
         const auto push = rpc::parse_push(args);
         ASSERT_TRUE(!push || (push->owner.find_first_of("/\n\0") == std::string::npos &&
                               push->sha.size() >= 40));
       });
}

TEST(fuzz, webhooks) {
  const std::string payload = R"({"after":")" + std::string(40, 'a') +
                              R"(","repository":{"name":"r","owner":{"name":"o"}}})";
  fuzz("webhook", {payload, "{\"x\":" + std::string(100, '[')}, [](const std::string& body) {
    const auto form = dashboard::read_webhook(
        {"github", "push", "d", "", "application/x-www-form-urlencoded", "payload=" + body}, "");
    EXPECT_TRUE(form || !form.error().body.empty());
    const auto args = dashboard::read_webhook({"github", "push", "d", "", "", body}, "");
    if (!args) {
      EXPECT_FALSE(args.error().body.empty());
      return;
    }
    const auto push = rpc::parse_push(*args);
    EXPECT_TRUE(!push || push->key == "github:d");
  });
}

TEST(fuzz, folding_and_drawing) {
  fuzz("fold",
       {perf_text, "  m`leaf+0x1\n  m`main\n    3\n", "a;b 1\nc 2.5\n",
        R"({"nodes":[{"id":1,"callFrame":{"functionName":"f","url":"u","lineNumber":1,)"
        R"("columnNumber":2},"children":[2]},{"id":2}],)"
        R"("samples":[1,2],"timeDeltas":[1,2],"startTime":0,"endTime":9})"},
       [](const std::string& input) {
         for (const auto format :
              {profiler::stack_format::perf, profiler::stack_format::dtrace,
               profiler::stack_format::cpuprofile, profiler::stack_format::folded}) {
           const auto got = profiler::fold(input, format);
           if (!got) continue;
           const auto folded = got->stacks.folded();
           ASSERT_EQ(profiler::fold(folded, profiler::stack_format::folded)->stacks.folded(),
                     folded);
           ASSERT_EQ(test::xml_error(profiler::flame_svg(got->stacks, {})), "");
         }
         [[maybe_unused]] const auto detected = profiler::detect_format(input);
         [[maybe_unused]] const auto unpacked = profiler::unpack_input(input);
       });
}

TEST(fuzz, perf_maps) {
  fuzz("map", {"a0 10 JS:*f /a.js:1:1\n100 30 x\n"}, [](const std::string& input) {
    profiler::perf_map uut;
    uut.add(input);
    for (std::uint64_t a = 0; a < 600; a += 7) [[maybe_unused]] const auto s = uut.find(a);
  });
}

TEST(fuzz, init_records) {
  fuzz("init", {zone::encode({zone::init_op::exec, 1, 0, 0, 0, "/", {"a"}, {"B=1"}})},
       [](const std::string& input) {
         if (const auto r = zone::decode(input)) {
           ASSERT_EQ(zone::decode(zone::encode(*r))->argv, r->argv);
         }
       });
}

TEST(fuzz, shell_requests) {
  shell::faces process;
  process.dispatcher = process.runner = [](std::string_view, const nlohmann::json& args) {
    return nlohmann::json{{"args", args}};
  };
  process.tree = [] { return nlohmann::json::object(); };
  process.child = [](std::string_view, const std::string&) { return result<void>{}; };
  process.audit = [](const nlohmann::json&) { return result<void>{}; };
  process.may_inject = true;
  const shell::commands uut{process, shell::role::operator_};
  fuzz("shell",
       {R"({"versions":[1],"command":"hello"})",
        R"({"versions":[1],"command":"why","args":["R"],"by":"me"})",
        R"({"versions":[2,1],"command":"inject","args":["kill","a/b"],"by":"me","new":{}})"},
       [&](const std::string& input) {
         const auto answer = uut.answer(input);
         ASSERT_NE(answer.contains("value"), answer.contains("error")) << answer.dump();
       });
}

TEST(fuzz, archives) {
  const test::scratch dir;
  // A tar of one file, by hand: the header's fields and a sum of its bytes.
  std::string tar(1024, '\0');
  tar.replace(0, 12, "package.json");
  tar.replace(100, 8, std::string("0000644\0", 8));
  tar.replace(124, 12, std::string("00000000002\0", 12));
  tar.replace(257, 8,
              std::string("ustar\0"
                          "00",
                          8));
  tar[156] = '0';
  tar.replace(148, 8, "        ");
  unsigned sum = 0;
  for (int i = 0; i < 512; ++i) sum += static_cast<unsigned char>(tar[static_cast<std::size_t>(i)]);
  char text[8];
  std::snprintf(text, sizeof text, "%06o", sum);
  tar.replace(148, 7, text, 7);
  tar.replace(512, 2, "{}");
  tar += std::string(1024, '\0');
  const std::string zip{"PK\x03\x04\x14\0\0\0\0\0", 10}, gz{"\x1f\x8b\x08\0\0\0\0\0\0\x03", 10};
  fuzz("archive", {tar, zip + tar, gz + tar, tar + tar}, [&](const std::string& input) {
    bool given = false;
    const auto got = runner::bundle_archive(
        [&]() -> result<std::string_view> {
          return std::exchange(given, true) ? std::string_view{} : std::string_view{input};
        },
        0, dir.path(), nullptr);
    [[maybe_unused]] const bool made = got.has_value();
  });
}

TEST(fuzz, what_a_tree_says_of_itself) {
  fuzz(
      "tree",
      {"[submodule \"a\"]\n\tpath = a\n\turl = \"../a b\" ; c\n",
       "version https://git-lfs.github.com/spec/v1\noid sha256:" + std::string(64, 'a') +
           "\nsize 1\n",
       "registry=https://u:p@h.example:8443/x/\n@s:registry=\"http://h\"\n",
       R"({"dependencies":{"a":"1","@s/b":"npm:c@1","u":"https://h/x.tgz"}})",
       R"({"packages":{"node_modules/a":{"resolved":"https://h/a.tgz"}}})", "* export-ignore\n",
       "npm error https://u:p@h/x\nnpm ERR! y",
       "npmRegistryServer: https://h\nnpmScopes:\n  s:\n    npmRegistryServer: https://h\n",
       "registries:\n  default: https://h\n  '@s': https://h\n",
       "[install]\nregistry = {url = \"https://h\"}\n[install.scopes]\n\"@s\" = \"https://h\"\n",
       "registry \"https://h\"\n\"@s:registry\" \"https://h\"\na@1:\n  resolved \"https://h/a\"\n"},
      [](const std::string& input) {
        runner::tree_facts tree;
        for (const char* name : {"package.json", ".npmrc", "package-lock.json", ".gitmodules",
                                 ".yarnrc", ".yarnrc.yml", "pnpm-workspace.yaml", "bunfig.toml",
                                 "yarn.lock", "a/.gitattributes", "pointer"})
          tree.on_file(name, input);
        tree.on_folder("a");
        tree.find_empty_submodules("x");
        tree.find_archive_attributes("x");
        [[maybe_unused]] const auto notices = tree.notices();
        [[maybe_unused]] const auto unused = runner::unheeded(tree);
        for (const auto& line : runner::registry_settings{tree}.lines_for_npm())
          ASSERT_EQ(line.find_first_of("\r\n"), std::string::npos);
        if (const auto hosts = runner::package_hosts(tree, input)) {
          for (const auto& one : *hosts)
            ASSERT_TRUE(one.host.find('@') == std::string::npos && !one.host.empty());
        }
        runner::npm_words words;
        words.on_output("stderr", input);
        ASSERT_LT(words.first_errors().size(), 2000u);
        ASSERT_EQ(runner::resolve_submodule_url("https://h/r", "../../" + input), "");
      });
}

TEST(fuzz, sources_paths_and_settings) {
  fuzz(
      "source",
      {"npm:nano@4.1.4", "git+https://x/y#z", "git+ssh://git@h:22/y#z", "github:o/r@s", "a/b/../c",
       "../x", "../../../x", "./-x", "git@h:o/r", "{owner}/{repo}@{sha}"},
      [](const std::string& input) {
        if (const auto spec = runner::parse_source_spec(input)) {
          ASSERT_TRUE(spec->name.find('/') == std::string::npos && spec->name != ".." &&
                      !spec->name.empty());
          // Both are words of a command.
          ASSERT_TRUE(!spec->revision.starts_with('-') &&
                      (spec->kind == runner::source_kind::dir || !spec->location.starts_with('-')));
          [[maybe_unused]] const auto at = runner::parse_git_location(spec->location);
        }
        if (const auto path = runner::safe_path(input, 0)) {
          ASSERT_TRUE(!path->starts_with('/') &&
                      ("/" + *path + "/").find("/../") == std::string::npos);
        }
        for (const std::string_view parent : {"git@h:o/r", "h:r", "/srv/r", "https://h/o/r"}) {
          const auto url = runner::resolve_submodule_url(parent, input);
          if (input.starts_with('.') && url != input && !url.empty()) {
            ASSERT_TRUE(
                url.starts_with(parent.substr(0, parent.find(parent[0] == '/' ? '/' : ':') + 1)))
                << url;
          }
          if (runner::refusal_of_submodule("https://h/r", url).empty()) {
            ASSERT_FALSE(runner::is_on_this_machine(url)) << url;
            ASSERT_FALSE(url.starts_with('-')) << url;
          }
        }
        const dispatcher::source_template pattern{input};
        ASSERT_TRUE(pattern.gives(pattern.fill("o", "r", "s"), "o", "r", "s"));
        ASSERT_EQ(without_passwords("git+https://u:pass-word@h/" + input + " x").find("pass-word"),
                  std::string::npos);
        [[maybe_unused]] const auto bytes = parse_bytes(input);
        [[maybe_unused]] const auto port = parse_host_port(input);
        [[maybe_unused]] const auto script = runner::choose_script(input);
      });
}

TEST(fuzz, ssh_names_keys_and_pinned_host_keys) {
  const auto pair = test::ok(net::make_ed25519_key());
  const auto line = net::known_hosts_line({"host", 2222}, pair.shown);
  fuzz("ssh_text",
       {line, "@revoked " + line, "|1|AAAA|AAAA " + line, pair.private_text, "ssh://user@[::1]:22",
        "127.0.0.1:1->127.0.0.1:2"},
       [&](const std::string& input) {
         if (const auto held = net::known_hosts::parse(input, "kh")) {
           // What was read holds nobody's key for another one.
           const auto verdict = held->check({"host", 2222}, pair.shown).verdict;
           if (verdict == net::host_key_verdict::match) {
             ASSERT_NE(input.find("2222"), std::string::npos);
           }
         }
         if (const auto key = net::parse_private_key(input, "key")) {
           ASSERT_TRUE(key->shown.type.starts_with("ssh-ed25519") ||
                       key->shown.type.starts_with("ecdsa-"));
         }
         if (const auto target = net::parse_ssh_target(input)) {
           ASSERT_TRUE(!target->user.empty() && target->at.port != 0);
         }
         if (const auto reverse = tunnel::parse_reverse(input)) {
           ASSERT_NE(reverse->listen.port, 0);
         }
       });
}

/// What a POSIX shell makes of words in single quotes and of \' between them.
std::vector<std::string> words_of(const std::string& quoted) {
  std::vector<std::string> out{""};
  bool is_quoted = false;
  for (std::size_t i = 0; i < quoted.size(); ++i) {
    if (quoted[i] == '\'')
      is_quoted = !is_quoted;
    else if (!is_quoted && quoted[i] == ' ')
      out.emplace_back();
    else if (!is_quoted && quoted[i] == '\\')
      out.back() += quoted[++i];
    else if (is_quoted)
      out.back() += quoted[i];
    else
      return {"a shell would read this itself: ", quoted};
  }
  return out;
}

TEST(fuzz, words_for_a_remote_shell_and_what_it_says) {
  fuzz("remote_command",
       {"printf\xff%s\xffit's", "NTRACE_PID 12\nerr\nNTRACE_EXIT abc 3\n",
        "-n\xff\xff\n\xff$(x)`y`\\"},
       [](const std::string& input) {
         std::vector<std::string> words{""};
         for (const char c : input)
           if (c == '\xff')
             words.emplace_back();
           else
             words.back() += c;
         const auto quoted = tunnel::quote_for_sh(words);
         ASSERT_EQ(quoted.has_value(), input.find('\0') == input.npos);
         if (quoted) {
           ASSERT_EQ(words_of(*quoted), words);
         }
         tunnel::remote_stderr whole{"abc", 64}, pieces{"abc", 64};
         whole.add(input);
         for (const char c : input) pieces.add({&c, 1});
         ASSERT_EQ(whole.pid(), pieces.pid());
         ASSERT_EQ(whole.status(), pieces.status());
         ASSERT_EQ(whole.text(), pieces.text());
         ASSERT_LE(whole.text().size(), 64u);
       });
}

TEST(fuzz, what_an_ssh_server_says_before_its_keys) {
  const auto pair = test::ok(net::make_ed25519_key());
  const auto packet =
      test::key_exchange_offer("curve25519-sha256", "ssh-ed25519", "aes128-ctr", "hmac-sha2-256");
  // An answer to our half of the key exchange (RFC 5656, section 4), of the right shape.
  std::string reply(1, '\x1f');
  net::put_string(reply, pair.shown.blob);
  net::put_string(reply, std::string(32, 'q'));
  net::put_string(reply, std::string(83, 's'));
  const auto second = test::ssh_packet(reply);
  net::ssh_session_options options;
  options.to = test::ok(net::parse_ssh_target("ssh://user@127.0.0.1"));
  options.key = test::ok(net::parse_private_key(pair.private_text, "key"));
  fuzz("ssh_server",
       {"SSH-2.0-x\r\n" + packet + second, "hello\r\nSSH-2.0-x\r\n" + packet, "SSH-1.99-y\n"},
       [&](const std::string& input) {
         if (const auto offer = net::parse_offer(input)) {
           for (const auto& m : net::mismatches(*offer, {"a", "b", "c", "d"}))
             ASSERT_FALSE(m.sentence(true).empty());
         }
         int fds[2];
         ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
         unique_fd theirs{fds[1]};
         net::ssh_session session{unique_fd{fds[0]}, options, steady_clock::now()};
         (void)session.pump(steady_clock::now());
         (void)!::write(theirs.get(), input.data(), input.size());
         theirs.reset();
         bool has_ended = false;
         for (int i = 0; i < 20 && !has_ended; ++i)
           for (const auto& e : session.pump(steady_clock::now())) {
             ASSERT_FALSE(std::holds_alternative<net::ssh_authenticated>(e));
             has_ended = has_ended || std::holds_alternative<net::ssh_ended>(e);
           }
         ASSERT_TRUE(has_ended);
       });
}
