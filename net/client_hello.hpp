#pragma once
// The name that a TLS client asks for, read before anything of it is passed on. Pure.
#include <string>
#include <string_view>

#include "config/result.hpp"

namespace ntrace::net {

/// The server name of the TLS ClientHello that `bytes` begin with, in lower case; empty when it
/// names none. The hello may lie in several records. `complete` tells whether it is whole; when
/// false, feed more bytes. ec::bad_request when the bytes are not a ClientHello, when it is
/// malformed, has several names, or hides the true one (Encrypted Client Hello).
result<std::string> client_hello_name(std::string_view bytes, bool& complete);

}  // namespace ntrace::net
