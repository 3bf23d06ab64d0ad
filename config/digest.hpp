#pragma once
// Digests, by OpenSSL.
#include <memory>
#include <string>
#include <string_view>

namespace ntrace {

/// The digest of `bytes` by the algorithm's OpenSSL name ("sha1", "sha256", "sha512"), in base 64;
/// empty for an unknown algorithm.
std::string digest_base64(std::string_view algorithm, std::string_view bytes);

/// HMAC-SHA256 (RFC 2104) in 64 lower-case hexadecimal digits.
std::string hmac_sha256(std::string_view secret, std::string_view bytes);

/// SHA-256 of a stream, piece by piece.
class sha256 {
public:
  sha256();
  ~sha256();
  sha256(const sha256&) = delete;
  sha256& operator=(const sha256&) = delete;
  void add(std::string_view bytes);
  /// 64 lower-case hexadecimal digits; ends the stream.
  std::string hex();

private:
  struct state;
  std::unique_ptr<state> state_;
};

}  // namespace ntrace
