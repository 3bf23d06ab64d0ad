#pragma once
// Fetching as an attempt does, and an HTTPS server with its own authority.
#include <gtest/gtest.h>

#include "actors/runner/source.hpp"
#include "config/outage.hpp"
#include "tests/support/free_port.hpp"
#include "tests/support/program_parts.hpp"

namespace ntrace::test {

inline result<runner::bundle> fetch(const std::string& spec, runner::source_options options,
                                    const scratch& dir) {
  std::filesystem::create_directories(dir / "scratch");
  options.scratch = dir / "scratch";
  auto got = runner::fetch_source(ok(runner::parse_source_spec(spec)), options, nullptr);
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
    pid_ = ok(spawn_guarded(spec, child_in.get(), child_out.get(), -1));
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

inline std::optional<outage> outage_in(const result<runner::bundle>& got) {
  return got ? std::nullopt : outage_of(got.error());
}

/// A repository `w` with one commit; its number.
inline std::string make_work(const scratch& dir) {
  shell("mkdir " + (dir / "w") + " && cd " + (dir / "w") +
        " && git init -q -b main . && echo '{}' > package.json && git add -A && git -c user.name=t "
        "-c user.email=t@t commit -qm 1 && git rev-parse HEAD > ../head");
  auto out = ok(read_file(dir / "head"));
  out.pop_back();
  return out;
}

}  // namespace ntrace::test
