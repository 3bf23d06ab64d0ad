#pragma once
// What a file is that is given as a private key and is no OpenSSH private key. Pure.
#include <string>
#include <string_view>

namespace ntrace::net {

/// Says what `text` is instead of an OpenSSH private key (another key format, the public half, a
/// certificate, nothing at all) and the command that makes a usable file of it; `path` is for that
/// command. Bounded by the text's length; any bytes may come.
std::string describe_other_form(std::string_view text, const std::string& path);

/// Why a key of this type, as its public half names it, is not used.
std::string refuse_type(std::string_view type);

/// The path as one word for a shell.
std::string shell_word(const std::string& path);

}  // namespace ntrace::net
