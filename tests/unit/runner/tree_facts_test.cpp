// What a source's tree says of itself: submodules, Git LFS, and where its packages come from.
#include "actors/runner/tree_facts.hpp"

#include <gtest/gtest.h>

#include "actors/runner/install_sources.hpp"
#include "actors/runner/npm_words.hpp"
#include "actors/runner/registry_settings.hpp"
#include "tests/support/ok.hpp"

using namespace ntrace;
using namespace ntrace::runner;
using nlohmann::json;
using test::code_of;
using test::ok;

namespace {

const std::string pointer =
    "version https://git-lfs.github.com/spec/v1\noid sha256:" + std::string(64, 'a') +
    "\nsize 12345\n";

tree_facts tree_of(std::map<std::string, std::string> files) {
  tree_facts out;
  for (const auto& [path, content] : files) out.on_file(path, content);
  return out;
}

/// "host:port named_by" of each.
std::vector<std::string> hosts_of(std::map<std::string, std::string> files) {
  std::vector<std::string> out;
  for (const auto& one :
       ok(package_hosts(tree_of(std::move(files)), "https://registry.npmjs.org/")))
    out.push_back(one.host + ":" + std::to_string(one.port) + " " + one.named_by);
  return out;
}

}  // namespace

TEST(parse_gitmodules, reads_what_git_writes_and_what_people_write) {
  const auto got = parse_gitmodules(
      "[submodule \"a\"]\n\tpath = a/b\n\turl = https://x.example/a.git\n"
      "# a comment\n[other]\n\tpath = no\n"
      "[Submodule \"q\"]\r\n  URL=\"../q c.git\" ; why\r\n  Path = q\r\n"
      "[submodule \"no url\"]\n\tpath = n\n");
  ASSERT_EQ(got.size(), 2u);
  EXPECT_EQ(got[0].path + " " + got[0].url, "a/b https://x.example/a.git");
  EXPECT_EQ(got[1].path + " " + got[1].url, "q ../q c.git");
}

TEST(parse_gitmodules, puts_the_pieces_of_a_section_together) {
  const auto got = parse_gitmodules(
      "[submodule \"a \\\"b]\"] path = one\n[submodule \"c\"]\nurl = ../c\n"
      "[submodule \"a \\\"b]\"]\n url = ../one\n[submodule \"c\"]\npath = c\npath = two\n"
      "[submodule.d]\npath = d\nurl = ../d\n");
  ASSERT_EQ(got.size(), 2u);
  EXPECT_EQ(got[0].path + " " + got[0].url, "one ../one");
  EXPECT_EQ(got[1].path + " " + got[1].url, "two ../c");
}

TEST(resolve_submodule_url, is_relative_to_the_repository_and_never_leaves_its_host) {
  EXPECT_EQ(resolve_submodule_url("https://h/o/r.git", "../s.git"), "https://h/o/s.git");
  EXPECT_EQ(resolve_submodule_url("https://h/o/r.git/", "../../p/s.git"), "https://h/p/s.git");
  EXPECT_EQ(resolve_submodule_url("/srv/m/r.git", "./s"), "/srv/m/r.git/s");
  EXPECT_EQ(resolve_submodule_url("git@h:o/r", "../s"), "git@h:o/s");
  EXPECT_EQ(resolve_submodule_url("git@h:o/r", "../../p/s"), "git@h:p/s");
  EXPECT_EQ(resolve_submodule_url("git@h:r", "../s"), "git@h:s");
  EXPECT_EQ(resolve_submodule_url("git@h:r", "../../s"), "");
  EXPECT_EQ(resolve_submodule_url("git@h:/srv/r", "../s"), "git@h:/srv/s");
  EXPECT_EQ(resolve_submodule_url("https://h/r.git", "https://o/x"), "https://o/x");
  EXPECT_EQ(resolve_submodule_url("https://h/r.git", "../../x"), "");
}

TEST(refusal_of_submodule, lets_through_what_is_fetched_from_a_server) {
  for (const char* good : {"https://h/x", "http://h/x", "ssh://git@h/x", "git@h:o/x"})
    EXPECT_EQ(refusal_of_submodule("https://h/r", good), "") << good;
  for (const char* bad :
       {"", "-x", "ext::sh -c x", "fd::17", "git://h/x", "ssh://-oProxyCommand=x/y", "file:///etc",
        "/etc", "https://h/\nx", "foo", "transport::address"})
    EXPECT_NE(refusal_of_submodule("https://h/r", bad), "") << bad;
}

TEST(refusal_of_submodule, lets_through_what_lies_beside_its_repository_on_this_machine) {
  for (const char* parent : {"file:///srv/m/r.git", "/srv/m/r.git", "/srv/m/r.git/"})
    for (const char* good : {"file:///srv/m/s.git", "/srv/m/s.git", "/srv/m/r.git/nested"})
      EXPECT_EQ(refusal_of_submodule(parent, good), "") << parent << " " << good;
  for (const char* bad : {"/srv/other/private.git", "file:///srv/other/private.git", "/srv/mm/x",
                          "/srv/m/../other/x", "/srv/m/x/..", "/etc", "file:///"})
    EXPECT_NE(refusal_of_submodule("file:///srv/m/r.git", bad), "") << bad;
}

TEST(is_lfs_pointer, takes_exactly_what_the_specification_has) {
  EXPECT_TRUE(is_lfs_pointer(pointer));
  const auto with = [](const std::string& from, const std::string& to) {
    auto out = pointer;
    return out.replace(out.find(from), from.size(), to);
  };
  EXPECT_TRUE(is_lfs_pointer(with("oid", "ext-0-x sha256:1\noid")));
  EXPECT_TRUE(is_lfs_pointer(with("git-lfs.github.com", "hawser.github.com")));
  for (const auto& bad :
       {with("spec/v1", "spec/v2"), with("size 12345\n", ""), with("size 12345\n", "size 12345"),
        with("size 12345", "size -1"), with("oid sha256:a", "oid sha256:"), with("oid", "zoid"),
        "\n" + pointer, pointer + "more\n", pointer + std::string(1024, 'x') + "\n", std::string{}})
    EXPECT_FALSE(is_lfs_pointer(bad)) << bad;
}

TEST(tree_facts, names_empty_submodules_pointers_and_what_an_archive_leaves_out) {
  auto tree = tree_of({{".gitmodules",
                        "[submodule \"a\"]\npath=lib/a\nurl=../a\n[submodule "
                        "\"b\"]\npath=lib/b\nurl=../b\n[submodule \"c\"]\npath=gone\n"
                        "url=../c\n"},
                       {"lib/b/x", "x"},
                       {"art/one.png", pointer},
                       {"art/two.png", pointer},
                       {"art/none.png", "version https://git-lfs.github.com/spec/v1\n"},
                       {".gitattributes", "*.png filter=lfs\nbench export-ignore\n"}});
  tree.on_folder("lib/a");
  tree.on_folder("lib/b");
  tree.find_empty_submodules("why");
  tree.advise_of_pointers("do this");
  tree.find_archive_attributes("git+https://h/o/r#s");
  const auto notices = tree.notices();
  ASSERT_EQ(notices.size(), 3u) << json(notices).dump(1);
  EXPECT_EQ(notices[0]["code"], "submodule_missing");
  EXPECT_EQ(notices[0]["path"], "lib/a");
  EXPECT_EQ(notices[0]["url"], "../a");
  EXPECT_EQ(notices[1]["code"], "lfs_missing");
  EXPECT_EQ(notices[1]["count"], 2);
  EXPECT_EQ(notices[1]["bytes"], 24690);
  EXPECT_EQ(notices[1]["message"],
            "2 files are pointers of Git LFS, their contents (24690 bytes) were not fetched: "
            "art/one.png, art/two.png; do this");
  EXPECT_EQ(notices[1]["paths"], (json{"art/one.png", "art/two.png"}));
  EXPECT_EQ(notices[2]["code"], "archive_not_whole");
  EXPECT_NE(notices[2]["message"].get<std::string>().find("bench"), std::string::npos);
}

TEST(tree_facts, counts_the_bytes_behind_pointers_without_an_overflow) {
  const auto huge =
      "version https://git-lfs.github.com/spec/v1\noid sha256:" + std::string(64, 'a') +
      "\nsize 9999999999999999999\n";
  const auto notices = tree_of({{"a", huge}, {"b", huge}}).notices();
  EXPECT_EQ(notices[0]["bytes"], 18446744073709551615u);
  EXPECT_EQ(tree_of({{"a", pointer}}).notices()[0]["message"],
            "a file is a pointer of Git LFS, its content (12345 bytes) was not fetched: a");
}

TEST(tree_facts, repeats_no_password_of_a_submodule) {
  tree_facts tree;
  tree.on_missing({"a", "https://me:secret@h.example/a"}, "why");
  EXPECT_EQ(json(tree.notices()).dump().find("secret"), std::string::npos);
}

TEST(tree_facts, is_silent_of_a_tree_that_is_whole) {
  auto tree = tree_of({{"package.json", "{}"}, {"a.js", "x"}});
  tree.find_empty_submodules("why");
  EXPECT_TRUE(tree.notices().empty());
}

TEST(package_hosts, are_those_of_the_projects_own_registries_by_scope) {
  const std::string package =
      R"({"dependencies":{"ms":"2.1.3","@corp/x":"^1"},"devDependencies":{"@else/y":"*"}})";
  EXPECT_EQ(hosts_of({{"package.json", package}}),
            std::vector<std::string>{"registry.npmjs.org:443 the setting npm_registry"});
  EXPECT_EQ(hosts_of({{"package.json", package},
                      {".npmrc",
                       "; registry=https://no.example/\n@corp:registry = "
                       "\"https://user:secret@npm.Corp.example:8443/x/\"\n//npm.corp.example/"
                       ":_authToken=secret\n@unused:registry=https://unused.example/\n"}}),
            (std::vector<std::string>{"npm.corp.example:8443 .npmrc, line 2 (@corp:registry)",
                                      "registry.npmjs.org:443 the setting npm_registry"}));
  EXPECT_EQ(hosts_of({{"package.json", package}, {".npmrc", "registry=http://mirror.example"}}),
            std::vector<std::string>{"mirror.example:80 .npmrc, line 1 (registry)"});
}

TEST(package_hosts, take_a_value_of_npmrc_as_npm_does) {
  const std::string package = R"({"dependencies":{"ms":"2.1.3"}})";
  const std::vector<std::string> wanted{"npm.corp.example:443 .npmrc, line 1 (registry)"};
  for (const char* line :
       {"registry=https://npm.corp.example # ours", "registry = https://npm.corp.example;ours",
        "registry='https://npm.corp.example/'\r",
        "registry=https://npm.corp.example\n[x]\n"
        "registry=https://no.example"})
    EXPECT_EQ(hosts_of({{"package.json", package}, {".npmrc", line}}), wanted) << line;
}

TEST(package_hosts, are_those_that_yarn_pnpm_and_bun_are_told_of_unless_npmrc_says_another) {
  const std::string package = R"({"dependencies":{"ms":"1","@corp/x":"1"}})";
  using names = std::vector<std::string>;
  const auto of = [&](const char* file, const char* text) {
    return hosts_of({{"package.json", package}, {file, text}});
  };
  EXPECT_EQ(of(".yarnrc",
               "# registry \"https://no.example\"\nregistry \"https://a.example/\"\n"
               "\"@corp:registry\" \"https://c.example/\"\n"),
            (names{"c.example:443 .yarnrc, line 3 (@corp:registry)",
                   "a.example:443 .yarnrc, line 2 (registry)"}));
  EXPECT_EQ(of(".yarnrc.yml",
               "npmScopes:\n  corp:\n    npmAuthToken: secret\n    npmRegistryServer: "
               "\"https://c.example\"\nnpmRegistryServer: https://a.example # ours\n"),
            (names{"c.example:443 .yarnrc.yml, line 4 (@corp:registry)",
                   "a.example:443 .yarnrc.yml, line 5 (registry)"}));
  EXPECT_EQ(of("pnpm-workspace.yaml",
               "packages:\n  - a\nregistries:\n  default: https://a.example/\n"
               "  '@corp': https://c.example/\n"),
            (names{"c.example:443 pnpm-workspace.yaml, line 5 (@corp:registry)",
                   "a.example:443 pnpm-workspace.yaml, line 4 (registry)"}));
  EXPECT_EQ(of("bunfig.toml",
               "[install]\nregistry = { url = \"https://a.example\", token = \"secret\" }\n"
               "[install.scopes]\n\"@corp\" = \"https://c.example\"\n[run]\nregistry = "
               "\"https://no.example\"\n"),
            (names{"c.example:443 bunfig.toml, line 4 (@corp:registry)",
                   "a.example:443 bunfig.toml, line 2 (registry)"}));
  EXPECT_EQ(hosts_of({{"package.json", package},
                      {".yarnrc", "registry \"https://a.example/\""},
                      {".npmrc", "registry=https://own.example"}}),
            names{"own.example:443 .npmrc, line 1 (registry)"});
  // Both names of the public registry are what the setting npm_registry stands for.
  EXPECT_EQ(of(".yarnrc.yml", "npmRegistryServer: https://registry.yarnpkg.com\n"),
            names{"registry.npmjs.org:443 the setting npm_registry"});
}

TEST(package_hosts, are_those_of_a_yarn_lock_where_npm_reads_it) {
  const std::string package = R"({"dependencies":{"a":"1"}})";
  const std::string lock =
      "# yarn lockfile v1\n\na@1:\n  version \"1.0.0\"\n  resolved "
      "\"https://art.example/a.tgz#abc\"\nb@1:\n  resolved "
      "\"https://registry.yarnpkg.com/b/-/b-1.tgz\"\n";
  const std::string setting = "registry.npmjs.org:443 the setting npm_registry";
  EXPECT_EQ(hosts_of({{"package.json", package}, {"yarn.lock", lock}}),
            (std::vector<std::string>{setting, "art.example:443 yarn.lock, line 5"}));
  EXPECT_EQ(hosts_of({{"package.json", package}, {"yarn.lock", lock}, {"package-lock.json", "{}"}}),
            std::vector<std::string>{setting});
}

TEST(registry_settings, are_given_to_npm_where_it_does_not_read_them) {
  const registry_settings uut{
      tree_of({{".yarnrc.yml",
                "npmRegistryServer: https://a.example/x/ # y\nnpmScopes:\n  \"bad\\nscope\":\n"
                "    npmRegistryServer: https://b.example\n  corp:\n    npmRegistryServer: "
                "https://c.example\n"},
               {".npmrc", "@own:registry=https://o.example/\nregistry=https://n.example/\n"}})};
  EXPECT_EQ(uut.lines_for_npm(), (std::vector<std::string>{"registry=https://a.example/x/",
                                                           "@corp:registry=https://c.example"}));
}

TEST(package_hosts, have_the_urls_of_registries_and_of_nothing_else) {
  const auto hosts = ok(package_hosts(
      tree_of({{"package.json", R"({"dependencies":{"a":"https://r.example/t.tgz","b":"1",)"
                                R"("@own/c":"1","d":"https://t.example/d.tgz"}})"},
               {".npmrc",
                "@own:registry=https://me:secret@o.example/n/\n"
                "registry=https://r.example/npm\n"}}),
      "https://registry.npmjs.org/"));
  std::map<std::string, std::string> urls;
  for (const auto& one : hosts) urls[one.host] = one.url;
  EXPECT_EQ(urls, (std::map<std::string, std::string>{{"r.example", "https://r.example/npm"},
                                                      {"o.example", "https://o.example/n/"},
                                                      {"t.example", ""}}));
}

TEST(package_hosts, are_none_where_nothing_comes_from_outside) {
  EXPECT_TRUE(
      hosts_of({{"package.json", "{}"}, {".npmrc", "registry=https://x.example/"}}).empty());
  EXPECT_TRUE(
      hosts_of({{"package.json", R"({"dependencies":{"a":"file:../a","b":"workspace:*"}})"}})
          .empty());
  EXPECT_TRUE(hosts_of({{"package.json", "["}, {"package-lock.json", "{\"packages\":7}"}}).empty());
}

TEST(package_hosts, are_those_of_urls_in_package_and_lock_but_for_what_npm_replaces) {
  const std::string lock = R"({"packages":{"":{},"node_modules/a":{"resolved":
      "https://registry.npmjs.org/a/-/a-1.tgz"},"node_modules/b":{"resolved":
      "https://art.example/b-1.tgz"}}})";
  EXPECT_EQ(hosts_of({{"package.json", R"({"dependencies":{"t":"https://t.example/t.tgz"}})"},
                      {"package-lock.json", lock}}),
            (std::vector<std::string>{"t.example:443 package.json (t)",
                                      "art.example:443 package-lock.json (node_modules/b)"}));
  EXPECT_TRUE(
      hosts_of({{"package-lock.json", lock}, {".npmrc", "replace-registry-host=always"}}).empty());
  EXPECT_EQ(
      hosts_of({{"package-lock.json", lock}, {".npmrc", "replace-registry-host=never"}}).size(),
      2u);
  EXPECT_EQ(hosts_of({{"package-lock.json",
                       R"({"dependencies":{"a":{"dependencies":{"b":{"resolved":
                       "http://old.example:8080/b.tgz"}}}}})"}}),
            std::vector<std::string>{"old.example:8080 package-lock.json (b)"});
}

TEST(package_hosts, refuse_a_registry_that_is_no_url) {
  EXPECT_EQ(code_of(package_hosts(tree_of({{"package.json", R"({"dependencies":{"a":"1"}})"},
                                           {".npmrc", "registry=${NPM_HOST}"}}),
                                  "")),
            ec::install_failed);
  EXPECT_EQ(code_of(package_hosts(tree_of({{"package.json", R"({"dependencies":{"a":"1"}})"},
                                           {".npmrc", "registry=https://${NPM_HOST}/x/"}}),
                                  "")),
            ec::install_failed);
}

TEST(expect_reachable, says_what_to_add_and_no_secret) {
  const auto hosts =
      ok(package_hosts(tree_of({{"package.json", R"({"dependencies":{"a":"1"}})"},
                                {".npmrc", "registry=https://u:secret@npm.corp.example/"}}),
                       ""));
  EXPECT_TRUE(expect_reachable(hosts, [](const std::string&, std::uint16_t) { return true; }));
  const auto refused =
      expect_reachable(hosts, [](const std::string&, std::uint16_t) { return false; });
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ec::forbidden);
  EXPECT_NE(
      refused.error().message.find("add \"npm.corp.example:443\" to the setting network_allow"),
      std::string::npos);
  EXPECT_NE(refused.error().message.find(".npmrc, line 1 (registry)"), std::string::npos);
  EXPECT_EQ(refused.error().message.find("secret"), std::string::npos);
}

TEST(unheeded, names_other_locks_and_managers_when_something_is_installed) {
  const std::string with = R"({"dependencies":{"a":"1"},"packageManager":"pnpm@9.0.0"})";
  const auto seen = unheeded(tree_of({{"package.json", with}, {"yarn.lock", "x"}}));
  ASSERT_EQ(seen.size(), 1u);
  EXPECT_EQ(seen[0]["code"], "lock_unused");
  EXPECT_TRUE(seen[0]["message"].get<std::string>().starts_with(
      "yarn.lock, packageManager pnpm@9.0.0: not used"));
  EXPECT_TRUE(unheeded(tree_of({{"package.json", "{}"}, {"yarn.lock", "x"}})).empty());
  EXPECT_TRUE(unheeded(tree_of({{"package.json",
                                 R"({"dependencies":{"a":"1"},"packageManager":"npm@10.0.0"})"}}))
                  .empty());
}

TEST(unheeded, is_silent_of_a_yarn_lock_that_npm_reads) {
  const std::string with = R"({"dependencies":{"a":"1"}})";
  const std::string lock = "a@1:\n  resolved \"https://registry.yarnpkg.com/a/-/a-1.tgz\"\n";
  EXPECT_TRUE(unheeded(tree_of({{"package.json", with}, {"yarn.lock", lock}})).empty());
  EXPECT_EQ(
      unheeded(
          tree_of({{"package.json", with}, {"yarn.lock", lock}, {"npm-shrinkwrap.json", "{}"}}))
          .size(),
      1u);
  // The format of yarn 2 and later says nothing to npm.
  EXPECT_EQ(unheeded(tree_of({{"package.json", with},
                              {"yarn.lock", "\"a@npm:1\":\n  resolution: \"a@npm:1.0.0\"\n"}}))
                .size(),
            1u);
}

TEST(unheeded, names_what_of_npmrc_means_nothing_in_a_zone_and_no_secret) {
  const auto seen = unheeded(
      tree_of({{"package.json", R"({"dependencies":{"a":"1"}})"},
               {".npmrc",
                "https-proxy=http://u:secret@proxy.example:8080\nnoproxy=npm.corp.example\n"
                "//h.example/:_authToken=${NPM_TOKEN}\n//h.example/:_password=secret\n"
                "cafile=./certs/ca.pem\ncafile=./certs/gone.pem\nstrict-ssl=false\n"
                "registry=https://h.example\n//h.example/:keyfile=certs/ca.pem\n"},
               {"certs/ca.pem", "x"}}));
  std::vector<std::string> messages;
  for (const auto& one : seen) {
    EXPECT_EQ(one["code"], "npmrc_unused");
    messages.push_back(one["message"]);
  }
  EXPECT_EQ(
      messages,
      (std::vector<std::string>{
          ".npmrc, line 1 (https-proxy): not used: the only way out of a zone is the runner's "
          "own proxy",
          ".npmrc, line 2 (noproxy): not used: the only way out of a zone is the runner's own "
          "proxy",
          ".npmrc, line 3 (//h.example/:_authToken): names the variable NPM_TOKEN, which no "
          "zone has: npm takes the text as it stands",
          ".npmrc, line 6 (cafile): not used: there is no such file in the source"}));
}

TEST(npm_words, are_the_first_errors_in_pieces_and_without_passwords) {
  npm_words words;
  words.on_output("stderr", "npm warn x\nnpm err");
  words.on_output("stdout", "out npm error no\n");
  words.on_output("stderr",
                  "or code E404\nnpm error 404 https://u:p@h/x\nnpm error A complete log of this "
                  "run can be found in: x\nnpm ERR! third\n");
  words.on_output("stderr", "npm error fourth\n" + std::string(100'000, 'x'));
  EXPECT_EQ(words.first_errors(), "code E404; 404 https://h/x; third");
  EXPECT_EQ(npm_words{}.first_errors(), "");
}
