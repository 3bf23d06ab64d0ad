#pragma once
// A bundle: a stream of file entries that is trivial to read, so that zone init needs no archive
// library. Archives are checked and turned into bundles outside the zone; bundles are unpacked
// inside it by the job's own user.
//
// entry = header, path bytes, then `size` content bytes (a file's content, a link's target).
// The stream ends with an entry of kind `end`; one that ends earlier is broken.
#include <cstdint>

namespace ntrace::zone {

enum class bundle_kind : std::uint32_t { end = 0, file = 1, folder = 2, symlink = 3 };

struct bundle_header {
  std::uint32_t magic;
  bundle_kind kind;
  std::uint32_t mode;        ///< Only the bits 0777 count.
  std::uint32_t path_bytes;  ///< 1 … limits::path_bytes_max.
  std::uint64_t size;
};

inline constexpr std::uint32_t bundle_magic = 0x6e74626eu;

/// What is taken out of a zone at once, at the most; held by init, which sends no more, and by the
/// runner, which does not trust it. In the `end` entry of such a bundle `size` counts the files
/// that were left out, and `mode` those that were cut.
struct collect_bounds {
  std::uint64_t files = 256, file_bytes = 64u << 20, bytes = 256u << 20;
};

}  // namespace ntrace::zone
