// P7 of the proof of clean: the digests of a snapshot's layers.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>
#include <vector>

#include "actors/zone/linux/clean_proof.hpp"
#include "config/digest.hpp"

namespace ntrace::zone {
namespace fs = std::filesystem;
namespace {

/// Names and values of the extended attributes: overlayfs keeps its marks there.
std::string attributes_of(const fs::path& path) {
  std::string names(4096, '\0'), out;
  const auto size = ::llistxattr(path.c_str(), names.data(), names.size());
  for (std::size_t at = 0; size > 0 && at < static_cast<std::size_t>(size);) {
    const std::string name{names.c_str() + at};
    std::string value(4096, '\0');
    const auto n = ::lgetxattr(path.c_str(), name.c_str(), value.data(), value.size());
    value.resize(static_cast<std::size_t>(std::max<ssize_t>(n, 0)));
    out += name + "=" + value + ";";
    at += name.size() + 1;
  }
  return out;
}

/// The entries below `layer`, by path.
result<std::vector<fs::path>> entries_of(const std::string& layer) {
  std::vector<fs::path> out{layer};
  std::error_code broken;
  for (fs::recursive_directory_iterator at{layer, broken}, end; !broken && at != end;
       at.increment(broken))
    out.push_back(at->path());
  if (broken) return fail(ec::io, "read " + layer + ": " + broken.message());
  std::sort(out.begin(), out.end());
  return out;
}

template <class Add>
result<std::string> seal(const std::string& layer, const Add& add) {
  const auto entries = entries_of(layer);
  if (!entries) return fail(entries.error());
  sha256 digest;
  for (const auto& path : *entries) {
    struct stat facts {};
    if (::lstat(path.c_str(), &facts) != 0) return fail(io_error("lstat", path.string(), errno));
    digest.add(path.string().substr(layer.size()));
    digest.add(std::string_view{"\0", 1});
    if (auto added = add(digest, path, facts); !added) return fail(added.error());
  }
  return digest.hex();
}

}  // namespace

result<std::string> fast_seal(const std::string& layer) {
  return seal(layer, [](sha256& digest, const fs::path&, const struct stat& s) -> result<void> {
    const std::array<std::uint64_t, 9> facts{s.st_ino,
                                             static_cast<std::uint64_t>(s.st_size),
                                             s.st_mode,
                                             s.st_uid,
                                             s.st_gid,
                                             static_cast<std::uint64_t>(s.st_mtim.tv_sec),
                                             static_cast<std::uint64_t>(s.st_mtim.tv_nsec),
                                             static_cast<std::uint64_t>(s.st_ctim.tv_sec),
                                             static_cast<std::uint64_t>(s.st_ctim.tv_nsec)};
    digest.add({reinterpret_cast<const char*>(facts.data()), sizeof facts});
    return {};
  });
}

result<std::string> full_seal(const std::string& layer) {
  return seal(layer,
              [](sha256& digest, const fs::path& path, const struct stat& s) -> result<void> {
                const std::array<std::uint64_t, 4> facts{
                    s.st_mode, s.st_uid, s.st_gid,
                    S_ISREG(s.st_mode) ? static_cast<std::uint64_t>(s.st_size) : 0};
                digest.add({reinterpret_cast<const char*>(facts.data()), sizeof facts});
                digest.add(attributes_of(path));
                if (S_ISLNK(s.st_mode)) {
                  std::error_code unread;
                  digest.add(fs::read_symlink(path, unread).string());
                  if (unread)
                    return fail(ec::io, "read " + path.string() + ": " + unread.message());
                } else if (S_ISREG(s.st_mode)) {
                  const unique_fd fd{::open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC)};
                  std::string block(256u << 10, '\0');
                  ssize_t n = fd ? 1 : -1;
                  while (n > 0 && (n = ::read(fd.get(), block.data(), block.size())) > 0)
                    digest.add({block.data(), static_cast<std::size_t>(n)});
                  if (n < 0) return fail(io_error("read", path.string(), errno));
                }
                return {};
              });
}

}  // namespace ntrace::zone
