#pragma once
// Frames of zstd (RFC 8878), by libzstd.
#include <string>
#include <string_view>

#include "config/result.hpp"

namespace ntrace {

/// One frame, which states its size.
std::string zstd_packed(std::string_view bytes);

/// What the frames hold, one after the other. ec::bad_argument, with the library's words, for what
/// is no whole frame and for more than `bytes_max`. A hostile frame costs no more memory than that.
result<std::string> zstd_unpacked(std::string_view frames, std::size_t bytes_max);

}  // namespace ntrace
