// Sources from a real git repository and a real HTTPS server with its own authority.
#include <gtest/gtest.h>

#include "actors/runner/source.hpp"
#include "tests/support/program_parts.hpp"

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
  EXPECT_EQ(code_of(fetch("github:o/r@good", options, dir)), ec::source_failed)
      << "an unknown authority must be refused";
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
