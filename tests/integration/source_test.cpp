// Sources from a real git repository and a real HTTPS server with its own authority.
#include <gtest/gtest.h>

#include "actors/runner/git_remote.hpp"
#include "actors/runner/git_tree.hpp"
#include "actors/runner/source.hpp"
#include "actors/runner/ssh_remote.hpp"
#include "actors/zone/linux/bundle_format.hpp"
#include "config/outage.hpp"
#include "tests/support/free_port.hpp"
#include "tests/support/program_parts.hpp"
#include "tests/support/real_sshd.hpp"

using namespace ntrace;
using namespace ntrace::runner;
using namespace std::chrono_literals;
using test::code_of;
using test::ok;
using test::scratch;
using test::shell;

namespace {

result<bundle> fetch(const std::string& spec, source_options options, const scratch& dir) {
  std::filesystem::create_directories(dir / "scratch");
  options.scratch = dir / "scratch";
  auto got = fetch_source(ok(parse_source_spec(spec)), options, nullptr);
  EXPECT_TRUE(std::filesystem::is_empty(dir / "scratch")) << "a fetch left something behind";
  return got;
}

class https_server {
public:
  explicit https_server(const scratch& dir) {
    shell("cd " + dir.path() +
          " && openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 -subj "
          "/CN=test-ca 2>/dev/null"
          " && openssl req -newkey rsa:2048 -nodes -keyout key.pem -out r.csr -subj /CN=localhost "
          "2>/dev/null"
          " && printf 'subjectAltName=DNS:localhost' > ext && openssl x509 -req -in r.csr -CA "
          "ca.pem -CAkey ca.key -CAcreateserial -out cert.pem -days 2 -extfile ext 2>/dev/null"
          " && mkdir -p r-good && echo '{}' > r-good/package.json && tar czf good.tgz r-good");
    int in[2], out[2];
    EXPECT_EQ(::pipe2(in, O_CLOEXEC) + ::pipe2(out, O_CLOEXEC), 0);
    stdin_ = unique_fd{in[1]};
    const unique_fd child_in{in[0]}, child_out{out[1]}, from{out[0]};
    subprocess_spec spec;
    spec.argv = {"node", NTRACE_TESTS "/integration/https_server.js", dir / "cert.pem",
                 dir / "key.pem", dir / "good.tgz"};
    pid_ = ok(test::spawn_guarded(spec, child_in.get(), child_out.get(), -1));
    char line[16]{};
    EXPECT_GT(::read(from.get(), line, sizeof line - 1), 0);
    url = "https://localhost:" + std::to_string(std::atoi(line));
  }
  ~https_server() {
    stdin_.reset();
    ::waitpid(pid_, nullptr, 0);
  }
  https_server(const https_server&) = delete;
  https_server& operator=(const https_server&) = delete;
  std::string url;

private:
  unique_fd stdin_;
  int pid_ = -1;
};

}  // namespace

TEST(source_github, fetches_a_tarball_over_https_and_trusts_only_its_authority) {
  const scratch dir;
  const https_server github{dir};
  source_options options;
  options.github_url = github.url;
  const auto untrusted = fetch("github:o/r@good", options, dir);
  ASSERT_FALSE(untrusted) << "an unknown authority must be refused";
  EXPECT_EQ(outage_of(untrusted.error())->cause, outage_cause::untrusted);
  options.ca_file = dir / "ca.pem";
  const auto got = ok(fetch("github:o/r@good", options, dir));
  EXPECT_EQ(got.package_json, "{}\n");
  EXPECT_EQ(ok(fetch("github:o/r@moved", options, dir)).digest, got.digest);
  EXPECT_EQ(code_of(fetch("github:o/r@absent", options, dir)), ec::not_found);
  EXPECT_EQ(code_of(fetch("github:o/r@plain", options, dir)), ec::source_failed)
      << "a redirect to http must be refused";
  EXPECT_EQ(code_of(fetch("github:o/r@endless", options, dir)), ec::source_limit);
}

TEST(source_git, fetches_a_commit_a_tag_and_a_branch_of_a_local_mirror) {
  const scratch dir;
  shell("mkdir " + (dir / "w") + " && cd " + (dir / "w") +
        " && git init -q -b main . && echo '{\"v\":1}' > package.json && git add -A && git -c "
        "user.name=t -c user.email=t@t commit -qm 1 && git tag v1"
        " && echo '{\"v\":2}' > package.json && git -c user.name=t -c user.email=t@t commit -qam 2 "
        "&& git rev-parse v1 > ../first && git clone -q --bare . ../m.git");
  auto first = ok(read_file(dir / "first"));
  first.pop_back();
  const auto package = [&](const std::string& rev) {
    auto got = fetch("git+file://" + (dir / "m.git") + "#" + rev, {}, dir);
    return got                                          ? got->package_json
           : to_string(got.error().code) == "not_found" ? std::string{"not found"}
                                                        : to_string(got.error());
  };
  EXPECT_EQ(package("main"), "{\"v\":2}\n");
  EXPECT_EQ(package("v1"), "{\"v\":1}\n");
  EXPECT_EQ(package(first), "{\"v\":1}\n");
  EXPECT_EQ(package("0123456789012345678901234567890123456789"), "not found");
}

namespace {

std::optional<outage> outage_in(const result<bundle>& got) {
  return got ? std::nullopt : outage_of(got.error());
}

/// A repository `w` with one commit; its number.
std::string make_work(const scratch& dir) {
  shell("mkdir " + (dir / "w") + " && cd " + (dir / "w") +
        " && git init -q -b main . && echo '{}' > package.json && git add -A && git -c user.name=t "
        "-c user.email=t@t commit -qm 1 && git rev-parse HEAD > ../head");
  auto out = ok(read_file(dir / "head"));
  out.pop_back();
  return out;
}

}  // namespace

TEST(source_git,
     takes_a_mirror_that_is_not_there_for_an_outage_and_a_missing_commit_for_an_answer) {
  const scratch dir;
  const auto commit = make_work(dir);
  const auto mirror = dir / "m.git";
  const auto from = [&](const std::string& rev) {
    return fetch("git+file://" + mirror + "#" + rev, {}, dir);
  };
  EXPECT_EQ(outage_in(from(commit))->cause, outage_cause::absent);
  std::filesystem::create_directory(mirror);
  EXPECT_EQ(outage_in(from(commit))->cause, outage_cause::absent) << "not mounted";
  shell("cd " + mirror + " && git init -q --bare . && git remote add origin " + (dir / "w"));
  EXPECT_EQ(outage_in(from(commit))->cause, outage_cause::absent) << "a clone that has just begun";
  shell("cd " + mirror + " && git fetch -q origin '+refs/*:refs/*'");
  EXPECT_TRUE(from(commit));
  EXPECT_EQ(code_of(from(std::string(40, '0'))), ec::not_found);
  EXPECT_EQ(code_of(from("no-such-branch")), ec::not_found);
  shell("mkdir " + (dir / "other") + " && echo x > " + (dir / "other/file"));
  EXPECT_EQ(code_of(fetch("git+file://" + (dir / "other") + "#" + commit, {}, dir)), ec::not_found);
}

TEST(source_git, takes_servers_that_cannot_be_reached_for_outages) {
  const scratch dir;
  const auto closed = "127.0.0.1:" + std::to_string(test::free_port());
  for (const auto* scheme : {"https", "http", "ssh"}) {
    const auto got =
        fetch(std::string{"git+"} + scheme + "://" + closed + "/o/r.git#main", {}, dir);
    ASSERT_TRUE(outage_in(got)) << scheme << (got ? "" : to_string(got.error()));
    EXPECT_EQ(outage_in(got)->cause, outage_cause::refused) << scheme;
    EXPECT_TRUE(outage_in(got)->host.starts_with("127.0.0.1")) << outage_in(got)->host;
  }
  const auto unknown = fetch("git+https://forge.invalid/o/r.git#main", {}, dir);
  ASSERT_TRUE(outage_in(unknown)) << to_string(unknown.error());
  EXPECT_EQ(outage_in(unknown)->host, "forge.invalid");
}

TEST(source_git, takes_what_a_server_says_for_good_as_its_answer) {
  const scratch dir;
  const https_server server{dir};
  source_options options;
  options.ca_file = dir / "ca.pem";
  const auto code = [&](const std::string& path) {
    return fetch("git+" + server.url + path + "#main", options, dir);
  };
  EXPECT_EQ(code_of(code("/o/absent.git")), ec::not_found);
  EXPECT_EQ(code_of(code("/status/401.git")), ec::forbidden);
  EXPECT_EQ(code_of(code("/status/403.git")), ec::forbidden);
  EXPECT_EQ(outage_in(code("/status/503.git"))->cause, outage_cause::server_error);
  EXPECT_EQ(outage_in(code("/status/429.git"))->retry_after, 7s);
  const auto with_password =
      fetch("git+https://me:secret@" + server.url.substr(8) + "/status/503.git#main", options, dir);
  EXPECT_EQ(to_string(with_password.error()).find("secret"), std::string::npos);
}

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
  const auto held =
      ok(net::connect_tcp({"127.0.0.1", static_cast<std::uint16_t>(server.port)}, 5s));
  ASSERT_TRUE(net::wait_ready(held.get(), false, 5s));
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

TEST(source_github, waits_for_a_server_and_not_for_an_answer) {
  const scratch dir;
  source_options options;
  options.github_url = "https://127.0.0.1:" + std::to_string(test::free_port());
  EXPECT_EQ(outage_in(fetch("github:o/r@good", options, dir))->cause, outage_cause::refused);
  const https_server github{dir};
  options.ca_file = dir / "ca.pem";
  options.github_url = github.url + "/status/502";
  EXPECT_EQ(outage_in(fetch("github:o/r@good", options, dir))->cause, outage_cause::server_error);
  options.github_url = github.url + "/status/403";
  EXPECT_EQ(code_of(fetch("github:o/r@good", options, dir)), ec::forbidden);
}

TEST(source_npm, waits_for_a_registry_that_cannot_be_reached) {
  const scratch dir;
  source_options options;
  options.npm_registry = "https://127.0.0.1:" + std::to_string(test::free_port()) + "/";
  EXPECT_EQ(outage_in(fetch("npm:nano@4.1.4", options, dir))->cause, outage_cause::refused);
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

TEST(source_git, runs_no_hook_and_no_helper_of_the_repository_or_the_user) {
  const scratch dir;
  shell("mkdir " + (dir / "w") + " && cd " + (dir / "w") +
        " && git init -q -b main . && printf '*.json filter=evil\\n' > .gitattributes && echo '{}' "
        "> package.json && git add -A && git -c user.name=t -c user.email=t@t commit -qm 1"
        " && git config filter.evil.smudge 'touch " +
        (dir / "evil") + "' && for h in post-checkout pre-receive; do printf '#!/bin/sh\\ntouch " +
        (dir / "evil") + "\\n' > .git/hooks/$h; chmod +x .git/hooks/$h; done");
  EXPECT_TRUE(fetch("git+" + (dir / "w") + "#main", {}, dir));
  EXPECT_FALSE(std::filesystem::exists(dir / "evil"));
}

namespace {

/// "kind mode path content" of each entry of a bundle, in order.
std::vector<std::string> entries_of(const bundle& from) {
  std::vector<std::string> out;
  for (;;) {
    zone::bundle_header head{};
    EXPECT_TRUE(read_all(from.file.get(), &head, sizeof head));
    if (head.kind == zone::bundle_kind::end) return out;
    std::string path(head.path_bytes, '\0'), content;
    EXPECT_TRUE(read_all(from.file.get(), path.data(), path.size()));
    if (head.kind != zone::bundle_kind::folder) content.resize(head.size);
    EXPECT_TRUE(read_all(from.file.get(), content.data(), content.size()));
    const char* kind = head.kind == zone::bundle_kind::folder    ? "d "
                       : head.kind == zone::bundle_kind::symlink ? "l "
                                                                 : "f ";
    char mode[8];
    std::snprintf(mode, sizeof mode, "%o ", static_cast<unsigned>(head.mode));
    out.push_back(kind + std::string{mode} + path + " " + content);
  }
}

const std::string commit_all =
    " && git add -A && git -c user.name=t -c user.email=t@t commit -qm x";

}  // namespace

TEST(source_git, gives_every_byte_of_the_commit_whatever_its_attributes_say) {
  const scratch dir;
  shell("mkdir " + (dir / "w") + " && cd " + (dir / "w") +
        " && git init -q -b main . && printf 'hidden export-ignore\nsubst.txt export-subst\n"
        "crlf.txt text eol=crlf\nid.txt ident\n' > .gitattributes && mkdir hidden && echo h > "
        "hidden/bench.js && printf '$Format:%%H$\n' > subst.txt && printf 'a\nb\n' > crlf.txt"
        " && printf '$Id$\n' > id.txt && printf '#!/bin/sh\n' > run.sh && chmod +x run.sh"
        " && ln -s hidden/bench.js link && printf x > 'blank in name' && : > empty && printf x > A"
        " && printf y > a && mkdir \"$(printf 'latin\\351')\" && printf z > \"$(printf "
        "'latin\\351/f')\"" +
        commit_all);
  const auto seen = entries_of(ok(fetch("git+" + (dir / "w") + "#main", {}, dir)));
  const auto has = [&](const std::string& one) {
    return std::find(seen.begin(), seen.end(), one) != seen.end();
  };
  for (const std::string one :
       {"f 644 hidden/bench.js h\n", "f 644 subst.txt $Format:%H$\n", "f 644 crlf.txt a\nb\n",
        "f 644 id.txt $Id$\n", "f 755 run.sh #!/bin/sh\n", "l 777 link hidden/bench.js",
        "f 644 blank in name x", "f 644 empty ", "f 644 A x", "f 644 a y", "d 755 hidden ",
        "f 644 latin\351/f z"})
    EXPECT_TRUE(has(one)) << one << "\n" << ::testing::PrintToString(seen);
  EXPECT_EQ(seen.size(), 14u) << ::testing::PrintToString(seen);
}

TEST(source_git, fetches_submodules_of_submodules_and_names_those_that_cannot_be_had) {
  const scratch dir;
  const std::string git = "git -c protocol.file.allow=always -c user.name=t -c user.email=t@t ";
  shell("cd " + dir.path() +
        " && for r in inner outer top; do git init -q -b main $r; done"
        " && cd inner && echo deep > deep.txt" +
        commit_all + " && cd ../outer && echo mid > mid.txt && " + git +
        "submodule --quiet add ../inner in" + commit_all +
        " && cd ../top && echo '{}' > package.json && " + git +
        "submodule --quiet add ../outer vendor/outer && " + git +
        "submodule --quiet add ../inner lost && " + git +
        "submodule --quiet add ../inner evil"
        " && git config -f .gitmodules submodule.lost.url ../nowhere"
        " && git config -f .gitmodules submodule.evil.url 'ext::sh -c \"touch " +
        (dir / "evil") + "\"'" + commit_all);
  auto got = ok(fetch("git+file://" + (dir / "top") + "#main", {}, dir));
  const auto notices = got.tree.notices();
  const auto seen = entries_of(got);
  const auto has = [&](const std::string& one) {
    return std::find(seen.begin(), seen.end(), one) != seen.end();
  };
  EXPECT_TRUE(has("f 644 vendor/outer/mid.txt mid\n")) << ::testing::PrintToString(seen);
  EXPECT_TRUE(has("f 644 vendor/outer/in/deep.txt deep\n")) << ::testing::PrintToString(seen);
  EXPECT_TRUE(has("d 755 lost ")) << "git leaves an empty folder";
  ASSERT_EQ(notices.size(), 2u) << nlohmann::json(notices).dump(1);
  EXPECT_EQ(notices[0]["path"], "evil");
  EXPECT_EQ(notices[1]["path"], "lost");
  EXPECT_EQ(notices[1]["url"], "../nowhere");
  EXPECT_FALSE(std::filesystem::exists(dir / "evil"));
}

namespace {

/// A repository `top` whose commit names submodules: each a path and a URL, at a commit that
/// nobody has.
std::string make_top(const scratch& dir,
                     const std::vector<std::pair<std::string, std::string>>& submodules) {
  std::string script = "cd " + dir.path() + " && git init -q -b main top && cd top";
  int count = 0;
  for (const auto& [path, url] : submodules) {
    const auto key = " submodule.m" + std::to_string(count++);
    script += " && git update-index --add --cacheinfo 160000," + std::string(40, 'c') + "," + path +
              " && git config -f .gitmodules" + key + ".path " + path +
              " && git config -f .gitmodules" + key + ".url '" + url + "'";
  }
  shell(script + " && git add .gitmodules && git -c user.name=t -c user.email=t@t commit -qm x");
  return "git+file://" + (dir / "top") + "#main";
}

std::vector<nlohmann::json> notices_of(const std::string& spec, const source_options& options,
                                       const scratch& dir) {
  return ok(fetch(spec, options, dir)).tree.notices();
}

}  // namespace

TEST(source_git, waits_for_the_server_of_a_submodule_and_says_which) {
  for (const std::string url : {"https://u:secret@forge.invalid/o/r", "git@forge.invalid:o/r.git",
                                "ssh://git@forge.invalid/o/r.git"}) {
    const scratch dir;
    const auto got = fetch(make_top(dir, {{"lib/a", url}}), {}, dir);
    ASSERT_TRUE(outage_in(got)) << url << (got ? "" : to_string(got.error()));
    EXPECT_TRUE(outage_in(got)->host.starts_with("forge.invalid")) << outage_in(got)->host;
    EXPECT_EQ(outage_in(got)->message.find("the submodule lib/a: "), 0u) << got.error().message;
    EXPECT_EQ(got.error().message.find("secret"), std::string::npos) << got.error().message;
  }
}

TEST(source_git, names_a_submodule_that_its_server_denies_or_does_not_have) {
  const scratch dir;
  const https_server server{dir};
  shell("cd " + dir.path() + " && git init -q -b main lib && cd lib && echo x > x" + commit_all);
  source_options options;
  options.ca_file = dir / "ca.pem";
  const auto host = server.url.substr(8);
  const auto notices = notices_of(make_top(dir, {{"a", "https://u:secret@" + host + "/status/403"},
                                                 {"b", server.url + "/o/absent.git"},
                                                 {"c", "../lib"}}),
                                  options, dir);
  ASSERT_EQ(notices.size(), 3u) << nlohmann::json(notices).dump(1);
  const auto says = [&](std::size_t at, const std::string& words) {
    const auto message = notices[at]["message"].get<std::string>();
    EXPECT_NE(message.find(words), std::string::npos) << message;
    EXPECT_EQ(message.find("secret"), std::string::npos) << message;
  };
  says(0, "403");
  says(1, "404");
  says(2, (dir / "lib") + " has no commit " + std::string(40, 'c'));
}

TEST(source_git, names_each_submodule_that_is_not_fetched_for_what_it_says) {
  const scratch dir;
  const auto spec = make_top(dir, {{"a", "-u./x"},
                                   {"b", "--upload-pack=touch evil"},
                                   {"c", "ext::touch evil"},
                                   {"d", "ssh://-oProxyCommand=touch/x"},
                                   {"e", "../../../../../../../../../../x"},
                                   {"f", "fd::1"},
                                   {"g", "git://h.example/x"}});
  shell("cd " + (dir / "top") + " && git update-index --add --cacheinfo 160000," +
        std::string(40, 'd') + ",unnamed && git config -f .gitmodules submodule.x.path ../leaves" +
        " && git config -f .gitmodules submodule.x.url ../lib && git config -f .gitmodules "
        "'submodule.../../y.path' .git/y && git config -f .gitmodules 'submodule.../../y.url' "
        "../lib && git add .gitmodules && git -c user.name=t -c user.email=t@t commit -qm y");
  auto got = ok(fetch(spec, {}, dir));
  const auto notices = got.tree.notices();
  ASSERT_EQ(notices.size(), 8u) << nlohmann::json(notices).dump(1);
  EXPECT_EQ(notices[7]["path"], "unnamed");
  EXPECT_NE(notices[7]["message"].get<std::string>().find(".gitmodules does not name it"),
            std::string::npos);
  for (const auto& entry : entries_of(got))
    EXPECT_TRUE(entry.starts_with("d 755 ") || entry.starts_with("f 644 .gitmodules")) << entry;
  EXPECT_FALSE(std::filesystem::exists(dir / "evil"));
}

TEST(source_git, says_that_submodules_are_too_many_where_they_are) {
  const scratch dir;
  shell("cd " + dir.path() + " && git init -q -b main lib && cd lib && echo x > x" + commit_all +
        " && cd .. && git init -q -b main top && cd top && id=$(git -C ../lib rev-parse HEAD)"
        " && for i in $(seq 66); do printf '[submodule \"%s\"]\npath = m%s\nurl = ../lib\n' $i $i"
        " >> .gitmodules; printf '160000 %s\tm%s\n' $id $i; done | git update-index --index-info"
        " && git add .gitmodules && git -c user.name=t -c user.email=t@t commit -qm x");
  const auto notices = notices_of("git+file://" + (dir / "top") + "#main", {}, dir);
  ASSERT_EQ(notices.size(), 2u) << nlohmann::json(notices).dump(1);
  EXPECT_NE(notices[0]["message"].get<std::string>().find("there are more than 64"),
            std::string::npos)
      << notices[0];
}

TEST(source_git, keeps_strange_names_and_refuses_what_no_checkout_would_have) {
  const scratch dir;
  shell("mkdir " + (dir / "w") + " && cd " + (dir / "w") +
        " && git init -q -b main . && echo 1 > 'back\\slash' && echo 2 > \"$(printf '\\303\\251')\""
        " && echo 3 > '-rf' && echo 4 > README && echo 5 > readme && ln -s ../w/readme inside"
        " && rm inside && mkdir a && ln -s ../readme a/up" +
        commit_all + " && git branch good && ln -s /etc/passwd out" + commit_all +
        " && git branch leaves && git rm -q out && touch \"$(printf 'a\\nb')\"" + commit_all +
        " && git branch newline && git reset -q --hard good"
        " && blob=$(git hash-object -w readme) && inner=$(printf '100644 blob %s\tconfig\n' $blob"
        " | git mktree) && id=$(printf '40000 .GIT\\0' > ../t; echo $inner | xxd -r -p >> ../t;"
        " git hash-object -t tree -w --literally ../t) && git update-ref refs/heads/dotgit "
        "$(git -c user.name=t -c user.email=t@t commit-tree -m x $id)");
  const auto at = [&](const std::string& branch) {
    return fetch("git+" + (dir / "w") + "#" + branch, {}, dir);
  };
  const auto seen = entries_of(ok(at("good")));
  const std::vector<std::string> wanted{
      "f 644 -rf 3\n",         "f 644 README 4\n", "d 755 a ",          "l 777 a/up ../readme",
      "f 644 back\\slash 1\n", "f 644 readme 5\n", "f 644 \303\251 2\n"};
  EXPECT_EQ(seen, wanted);
  for (const std::string branch : {"leaves", "newline", "dotgit"})
    EXPECT_EQ(code_of(at(branch)), ec::source_hostile) << branch;
}

TEST(source_git, leaves_pointers_as_they_are_and_says_how_much_is_missing) {
  const scratch dir;
  const std::string text =
      "version https://git-lfs.github.com/spec/v1\noid sha256:" + std::string(64, 'b') +
      "\nsize 7000\n";
  dir.file("w/art/pic.bin", text);
  dir.file("w/.gitattributes", "*.bin filter=lfs diff=lfs merge=lfs -text\n");
  shell("cd " + (dir / "w") + " && git init -q -b main ." + commit_all);
  auto got = ok(fetch("git+" + (dir / "w") + "#main", {}, dir));
  const auto notices = got.tree.notices();
  const auto seen = entries_of(got);
  EXPECT_TRUE(std::find(seen.begin(), seen.end(), "f 644 art/pic.bin " + text) != seen.end());
  ASSERT_EQ(notices.size(), 1u);
  EXPECT_EQ(notices[0]["bytes"], 7000);
  EXPECT_EQ(notices[0]["paths"], nlohmann::json{"art/pic.bin"});
  EXPECT_NE(notices[0]["message"].get<std::string>().find("git lfs migrate export"),
            std::string::npos);
}

TEST(source_git, reads_no_file_of_the_runner_for_a_submodule_of_a_server) {
  const scratch dir;
  shell("cd " + dir.path() + " && git init -q -b main s && cd s && echo secret > f" + commit_all);
  EXPECT_EQ(refusal_of_submodule("https://h.example/r", dir / "s"),
            "it lies on the disk of its author");
}

TEST(source_dir, names_an_empty_submodule_and_pointers) {
  const scratch dir;
  dir.file("d/.gitmodules", "[submodule \"x\"]\n\tpath = x\n\turl = ../x.git\n");
  dir.file("d/pic.bin", "version https://git-lfs.github.com/spec/v1\noid sha256:" +
                            std::string(64, 'b') + "\nsize 7\n");
  std::filesystem::create_directories(dir / "d/x");
  const auto notices = ok(fetch(dir / "d", {}, dir)).tree.notices();
  ASSERT_EQ(notices.size(), 2u);
  EXPECT_EQ(notices[0]["path"], "x");
  EXPECT_EQ(notices[1]["paths"][0], "pic.bin");
}

TEST(source_git, can_be_cancelled) {
  const scratch dir;
  cancellation stop;
  stop.raise();
  source_options options;
  options.scratch = dir.path();
  EXPECT_EQ(code_of(fetch_source(ok(parse_source_spec("git+file:///x#y")), options, &stop)),
            ec::cancelled);
}

TEST(source_npm, fetches_a_package_and_checks_its_integrity) {
  const scratch dir;
  const auto got = ok(fetch("npm:nano@4.1.4", {}, dir));
  EXPECT_NE(got.package_json.find("\"nano\""), std::string::npos);
  EXPECT_EQ(code_of(fetch("npm:nano@0.0.0-absent", {}, dir)), ec::not_found);
}
