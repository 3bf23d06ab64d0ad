#include "actors/zone/linux/id_block.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>

namespace ntrace::zone {
namespace {

/// Where blocks begin: the first 16 belong to the host, and useradd(8) lends out what is between
/// 100000 and 600100000. Spread over what is left, so that zones of data folders that do not run at
/// the same time seldom meet.
constexpr std::uint32_t first_block = 10'000, blocks = 20'000;

/// Each block is a byte of it, locked by who has it: the kernel lets go of it, whatever ends him.
constexpr const char* locks = "/run/ntrace-zone-ids.lock";

std::uint32_t preferred_block(const std::string& uuid) {
  std::uint64_t hash = 14695981039346656037u;  // FNV-1a
  for (const char c : uuid) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211u;
  return static_cast<std::uint32_t>(hash % blocks);
}

/// The number from `text` up to `end`, which goes too.
std::optional<std::uint64_t> take_number(std::string_view& text, char end) {
  const auto size = std::min(text.find(end), text.size());
  std::uint64_t out = 0;
  const auto [at, code] = std::from_chars(text.data(), text.data() + size, out);
  if (code != std::errc{} || at != text.data() + size) return {};
  text.remove_prefix(std::min(size + 1, text.size()));
  return out;
}

}  // namespace

std::vector<id_range> lent_ids(std::string_view text) {
  std::vector<id_range> out;
  while (!text.empty()) {
    auto line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(line.size() + 1, text.size()));
    const auto name = line.find(':');
    if (name == std::string_view::npos) continue;
    line.remove_prefix(name + 1);
    const auto first = take_number(line, ':');
    const auto count = take_number(line, ':');
    if (first && count && *first <= UINT32_MAX && *count <= UINT32_MAX)
      out.push_back({*first, *count});
  }
  return out;
}

std::vector<id_range> lent_ids() {
  std::vector<id_range> out;
  for (const char* file : {"/etc/subuid", "/etc/subgid"})
    for (const auto& one : lent_ids(read_file(file).value_or(""))) out.push_back(one);
  return out;
}

result<std::optional<id_block>> id_block::take(std::uint32_t root) {
  unique_fd lock{::open(locks, O_RDWR | O_CREAT | O_CLOEXEC, 0600)};
  if (!lock) return fail(io_error("open", locks, errno));
  struct flock byte {};
  byte.l_type = F_WRLCK;
  byte.l_whence = SEEK_SET;
  byte.l_start = root / ids_per_zone;
  byte.l_len = 1;
  if (::fcntl(lock.get(), F_OFD_SETLK, &byte) == 0) return id_block{root, std::move(lock)};
  if (errno == EAGAIN || errno == EACCES) return std::optional<id_block>{};
  return fail(io_error("lock a byte of", locks, errno));
}

result<id_block> id_block::take_free(const std::string& uuid, const std::vector<id_range>& others) {
  const auto from = preferred_block(uuid);
  for (std::uint32_t i = 0; i < blocks; ++i) {
    const auto root = (first_block + (from + i) % blocks) * ids_per_zone;
    if (std::any_of(others.begin(), others.end(),
                    [&](const id_range& one) { return one.overlaps(root, ids_per_zone); }))
      continue;
    auto taken = take(root);
    if (!taken) return fail(taken.error());
    if (*taken) return std::move(**taken);
  }
  return fail(ec::zone_failed, "all " + std::to_string(blocks) +
                                   " blocks of ids are taken; `ntrace zone destroy` some zones");
}

}  // namespace ntrace::zone
