#include "config/digest.hpp"

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <array>

namespace ntrace {
namespace {

using digest_bytes = std::array<unsigned char, EVP_MAX_MD_SIZE>;

std::string hex_of(const digest_bytes& digest, unsigned size) {
  std::string out;
  for (unsigned i = 0; i < size; ++i) {
    out.push_back("0123456789abcdef"[digest[i] >> 4]);
    out.push_back("0123456789abcdef"[digest[i] & 15]);
  }
  return out;
}

}  // namespace

std::string hmac_sha256(std::string_view secret, std::string_view bytes) {
  digest_bytes digest{};
  unsigned size = 0;
  HMAC(EVP_sha256(), secret.data(), static_cast<int>(secret.size()),
       reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(), digest.data(), &size);
  return hex_of(digest, size);
}

std::string digest_base64(std::string_view algorithm, std::string_view bytes) {
  const auto* md = EVP_get_digestbyname(std::string{algorithm}.c_str());
  digest_bytes digest{};
  unsigned size = 0;
  if (md == nullptr ||
      EVP_Digest(bytes.data(), bytes.size(), digest.data(), &size, md, nullptr) != 1)
    return "";
  std::array<unsigned char, 4 * EVP_MAX_MD_SIZE / 3 + 4> text{};
  const int n = EVP_EncodeBlock(text.data(), digest.data(), static_cast<int>(size));
  return {reinterpret_cast<const char*>(text.data()), static_cast<std::size_t>(n)};
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
  return hex_of(digest, size);
}

}  // namespace ntrace
