#pragma once
// Digests, by OpenSSL.
#include <memory>
#include <string>
#include <string_view>

namespace ntrace {

/// The digest of `bytes` by the algorithm's OpenSSL name ("sha1", "sha256", "sha512"), in base 64;
/// empty for an unknown algorithm.
std::string digest_base64(std::string_view algorithm, std::string_view bytes);

/// The bytes of an HMAC (RFC 2104) by a digest's OpenSSL name; empty for an unknown one.
std::string hmac(std::string_view algorithm, std::string_view secret, std::string_view bytes);

/// HMAC-SHA256 in 64 lower-case hexadecimal digits.
std::string hmac_sha256(std::string_view secret, std::string_view bytes);

/// Takes as long wherever the two differ; only their length can be learnt from its time.
bool is_same_secret(std::string_view a, std::string_view b);

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
