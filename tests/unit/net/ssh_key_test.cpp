// A runner's key file: what is read, what is refused, and the command that helps.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <functional>

#include "config/base64.hpp"
#include "config/file.hpp"
#include "config/subprocess.hpp"
#include "net/ssh_key.hpp"
#include "net/ssh_key_forms.hpp"
#include "net/ssh_keygen.hpp"
#include "tests/support/ok.hpp"
#include "tests/support/scratch.hpp"

using namespace ntrace;
using namespace ntrace::net;
using ntrace::test::code_of;
using ntrace::test::ok;

namespace {

/// A key file whose envelope is built by hand.
struct key_file {
  std::string cipher = "none", kdf = "none", kdf_options, secret;
  std::uint32_t keys = 1;
  std::string blob, behind;

  /// As `ssh-keygen` writes it, not encrypted.
  static key_file plain() {
    const auto pair = ok(make_ed25519_key());
    const auto from = pair.private_text.find("KEY-----\n") + 9;
    std::string digits;
    for (const char c : pair.private_text.substr(from, pair.private_text.find("-----END") - from))
      if (c != '\n') digits += c;
    const auto bytes = *from_base64(digits);
    ssh_reader in{std::string_view{bytes}.substr(15)};
    key_file out;
    for (int i = 0; i < 3; ++i) (void)in.string();
    (void)in.number();
    out.blob = *in.string();
    out.secret = *in.string();
    return out;
  }
  std::string text() const {
    std::string out{"openssh-key-v1\0", 15};
    for (const auto* part : {&cipher, &kdf, &kdf_options}) put_string(out, *part);
    put_number(out, keys);
    put_string(out, blob);
    put_string(out, secret);
    return "-----BEGIN OPENSSH PRIVATE KEY-----\n" + to_base64(out + behind) +
           "\n-----END OPENSSH PRIVATE KEY-----\n";
  }
  std::string why() const {
    const auto read = parse_private_key(text(), "/k/key");
    EXPECT_EQ(code_of(read), read ? ec::none : ec::bad_key);
    return read ? "" : read.error().message;
  }
};

std::string derivation(std::uint32_t rounds, std::size_t salt = 16) {
  std::string out;
  put_string(out, std::string(salt, 's'));
  put_number(out, rounds);
  return out;
}

key_file encrypted(const std::string& cipher, std::uint32_t rounds = 16) {
  auto out = key_file::plain();
  out.cipher = cipher;
  out.kdf = "bcrypt";
  out.kdf_options = derivation(rounds);
  out.secret.resize(144, 'x');
  return out;
}

bool holds(const std::string& text, const std::string& part) {
  return text.find(part) != text.npos;
}

}  // namespace

TEST(ssh_key, makes_keys_that_it_reads_again) {
  test::scratch dir;
  const auto made = ok(write_new_key(dir / "key", "a runner"));
  const auto read = ok(read_private_key(dir / "key"));
  EXPECT_EQ(read.shown, made);
  EXPECT_FALSE(read.is_encrypted);
  EXPECT_EQ(ok(read_file(dir / "key.pub")), key_text(made) + " a runner\n");
  struct stat file {};
  ASSERT_EQ(::stat((dir / "key").c_str(), &file), 0);
  EXPECT_EQ(file.st_mode & 0777, 0600u);
  EXPECT_EQ(code_of(write_new_key(dir / "key", "again")), ec::bad_key) << "never over an old one";
}

TEST(ssh_key, makes_keys_that_openssh_reads) {
  test::scratch dir;
  const auto made = ok(write_new_key(dir / "key", "a runner"));
  EXPECT_NE(ok(make_ed25519_key()).shown, made) << "each is another";
  subprocess_spec shown;
  shown.argv = {"ssh-keygen", "-y", "-P", "", "-f", dir / "key"};
  const auto done = ok(run_subprocess(shown));
  EXPECT_EQ(done.exit_code, 0) << done.err;
  EXPECT_EQ(done.out.substr(0, done.out.find_first_of("\n")), key_text(made));
  EXPECT_TRUE(ok(read_file(dir / "key")).starts_with("-----BEGIN OPENSSH PRIVATE KEY-----\n"));
}

TEST(ssh_key, refuses_files_that_are_not_safe_or_not_usable_and_names_the_mend) {
  test::scratch dir;
  ok(write_new_key(dir / "key", "x"));
  ::chmod((dir / "key").c_str(), 0640);
  const auto open = read_private_key(dir / "key");
  EXPECT_NE(open.error().message.find("chmod 600"), std::string::npos);
  EXPECT_NE(read_private_key(dir / "none").error().message.find("keygen"), std::string::npos);
  ::mkdir((dir / "folder").c_str(), 0700);
  EXPECT_EQ(code_of(read_private_key(dir / "folder")), ec::bad_key);
  EXPECT_EQ(code_of(parse_private_key("-----BEGIN RSA PRIVATE KEY-----", "key")), ec::bad_key);
  // The head of an RSA key in the same format.
  std::string rsa{"openssh-key-v1\0", 15};
  for (const auto* part : {"none", "none", ""}) put_string(rsa, part);
  put_number(rsa, 1);
  std::string blob;
  put_string(blob, "ssh-rsa");
  put_string(blob, "n");
  put_string(rsa, blob);
  const auto refused = parse_private_key("-----BEGIN OPENSSH PRIVATE KEY-----\n" + to_base64(rsa) +
                                             "\n-----END OPENSSH PRIVATE KEY-----\n",
                                         "key");
  ASSERT_EQ(code_of(refused), ec::bad_key);
  EXPECT_NE(refused.error().message.find("ssh-rsa"), std::string::npos);
}

TEST(ssh_key, refuses_ciphers_that_the_library_cannot_read_and_names_the_command) {
  for (const auto* cipher : {"aes128-ctr", "aes192-ctr", "aes256-ctr", "aes128-cbc", "aes192-cbc",
                             "aes256-cbc", "3des-cbc"})
    EXPECT_EQ(encrypted(cipher).why(), "") << cipher;
  for (const auto* cipher :
       {"aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "chacha20-poly1305@openssh.com",
        "blowfish-cbc", "AES256-CTR", "", "rijndael-cbc@lysator.liu.se"})
    EXPECT_TRUE(holds(encrypted(cipher).why(), "`ssh-keygen -p -Z aes256-ctr -f /k/key`"))
        << encrypted(cipher).why();
}

TEST(ssh_key, refuses_an_envelope_that_does_not_fit_its_key) {
  const auto damaged = [](const std::function<void(key_file&)>& spoil, key_file from) {
    spoil(from);
    return holds(from.why(), "damaged");
  };
  const auto plain = key_file::plain();
  ASSERT_EQ(plain.why(), "");
  EXPECT_TRUE(damaged([](key_file& f) { f.secret.clear(); }, plain));
  EXPECT_TRUE(damaged([](key_file& f) { f.secret.resize(f.secret.size() - 16); }, plain))
      << "the padding and an end of the comment";
  EXPECT_TRUE(damaged([](key_file& f) { f.secret[0] ^= 1; }, plain)) << "the check number";
  EXPECT_TRUE(damaged([](key_file& f) { f.secret.back() ^= 1; }, plain)) << "the padding";
  EXPECT_TRUE(damaged([](key_file& f) { f.secret.resize(1000, '\xff'); }, plain));
  EXPECT_TRUE(damaged([](key_file& f) { f.blob.back() ^= 1; }, plain)) << "another public half";
  EXPECT_TRUE(damaged([](key_file& f) { f.blob += "x"; }, plain));
  EXPECT_TRUE(damaged([](key_file& f) { f.behind = "x"; }, plain));
  EXPECT_TRUE(damaged([](key_file& f) { f.kdf = "bcrypt"; }, plain));
  EXPECT_TRUE(damaged([](key_file& f) { f.secret.resize(140); }, encrypted("aes256-ctr")));
  EXPECT_TRUE(damaged([](key_file& f) { f.kdf_options = derivation(0); }, encrypted("3des-cbc")));
  EXPECT_TRUE(
      damaged([](key_file& f) { f.kdf_options = derivation(16, 0); }, encrypted("aes256-ctr")));
  EXPECT_TRUE(
      damaged([](key_file& f) { f.kdf_options = derivation(16, 65); }, encrypted("aes256-ctr")));
  EXPECT_EQ(encrypted("aes256-ctr", 256).why(), "");
  EXPECT_TRUE(holds(encrypted("aes256-ctr", 257).why(), "`ssh-keygen -p -a 24 -f /k/key`"));
  EXPECT_TRUE(holds(encrypted("aes256-ctr", 0xffffffff).why(), "4294967295 rounds"));
  auto kdf = encrypted("aes256-ctr");
  kdf.kdf = "none";
  EXPECT_TRUE(holds(kdf.why(), "ssh-keygen -p"));
  auto several = plain;
  several.keys = 2;
  EXPECT_TRUE(holds(several.why(), "2 keys"));
}

TEST(ssh_key, reads_a_key_whatever_ends_its_lines_and_hands_on_its_own_text) {
  const auto pair = ok(make_ed25519_key());
  std::string spaced;
  for (const char c : pair.private_text) spaced += c == '\n' ? " \t\r\n" : std::string(1, c);
  const auto read = parse_private_key("\xef\xbb\xbf\n" + spaced + "\nmore", "key");
  EXPECT_EQ(ok(read).text, pair.private_text);
  EXPECT_EQ(ok(read).shown, pair.shown);
  auto with_nul = pair.private_text;
  with_nul[60] = '\0';
  EXPECT_EQ(code_of(parse_private_key(with_nul, "key")), ec::bad_key);
  const auto cut = pair.private_text.substr(0, 200);
  EXPECT_TRUE(holds(parse_private_key(cut, "key").error().message, "last line is missing"));
}

TEST(ssh_key, says_what_another_file_is_and_what_makes_a_key_of_it) {
  const std::string convert = "`ssh-keygen -p -f /k/key`", new_key = "ntrace tunnel keygen";
  const auto pem = [](const std::string& label, const std::string& body = "AAAA") {
    return "-----BEGIN " + label + "-----\n" + body + "\n-----END " + label + "-----\n";
  };
  const std::string algorithm{"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22", 14};
  const std::pair<std::string, std::string> cases[]{
      {pem("EC PRIVATE KEY"), convert},
      {pem("EC PRIVATE KEY", "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA"), convert},
      {pem("EC PARAMETERS") + pem("EC PRIVATE KEY"), convert},
      {pem("PRIVATE KEY"), convert},
      {pem("PRIVATE KEY", to_base64(algorithm + std::string(34, 'k'))), "OpenSSH 9.6"},
      {pem("ENCRYPTED PRIVATE KEY"), convert},
      {pem("RSA PRIVATE KEY"), "ssh-rsa; use ed25519 or ecdsa"},
      {pem("DSA PRIVATE KEY"), "ssh-dss"},
      {pem("PUBLIC KEY"), "public key; give the private one"},
      {pem("CERTIFICATE") + pem("CERTIFICATE"), "certificate of TLS"},
      {pem("PGP PRIVATE KEY BLOCK"), "PGP"},
      {"PuTTY-User-Key-File-3: ssh-ed25519\r\nEncryption: none\r\n",
       "`puttygen /k/key -O private-openssh -o /k/key.openssh`"},
      {"PuTTY-User-Key-File-2: ssh-rsa\r\n", "ssh-rsa"},
      {"---- BEGIN SSH2 PUBLIC KEY ----\n", "public half"},
      {"---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----\n", "puttygen"},
      {"SSH PRIVATE KEY FILE FORMAT 1.1\n", "version 1"},
      {"ssh-ed25519 AAAA me@here\n", "public half"},
      {"ecdsa-sha2-nistp256 AAAA\n", "public half"},
      {"sk-ssh-ed25519@openssh.com AAAA\n", "security key"},
      {"ssh-ed25519-cert-v01@openssh.com AAAA\n", "certificate for a key"},
      {std::string{"\xff\xfe-\0-\0", 6}, "`iconv -f UTF-16 -t ASCII /k/key`"},
      {"", "empty"},
      {" \r\n\t", "empty"},
      {std::string(100, '\0'), new_key},
      {"\x7f"
       "ELF",
       new_key},
      {"-----BEGIN OPENSSH", new_key}};
  for (const auto& [text, part] : cases) {
    const auto read = parse_private_key(text, "/k/key");
    ASSERT_EQ(code_of(read), ec::bad_key) << text;
    EXPECT_TRUE(holds(read.error().message, part)) << text << "\n" << read.error().message;
  }
  const auto half = parse_private_key("ssh-ed25519 AAAA", "/k/key.pub").error().message;
  EXPECT_TRUE(holds(half, "most likely /k/key")) << half;
}

TEST(ssh_key, names_a_security_key_whose_private_half_is_in_the_device) {
  auto file = key_file::plain();
  for (const auto* type : {"sk-ssh-ed25519@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com"}) {
    file.blob.clear();
    put_string(file.blob, type);
    put_string(file.blob, "x");
    EXPECT_TRUE(holds(file.why(), "security key (" + std::string{type})) << file.why();
    EXPECT_TRUE(holds(file.why(), "ntrace tunnel keygen"));
  }
}

TEST(ssh_key, writes_a_path_as_one_word_of_a_command) {
  EXPECT_EQ(shell_word("/home/me/.ssh/id_ed25519"), "/home/me/.ssh/id_ed25519");
  EXPECT_EQ(shell_word("/a b/it's"), "'/a b/it'\\''s'");
  EXPECT_EQ(shell_word("-rf"), "'./-rf'");
  EXPECT_EQ(shell_word(""), "''");
}
