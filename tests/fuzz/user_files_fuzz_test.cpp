// Files that a user gives, mutated: keys, certificates, configurations, lists. None ends the
// process.
#include <gtest/gtest.h>
#include <libssh/libssh.h>

#include "actors/runner/source_spec.hpp"
#include "actors/runner/worker_store.hpp"
#include "config/base64.hpp"
#include "config/json_parse.hpp"
#include "config/settings.hpp"
#include "config/tls_files.hpp"
#include "net/ssh_key.hpp"
#include "net/ssh_names.hpp"
#include "tests/fuzz/fuzz.hpp"
#include "tests/support/leaks_allowed.hpp"
#include "tests/support/ok.hpp"
#include "tests/support/scratch.hpp"

using namespace ntrace;
using test::fuzz;
using test::ok;

namespace {

constexpr std::string_view key_head = "-----BEGIN OPENSSH PRIVATE KEY-----\n";
constexpr std::string_view key_tail = "\n-----END OPENSSH PRIVATE KEY-----\n";
const auto no_env = [](const std::string&) { return std::optional<std::string>{}; };

/// The bytes of an OpenSSH private key; other files as they are.
std::string key_bytes(const std::string& file) {
  const auto from = file.find(key_head);
  const auto to = file.find(key_tail);
  if (from == file.npos || to == file.npos) return file;
  std::string digits;
  for (const char c : file.substr(from + key_head.size(), to - from - key_head.size()))
    if (c != '\n') digits += c;
  return from_base64(digits).value_or("");
}

std::string key_file(const std::string& bytes) {
  return std::string{key_head} + to_base64(bytes) + std::string{key_tail};
}

/// What stands inside an encrypted part cannot be looked at before. Of some such parts libssh 0.10
/// loses a few bytes each time that it reads them, and is forgiven. Of a plain key it must not.
bool is_imported(const std::string& text, bool is_encrypted) {
  std::optional<test::leaks_allowed> here;
  if (is_encrypted) here.emplace();
  ssh_key_struct* key = nullptr;
  const bool done =
      ::ssh_pki_import_privkey_base64(text.c_str(), "secret", nullptr, nullptr, &key) == SSH_OK;
  ::ssh_key_free(key);
  return done;
}

}  // namespace

/// Whatever passes our look at the envelope, libssh reads without harm.
TEST(fuzz_user_files, private_keys) {
  std::vector<std::string> seeds;
  for (const auto& file : test::corpus("ssh_key", {})) seeds.push_back(key_bytes(file));
  std::size_t imported = 0;
  fuzz("none", seeds, [&](const std::string& input) {
    for (const auto& text : {key_file(input), input}) {
      const auto key = net::parse_private_key(text, "/k");
      if (!key) {
        ASSERT_EQ(key.error().code, ec::bad_key);
        ASSERT_LT(key.error().message.size(), 600u);
      } else if (is_imported(key->text, key->is_encrypted)) {
        ++imported;
      }
    }
  });
  EXPECT_GT(imported, 0u);
}

/// What an encrypted part may hold, given to libssh without our look at it.
TEST(fuzz_user_files, what_a_decrypted_key_may_hold) {
  for (const auto* name : {"ed25519_plain", "ecdsa_plain", "ecdsa384_plain"}) {
    const auto bytes =
        key_bytes(ok(read_file(std::string{NTRACE_TESTS} + "/data/fuzz/ssh_key/" + name)));
    net::ssh_reader in{std::string_view{bytes}.substr(15)};
    for (int i = 0; i < 3; ++i) (void)in.string();
    (void)in.number();
    (void)in.string();
    const auto secret = std::string{in.string().value_or("")};
    const auto before = bytes.substr(0, bytes.size() - secret.size() - 4);
    fuzz("none", {secret}, [&](const std::string& input) {
      auto body = input;
      body.resize((body.size() + 7) / 8 * 8, '\x01');
      auto file = before;
      net::put_string(file, body);
      (void)is_imported(key_file(file), true);
    });
  }
}

TEST(fuzz_user_files, certificates_and_their_keys) {
  const test::scratch dir;
  fuzz("pem", {""}, [&](const std::string& input) {
    const auto file = dir.secret("pem", input);
    const auto read = read_authorities(file);
    const auto fits = check_certificate(file, file);
    ASSERT_TRUE(read || read.error().code == ec::bad_config);
    ASSERT_TRUE(fits || fits.error().code == ec::bad_config);
  });
}

TEST(fuzz_user_files, configurations) {
  const test::scratch dir;
  fuzz("toml",
       {"workers = 1\n", "data = '''\n'''\nworkers = 0x1\n", "[a.b.c]\nd.e = [[{f = 1}]]\n",
        "runner_name = \"\\u0000\\U0010ffff\"", "workers = 99999999999999999999",
        "a = 1979-05-27T07:32:00Z\nb = inf\n", "workers = 1\nworkers = 2\n"},
       [&](const std::string& input) {
         const auto got = settings::load(dir.file("c.toml", input), no_env, {});
         ASSERT_TRUE(got || got.error().code == ec::bad_config);
       });
}

TEST(fuzz_user_files, nested_as_deep_as_a_file_allows) {
  const test::scratch dir;
  const std::size_t many = 100'000;
  std::string dots = "a", objects;
  for (std::size_t i = 0; i < many; ++i) {
    dots += ".a";
    objects += "{\"a\":";
  }
  for (const auto& text :
       {"a = " + std::string(many, '['), "a = " + std::string(many, '[') + std::string(many, ']'),
        dots + " = 1\n", "[" + dots + "]\n", "[[" + dots + "]]\n", "a = { " + dots + " = 1 }\n",
        dots.substr(0, 8001) + " = 1\n", "a = \"" + std::string(many, '{')})
    EXPECT_EQ(test::code_of(settings::load(dir.file("deep.toml", text), no_env, {})),
              ec::bad_config);
  for (const auto& text :
       {std::string(many, '[') + std::string(many, ']'), objects + "1" + std::string(many, '}')}) {
    EXPECT_TRUE(parse_or_discard(text).is_discarded());
    ok(write_file_durably(dir / "workers.json", "[" + text + "]"));
    EXPECT_EQ(test::code_of(runner::load_workers(dir.path())), ec::io);
    EXPECT_EQ(test::code_of(runner::choose_script("{\"scripts\":" + text + "}")),
              ec::source_failed);
    EXPECT_FALSE(runner::needs_install("{\"dependencies\":" + text + "}", true));
  }
}

TEST(fuzz_user_files, lists_of_workers) {
  const test::scratch dir;
  fuzz("workers",
       {R"([{"uuid":"0b7dbd8e-5dd6-4a9d-a1d1-5d3a6c1e2f10","enrolled_ms":1}])",
        R"([{"uuid":"0b7dbd8e-5dd6-4a9d-a1d1-5d3a6c1e2f10","enrolled_ms":1e36}])",
        R"([{"uuid":7,"enrolled_ms":"x"}])", R"([{"uuid":"\ud800"}])", "[[]]", "{}", "[null]"},
       [&](const std::string& input) {
         (void)dir.file("workers.json", input);
         const auto got = runner::load_workers(dir.path());
         ASSERT_TRUE(got || got.error().code == ec::io);
       });
}
