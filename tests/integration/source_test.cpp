// Sources from a real git repository and a real HTTPS server with its own authority.
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
