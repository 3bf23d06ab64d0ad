#pragma once
// Certificates, keys and authorities in PEM, looked at before a library is given their names. A
// library may wait for a pipe, ask for a passphrase on the terminal, or throw out of a thread.
#include <string>

#include "config/result.hpp"

namespace ntrace {

/// The text of a file with at least one certificate, each of which can be read, at most 4 MiB.
/// ec::bad_config says what it is instead.
result<std::string> read_authorities(const std::string& path);

/// A server's certificate and its private key: both can be read and belong together. A key that
/// needs a passphrase is refused: nobody is there to type it. ec::bad_config names the file.
result<void> check_certificate(const std::string& cert_file, const std::string& key_file);

}  // namespace ntrace
