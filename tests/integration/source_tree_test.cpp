// The tree of a commit as a run has it: every byte, submodules, pointers, strange names.
#include "actors/runner/git_tree.hpp"
#include "actors/zone/linux/bundle_format.hpp"
#include "tests/support/source_world.hpp"

using namespace ntrace;
using namespace ntrace::runner;
using namespace std::chrono_literals;
using test::code_of;
using test::fetch;
using test::https_server;
using test::make_work;
using test::ok;
using test::outage_in;
using test::scratch;
using test::shell;

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
  options.allow = {ok(net::parse_allow_entry(host))};
  const auto top = make_top(dir, {{"a", server.url + "/status/403"}});
  EXPECT_NE(notices_of(top, options, dir)[0]["message"].get<std::string>().find("private address"),
            std::string::npos)
      << "a commit must not make the runner call what only its own network can";
  std::filesystem::remove_all(dir / "top");
  options.allow[0].allow_private = true;
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
