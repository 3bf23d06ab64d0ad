#include "config/base64.hpp"

#include <openssl/evp.h>

namespace ntrace {
namespace {
constexpr std::size_t text_bytes_max = 1u << 20;
}

std::string to_base64(std::string_view bytes) {
  std::string out(4 * ((bytes.size() + 2) / 3) + 1, '\0');
  const auto n = ::EVP_EncodeBlock(reinterpret_cast<unsigned char*>(out.data()),
                                   reinterpret_cast<const unsigned char*>(bytes.data()),
                                   static_cast<int>(bytes.size()));
  out.resize(static_cast<std::size_t>(n));
  return out;
}

std::optional<std::string> from_base64(std::string_view text) {
  if (text.size() % 4 != 0 || text.size() > text_bytes_max) return {};
  const auto padding = text.ends_with("==") ? 2u : text.ends_with('=') ? 1u : 0u;
  std::string out(text.size() / 4 * 3, '\0');
  const auto n = ::EVP_DecodeBlock(reinterpret_cast<unsigned char*>(out.data()),
                                   reinterpret_cast<const unsigned char*>(text.data()),
                                   static_cast<int>(text.size()));
  if (n < 0 || static_cast<std::size_t>(n) != out.size()) return {};
  out.resize(out.size() - padding);
  // OpenSSL skips white space, takes '=' anywhere for a digit and does not look at the last bits.
  if (to_base64(out) != text) return {};
  return out;
}

}  // namespace ntrace
