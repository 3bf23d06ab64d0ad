#pragma once
// A server with a remote shell, and certificates of the test's own.
#include <gtest/gtest.h>

#include "tests/support/program_parts.hpp"

namespace ntrace::test {

/// Certificates: a server, an operator and a viewer, and one that somebody else has signed.
class shell_world : public ::testing::Test {
protected:
  static void SetUpTestSuite() {
    files = std::make_unique<scratch>();
    for (const char* ca : {"operators", "viewers", "others"}) make_authority(ca);
    sign("server", "operators");
    sign("operator", "operators");
    sign("viewer", "viewers");
    sign("other", "others");
  }
  static void TearDownTestSuite() { files.reset(); }

  static void openssl(std::vector<std::string> words) {
    subprocess_spec spec;
    spec.argv = {"openssl"};
    spec.argv.insert(spec.argv.end(), words.begin(), words.end());
    spec.cwd = files->path();
    const auto done = ok(run_subprocess(spec));
    ASSERT_TRUE(done.ok()) << done.err;
  }
  static void make_authority(const std::string& name) {
    openssl({"req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
             "-keyout", name + ".key", "-out", name + ".pem", "-subj", "/CN=" + name, "-days",
             "2"});
  }
  static void sign(const std::string& name, const std::string& by) {
    openssl({"req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
             name + ".key", "-out", name + ".csr", "-subj", "/CN=" + name});
    openssl({"x509", "-req", "-in", name + ".csr", "-CA", by + ".pem", "-CAkey", by + ".key",
             "-CAcreateserial", "-out", name + ".pem", "-days", "2"});
  }

  /// The flags of a server with both shells and, unless `more` says so, no workers.
  static std::vector<std::string> listening(const std::vector<std::string>& more = {}) {
    std::vector<std::string> out{"--shell",
                                 "127.0.0.1:" + std::to_string(view_port),
                                 "--shell-operator",
                                 "127.0.0.1:" + std::to_string(act_port),
                                 "--shell-cert-file",
                                 *files / "server.pem",
                                 "--shell-key-file",
                                 *files / "server.key",
                                 "--shell-operator-ca-file",
                                 *files / "operators.pem"};
    out.insert(out.end(), more.begin(), more.end());
    if (std::find(more.begin(), more.end(), "--workers") == more.end())
      out.insert(out.end(), {"--workers", "0"});
    return out;
  }
  static subprocess_result as_viewer(std::vector<std::string> words) {
    words.insert(words.begin(), {"shell", "127.0.0.1:" + std::to_string(view_port)});
    return run_ntrace(std::move(words));
  }
  static subprocess_result with(const std::string& who, std::vector<std::string> words) {
    words.insert(words.begin(), {"shell", "127.0.0.1:" + std::to_string(act_port), "--cert",
                                 *files / (who + ".pem"), "--key", *files / (who + ".key"), "--ca",
                                 *files / "operators.pem"});
    return run_ntrace(std::move(words));
  }
  static json actor(const json& rows, const std::string& path) {
    for (const auto& row : rows)
      if (row["actor"] == path) return row;
    return {};
  }

  static inline std::unique_ptr<scratch> files;
  static inline int view_port = 0, act_port = 0;
  void SetUp() override {
    view_port = free_port();
    act_port = free_port();
  }
  scratch dir;
};

}  // namespace ntrace::test
