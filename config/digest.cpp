#include "config/digest.hpp"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <array>

#include "config/ascii.hpp"
#include "config/base64.hpp"

namespace ntrace {
namespace {

using digest_bytes = std::array<unsigned char, EVP_MAX_MD_SIZE>;

std::string_view text_of(const digest_bytes& digest, unsigned size) {
  return {reinterpret_cast<const char*>(digest.data()), size};
}

const EVP_MD* digest_named(std::string_view algorithm) {
  return EVP_get_digestbyname(std::string{algorithm}.c_str());
}

}  // namespace

std::string hmac(std::string_view algorithm, std::string_view secret, std::string_view bytes) {
  const auto* md = digest_named(algorithm);
  digest_bytes digest{};
  unsigned size = 0;
  // A null key means the key of the call before: an empty one has an address too.
  const char* key = secret.empty() ? "" : secret.data();
  if (md == nullptr || HMAC(md, key, static_cast<int>(secret.size()),
                            reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(),
                            digest.data(), &size) == nullptr)
    return "";
  return std::string{text_of(digest, size)};
}

std::string hmac_sha256(std::string_view secret, std::string_view bytes) {
  return hex_of(hmac("sha256", secret, bytes));
}

bool is_same_secret(std::string_view a, std::string_view b) {
  return a.size() == b.size() && CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

std::string digest_base64(std::string_view algorithm, std::string_view bytes) {
  const auto* md = digest_named(algorithm);
  digest_bytes digest{};
  unsigned size = 0;
  if (md == nullptr ||
      EVP_Digest(bytes.data(), bytes.size(), digest.data(), &size, md, nullptr) != 1)
    return "";
  return to_base64(text_of(digest, size));
}

struct sha256::state {
  EVP_MD_CTX* context = EVP_MD_CTX_new();
};

sha256::sha256() : state_{std::make_unique<state>()} {
  EVP_DigestInit_ex(state_->context, EVP_sha256(), nullptr);
}
sha256::~sha256() { EVP_MD_CTX_free(state_->context); }

void sha256::add(std::string_view bytes) {
  EVP_DigestUpdate(state_->context, bytes.data(), bytes.size());
}

std::string sha256::hex() {
  digest_bytes digest{};
  unsigned size = 0;
  EVP_DigestFinal_ex(state_->context, digest.data(), &size);
  return hex_of(text_of(digest, size));
}

}  // namespace ntrace
