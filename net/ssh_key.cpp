#include "net/ssh_key.hpp"

#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "config/base64.hpp"
#include "config/file.hpp"
#include "net/ssh_dial_fsm.hpp"
#include "net/ssh_key_forms.hpp"

namespace ntrace::net {
namespace {

constexpr std::string_view head = "-----BEGIN OPENSSH PRIVATE KEY-----";
constexpr std::string_view tail = "-----END OPENSSH PRIVATE KEY-----";
constexpr std::string_view magic{"openssh-key-v1\0", 15};
constexpr std::size_t key_bytes_max = 65'536;
constexpr std::size_t ed25519_bytes = 32;     // RFC 8709, section 4
constexpr std::size_t scalar_bytes_max = 49;  // of P-384, with a zero before a high bit
constexpr std::size_t salt_bytes_max = 64;    // OpenSSH writes 16
/// Some 8 ms each, on the thread that carries the tunnel's connections.
constexpr std::uint32_t kdf_rounds_max = 256;

tl::unexpected<error> bad_key(const std::string& path, const std::string& why) {
  return fail(ec::bad_key, fmt::format("the key {} cannot be used: {}", path, why));
}

std::string file_text(std::string_view bytes) {
  const auto digits = to_base64(bytes);
  std::string out{head};
  out += '\n';
  for (std::size_t at = 0; at < digits.size(); at += 70) out += digits.substr(at, 70) + "\n";
  return out + std::string{tail} + "\n";
}

/// What stands around a private key in its file: PROTOCOL.key of OpenSSH.
struct envelope {
  std::string_view cipher, kdf, kdf_options;
  std::uint32_t keys = 0;
  public_key shown;
  std::string_view secret, rest;
};

/// Nothing when the bytes end early, or when the first key has no type.
std::optional<envelope> read_envelope(std::string_view bytes) {
  ssh_reader in{bytes};
  const auto cipher = in.string();
  const auto kdf = in.string();
  const auto kdf_options = in.string();
  const auto keys = in.number();
  const auto blob = in.string();
  auto shown = blob ? parse_key_blob(*blob) : std::nullopt;
  if (!cipher || !kdf || !kdf_options || !keys || !shown) return {};
  const auto secret = in.string().value_or("");
  return envelope{*cipher, *kdf, *kdf_options, *keys, std::move(*shown), secret, in.rest()};
}

/// Ciphers of key files that libssh 0.10 decrypts, and their blocks. It has no code for the others
/// that OpenSSH writes (AES-GCM, ChaCha20-Poly1305) and calls through a null pointer.
struct file_cipher {
  std::string_view name;
  std::size_t block;
};
constexpr std::array<file_cipher, 8> file_ciphers{{{"none", 8},
                                                   {"aes128-ctr", 16},
                                                   {"aes192-ctr", 16},
                                                   {"aes256-ctr", 16},
                                                   {"aes128-cbc", 16},
                                                   {"aes192-cbc", 16},
                                                   {"aes256-cbc", 16},
                                                   {"3des-cbc", 8}}};

/// A curve's name, and the bytes of a point on it, uncompressed (RFC 5656, section 3.1).
struct curve {
  std::string_view type, name;
  std::size_t point;
};
constexpr std::array<curve, 2> curves{
    {{"ecdsa-sha2-nistp256", "nistp256", 65}, {"ecdsa-sha2-nistp384", "nistp384", 97}}};

const curve* curve_of(std::string_view type) {
  const auto* at =
      std::find_if(curves.begin(), curves.end(), [&](const curve& c) { return c.type == type; });
  return at == curves.end() ? nullptr : at;
}

bool is_whole_blob(const public_key& key) {
  ssh_reader in{key.blob};
  (void)in.string();  // Its type, which was read before.
  const auto first = in.string();
  if (key.type == "ssh-ed25519")
    return first && first->size() == ed25519_bytes && in.rest().empty();
  const auto* of = curve_of(key.type);
  const auto point = in.string();
  return of != nullptr && first == of->name && point && point->size() == of->point &&
         point->front() == '\x04' && in.rest().empty();
}

/// The private part as it is when nothing encrypts it: a check number twice, the key, a comment,
/// and the padding 1, 2, 3 …
bool is_whole_secret(std::string_view secret, const public_key& shown) {
  ssh_reader in{secret};
  const auto check = in.number();
  const auto again = in.number();
  // The public half stands there as in the blob.
  if (!check || check != again || !in.rest().starts_with(shown.blob)) return false;
  in = ssh_reader{in.rest().substr(shown.blob.size())};
  const auto scalar = in.string();
  const auto comment = in.string();
  const auto bytes_max = shown.type == "ssh-ed25519" ? 2 * ed25519_bytes : scalar_bytes_max;
  if (!scalar || scalar->empty() || scalar->size() > bytes_max || !comment) return false;
  if (shown.type == "ssh-ed25519" &&
      (scalar->size() != bytes_max || !shown.blob.ends_with(scalar->substr(ed25519_bytes))))
    return false;
  const auto padding = in.rest();
  for (std::size_t i = 0; i < padding.size(); ++i)
    if (padding[i] != static_cast<char>(i + 1)) return false;
  return padding.size() < 16;
}

std::string write_again(const std::string& options, const std::string& path) {
  return fmt::format("; `ssh-keygen -p {} -f {}` writes it again", options, shell_word(path));
}

/// The key derivation of an encrypted file: nothing when it is one that can be afforded.
std::optional<std::string> why_not_derived(const envelope& e, const std::string& path) {
  if (e.kdf != "bcrypt")
    return fmt::format("its passphrase is used in a way that is not known ({}){}", printable(e.kdf),
                       write_again("-Z aes256-ctr", path));
  ssh_reader in{e.kdf_options};
  const auto salt = in.string();
  const auto rounds = in.number();
  if (!salt || salt->empty() || salt->size() > salt_bytes_max || !rounds || *rounds == 0 ||
      !in.rest().empty())
    return "the file is damaged";
  if (*rounds > kdf_rounds_max)
    return fmt::format(
        "each use of its passphrase costs {} rounds, and {} is the most that a tunnel waits for{}",
        *rounds, kdf_rounds_max, write_again("-a 24", path));
  return {};
}

std::optional<std::string> why_unusable(const envelope& e, const std::string& path) {
  if (e.keys != 1) return fmt::format("it holds {} keys; use a file with one key", e.keys);
  if (e.shown.type != "ssh-ed25519" && curve_of(e.shown.type) == nullptr)
    return refuse_type(e.shown.type);
  const auto* cipher =
      std::find_if(file_ciphers.begin(), file_ciphers.end(),
                   [&](const file_cipher& known) { return known.name == e.cipher; });
  if (cipher == file_ciphers.end())
    return fmt::format("its file is encrypted with {}, which is not supported{}",
                       printable(e.cipher), write_again("-Z aes256-ctr", path));
  const bool is_plain = e.cipher == "none";
  if (!is_plain)
    if (auto why = why_not_derived(e, path)) return why;
  const bool is_whole = is_whole_blob(e.shown) && !e.secret.empty() && e.rest.empty() &&
                        e.secret.size() % cipher->block == 0 &&
                        (!is_plain || (e.kdf == "none" && e.kdf_options.empty() &&
                                       is_whole_secret(e.secret, e.shown)));
  if (!is_whole) return "the file is damaged";
  return {};
}

}  // namespace

result<private_key> parse_private_key(std::string_view text, const std::string& path) {
  const auto from = text.find(head);
  if (from == text.npos) return bad_key(path, describe_other_form(text, path));
  const auto to = text.find(tail, from);
  if (to == text.npos) return bad_key(path, "its last line is missing; was the file cut off?");
  std::string digits;
  for (const char c : text.substr(from + head.size(), to - from - head.size()))
    if (c != '\n' && c != '\r' && c != ' ' && c != '\t') digits += c;
  const auto bytes = from_base64(digits);
  if (!bytes || !bytes->starts_with(magic)) return bad_key(path, "the file is damaged");
  const auto found = read_envelope(std::string_view{*bytes}.substr(magic.size()));
  if (!found) return bad_key(path, "the file is damaged");
  if (const auto why = why_unusable(*found, path)) return bad_key(path, *why);
  // Written again: what libssh reads has none of the file's own white space and words.
  return private_key{file_text(*bytes), found->shown, found->cipher != "none"};
}

result<private_key> read_private_key(const std::string& path) {
  if (::access(path.c_str(), F_OK) != 0 && errno == ENOENT)
    return bad_key(path, "there is no such file; make it with `ntrace tunnel keygen`");
  // As ssh(1): a key is for its user alone.
  const auto text = read_secret(path, key_bytes_max, 077);
  if (!text) return bad_key(path, text.error().message);
  return parse_private_key(*text, path);
}

}  // namespace ntrace::net
