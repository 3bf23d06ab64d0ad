#include "config/tls_files.hpp"

#include <fmt/core.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <memory>

#include "config/file.hpp"

namespace ntrace {
namespace {

constexpr std::size_t file_bytes_max = 4u << 20;  // Debian's own bundle has 220 KB
constexpr std::size_t key_bytes_max = 64u << 10;

struct freer {
  void operator()(BIO* b) const { ::BIO_free(b); }
  void operator()(X509* x) const { ::X509_free(x); }
  void operator()(EVP_PKEY* k) const { ::EVP_PKEY_free(k); }
};
template <class T>
using owned = std::unique_ptr<T, freer>;

/// Instead of OpenSSL's own, which asks on the terminal.
int no_passphrase(char*, int, int, void*) { return -1; }

owned<BIO> reader_of(const std::string& text) {
  return owned<BIO>{::BIO_new_mem_buf(text.data(), static_cast<int>(text.size()))};
}

tl::unexpected<error> unusable(const std::string& path, const std::string& why) {
  ::ERR_clear_error();
  return fail(ec::bad_config, path + " cannot be used: " + why);
}

result<std::string> read_certificates(const std::string& path) {
  auto text = read_file(path, file_bytes_max);
  if (!text) return fail(ec::bad_config, text.error().message);
  const auto in = reader_of(*text);
  std::size_t found = 0;
  ::ERR_clear_error();
  while (owned<X509>{::PEM_read_bio_X509(in.get(), nullptr, &no_passphrase, nullptr)}) ++found;
  // It ends with "no start line" when there is no further one.
  const bool is_end = ERR_GET_REASON(::ERR_peek_last_error()) == PEM_R_NO_START_LINE;
  if (found == 0)
    return unusable(path, "it holds no certificate in PEM (-----BEGIN CERTIFICATE-----)");
  if (!is_end) return unusable(path, fmt::format("certificate {} is damaged", found + 1));
  ::ERR_clear_error();
  return text;
}

}  // namespace

result<std::string> read_authorities(const std::string& path) { return read_certificates(path); }

result<void> check_certificate(const std::string& cert_file, const std::string& key_file) {
  const auto certificates = read_certificates(cert_file);
  if (!certificates) return fail(certificates.error());
  const auto text = read_secret(key_file, key_bytes_max);
  if (!text) return fail(ec::bad_config, text.error().message);
  const auto in = reader_of(*text);
  const owned<EVP_PKEY> key{::PEM_read_bio_PrivateKey(in.get(), nullptr, &no_passphrase, nullptr)};
  if (!key) {
    if (text->find("ENCRYPTED") != text->npos)
      return unusable(key_file,
                      "it needs a passphrase, and nobody is there to type it; `openssl pkey -in " +
                          key_file + "` shows the key without one");
    return unusable(key_file, "it holds no private key in PEM");
  }
  const auto first = reader_of(*certificates);
  const owned<X509> cert{::PEM_read_bio_X509(first.get(), nullptr, &no_passphrase, nullptr)};
  if (!cert || ::X509_check_private_key(cert.get(), key.get()) != 1)
    return unusable(key_file, "it does not belong to the certificate " + cert_file);
  ::ERR_clear_error();
  return {};
}

}  // namespace ntrace
