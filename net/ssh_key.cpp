#include "net/ssh_key.hpp"

#include <openssl/evp.h>
#include <openssl/rand.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <memory>

#include "config/file.hpp"

namespace ntrace::net {
namespace {

constexpr std::string_view head = "-----BEGIN OPENSSH PRIVATE KEY-----";
constexpr std::string_view tail = "-----END OPENSSH PRIVATE KEY-----";
constexpr std::string_view magic{"openssh-key-v1\0", 15};
constexpr std::size_t key_bytes_max = 65'536;

tl::unexpected<error> bad_key(const std::string& path, const std::string& why) {
  return fail(ec::bad_key, "the key " + path + " cannot be used: " + why);
}

}  // namespace

result<private_key> parse_private_key(std::string_view text, const std::string& path) {
  const auto from = text.find(head);
  const auto to = text.find(tail);
  if (from == text.npos || to == text.npos || to < from)
    return bad_key(path, "it is no OpenSSH private key; make one with `ntrace tunnel keygen`");
  std::string digits;
  for (const char c : text.substr(from + head.size(), to - from - head.size()))
    if (c != '\n' && c != '\r') digits += c;
  const auto bytes = from_base64(digits);
  if (!bytes || !bytes->starts_with(magic)) return bad_key(path, "the file is damaged");
  ssh_reader in{std::string_view{*bytes}.substr(magic.size())};
  const auto cipher = in.string();
  const auto kdf = in.string();
  const auto kdf_options = in.string();
  const auto keys = in.number();
  const auto blob = in.string();
  const auto shown = blob ? parse_key_blob(*blob) : std::nullopt;
  if (!cipher || !kdf || !kdf_options || keys != 1u || !shown)
    return bad_key(path, "the file is damaged");
  constexpr std::array<std::string_view, 3> usable{"ssh-ed25519", "ecdsa-sha2-nistp256",
                                                   "ecdsa-sha2-nistp384"};
  if (std::find(usable.begin(), usable.end(), shown->type) == usable.end())
    return bad_key(path, "its type is " + shown->type +
                             "; use ed25519 or ecdsa, for instance from `ntrace tunnel keygen`");
  return private_key{std::string{text}, *shown, *cipher != "none"};
}

result<private_key> read_private_key(const std::string& path) {
  if (::access(path.c_str(), F_OK) != 0 && errno == ENOENT)
    return bad_key(path, "there is no such file; make it with `ntrace tunnel keygen`");
  // As ssh(1): a key is for its user alone.
  const auto text = read_secret(path, key_bytes_max, 077);
  if (!text) return bad_key(path, text.error().message);
  return parse_private_key(*text, path);
}

result<key_pair> make_ed25519_key(const std::string& comment) {
  const std::unique_ptr<EVP_PKEY_CTX, decltype(&::EVP_PKEY_CTX_free)> context{
      ::EVP_PKEY_CTX_new_id(EVP_PKEY_ED25519, nullptr), &::EVP_PKEY_CTX_free};
  EVP_PKEY* made = nullptr;
  std::array<unsigned char, 32> seed{}, point{};
  std::array<unsigned char, 4> check{};
  std::size_t seed_size = seed.size(), point_size = point.size();
  const bool is_made = context && ::EVP_PKEY_keygen_init(context.get()) == 1 &&
                       ::EVP_PKEY_keygen(context.get(), &made) == 1;
  const std::unique_ptr<EVP_PKEY, decltype(&::EVP_PKEY_free)> key{made, &::EVP_PKEY_free};
  if (!is_made || ::EVP_PKEY_get_raw_private_key(made, seed.data(), &seed_size) != 1 ||
      ::EVP_PKEY_get_raw_public_key(made, point.data(), &point_size) != 1 ||
      ::RAND_bytes(check.data(), check.size()) != 1)
    return fail(ec::defect, "no key could be made: OpenSSL gives none");
  const std::string_view secret{reinterpret_cast<const char*>(seed.data()), seed_size};
  const std::string_view shown{reinterpret_cast<const char*>(point.data()), point_size};
  key_pair out;
  out.shown.type = "ssh-ed25519";
  put_string(out.shown.blob, out.shown.type);
  put_string(out.shown.blob, shown);
  // PROTOCOL.key of OpenSSH: the check twice, the key, the comment, padding 1, 2, 3 … to 8 bytes.
  std::string body;
  for (int i = 0; i < 2; ++i)
    body.append(reinterpret_cast<const char*>(check.data()), check.size());
  put_string(body, out.shown.type);
  put_string(body, shown);
  put_string(body, std::string{secret} + std::string{shown});
  put_string(body, comment);
  for (char pad = 1; body.size() % 8 != 0; ++pad) body += pad;
  std::string file{magic};
  put_string(file, "none");
  put_string(file, "none");
  put_string(file, "");
  put_number(file, 1);
  put_string(file, out.shown.blob);
  put_string(file, body);
  const auto digits = to_base64(file);
  out.private_text = std::string{head} + "\n";
  for (std::size_t at = 0; at < digits.size(); at += 70)
    out.private_text += digits.substr(at, 70) + "\n";
  out.private_text += std::string{tail} + "\n";
  return out;
}

result<public_key> write_new_key(const std::string& path, const std::string& comment) {
  for (const auto& name : {path, path + ".pub"})
    if (::access(name.c_str(), F_OK) == 0)
      return fail(ec::bad_key,
                  name + " is there already; remove it if the key is not used any more");
  if (const auto slash = path.rfind('/'); slash != std::string::npos && slash > 0)
    if (auto made = make_folders(path.substr(0, slash)); !made) return fail(made.error());
  const auto pair = make_ed25519_key(comment);
  if (!pair) return fail(pair.error());
  if (auto done = write_file_durably(path, pair->private_text, 0600); !done)
    return fail(done.error());
  if (auto done =
          write_file_durably(path + ".pub", key_text(pair->shown) + " " + comment + "\n", 0644);
      !done)
    return fail(done.error());
  return pair->shown;
}

}  // namespace ntrace::net
