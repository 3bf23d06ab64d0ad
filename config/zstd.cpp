#include "config/zstd.hpp"

#include <zstd.h>
#include <zstd_errors.h>

#include <algorithm>

namespace ntrace {
namespace {

constexpr int pack_level = 3;  // zstd's own default
/// A writer that streams states no size. Of such frames so much is read: a chunk and not more.
constexpr unsigned long long unstated_bytes_max = 1u << 20;

tl::unexpected<error> bad(std::size_t code) {
  return fail(ec::bad_argument, ZSTD_getErrorName(code));
}

}  // namespace

std::string zstd_packed(std::string_view bytes) {
  std::string out(ZSTD_compressBound(bytes.size()), '\0');
  out.resize(ZSTD_compress(out.data(), out.size(), bytes.data(), bytes.size(), pack_level));
  return out;
}

result<std::string> zstd_unpacked(std::string_view frames, std::size_t bytes_max) {
  std::string out;
  while (!frames.empty()) {
    const auto packed = ZSTD_findFrameCompressedSize(frames.data(), frames.size());
    if (ZSTD_isError(packed) != 0) return bad(packed);
    const auto stated = ZSTD_getFrameContentSize(frames.data(), frames.size());
    const auto before = out.size();
    const unsigned long long room = bytes_max - before;
    const bool is_stated = stated != ZSTD_CONTENTSIZE_UNKNOWN;
    // Refused before the memory is taken; what the frame then holds, libzstd compares itself.
    if (is_stated && stated > room)
      return fail(ec::bad_argument, ZSTD_getErrorString(ZSTD_error_dstSize_tooSmall));
    out.resize(before + std::min(is_stated ? stated : unstated_bytes_max, room));
    const auto n = ZSTD_decompress(out.data() + before, out.size() - before, frames.data(), packed);
    if (ZSTD_isError(n) != 0) return bad(n);
    out.resize(before + n);
    frames.remove_prefix(packed);
  }
  return out;
}

}  // namespace ntrace
