#pragma once
// What is spoken between the runner and a zone's init, over SOCK_SEQPACKET. Both sides distrust the
// other: hostile code runs beside init. One packet is one record; nothing here allocates beyond it.
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace ntrace::zone {

inline constexpr std::size_t init_packet_bytes_max = 128u << 10;  // below Linux's default wmem
inline constexpr std::uint32_t init_words_max = 4096;
inline constexpr std::uint16_t proxy_port = 3128;  ///< Inside the zone, on 127.0.0.1.
inline constexpr int init_control_fd = 3;          ///< Where zone init finds its socket.

enum class init_op : std::uint32_t {
  exec = 1,       ///< Run argv with stdio = the three descriptors passed.
  unpack = 2,     ///< Write the bundle read from descriptor 0 below cwd.
  collect = 3,    ///< Write files cwd/argv[0]* as a bundle to descriptor 1.
  kill_all = 4,   ///< SIGKILL to everything but init.
  attend = 5,     ///< As exec; descriptor 0 is a terminal, which will control it.
  lease = 6,      ///< The page of the zone's lease comes with it: lease_page.
  ready = 16,     ///< init → runner: the zone is up.
  exited = 17,    ///< init → runner: `id` ended with `status` (waitpid(2)'s).
  refused = 18,   ///< init → runner: `id` could not be started (status: errno; cwd: the step).
  listener = 19,  ///< init → runner: the proxy's listener comes with it.
  leased = 20,    ///< init → runner: it holds the lease, and no descriptor of it any more.
};

struct init_record {
  init_op op{};
  std::uint32_t id = 0;  ///< Chosen by the runner; names the exec in answers.
  std::int32_t status = 0;
  std::uint32_t uid = 0;           ///< Inside the zone; also the gid.
  std::uint32_t file_mib_max = 0;  ///< Of one file that it writes, setrlimit(2); 0: no limit.
  std::string cwd;
  std::vector<std::string> argv, env;
};

namespace detail {
struct init_header {
  std::uint32_t magic, op, id;
  std::int32_t status;
  std::uint32_t uid, file_mib_max, argc, envc;
};
inline constexpr std::uint32_t init_magic = 0x7a74726eu;
}  // namespace detail

/// The packet of a record; empty when it would be longer than init_packet_bytes_max or holds NUL.
inline std::string encode(const init_record& r) {
  const detail::init_header head{detail::init_magic,
                                 static_cast<std::uint32_t>(r.op),
                                 r.id,
                                 r.status,
                                 r.uid,
                                 r.file_mib_max,
                                 static_cast<std::uint32_t>(r.argv.size()),
                                 static_cast<std::uint32_t>(r.env.size())};
  std::string out(sizeof head, '\0');
  std::memcpy(out.data(), &head, sizeof head);
  const auto add = [&out](const std::string& word) { out.append(word.c_str(), word.size() + 1); };
  add(r.cwd);
  for (const auto& w : r.argv) add(w);
  for (const auto& w : r.env) add(w);
  return out.size() > init_packet_bytes_max ? std::string{} : out;
}

/// The record of a packet; nothing for one that is not exactly a record.
inline std::optional<init_record> decode(std::string_view packet) {
  detail::init_header head{};
  if (packet.size() < sizeof head || packet.size() > init_packet_bytes_max) return {};
  std::memcpy(&head, packet.data(), sizeof head);
  packet.remove_prefix(sizeof head);
  if (head.magic != detail::init_magic || head.argc > init_words_max || head.envc > init_words_max)
    return {};
  init_record out;
  out.op = static_cast<init_op>(head.op);
  out.id = head.id;
  out.status = head.status;
  out.uid = head.uid;
  out.file_mib_max = head.file_mib_max;
  for (std::uint32_t i = 0; i < 1 + head.argc + head.envc; ++i) {
    const auto end = packet.find('\0');
    if (end == std::string_view::npos) return {};
    std::string word{packet.substr(0, end)};
    packet.remove_prefix(end + 1);
    if (i == 0)
      out.cwd = std::move(word);
    else if (i <= head.argc)
      out.argv.push_back(std::move(word));
    else
      out.env.push_back(std::move(word));
  }
  if (!packet.empty()) return {};
  return out;
}

}  // namespace ntrace::zone
