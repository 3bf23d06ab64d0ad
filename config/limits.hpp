#pragma once
// Bounds on everything that a peer, a job or time can grow.
#include <chrono>
#include <cstddef>
#include <cstdint>

namespace ntrace::limits {

using namespace std::chrono_literals;

inline constexpr std::size_t line_bytes_max = 4u << 20;    // docs/protocol.md, "Framing"
inline constexpr int json_depth_max = 64;                  // docs/protocol.md, "Framing"
inline constexpr std::size_t unanswered_max = 1024;        // docs/protocol.md, "Framing"
inline constexpr std::size_t unsent_bytes_max = 8u << 20;  // docs/protocol.md, "Framing"
inline constexpr auto unread_deadline = 60s;               // docs/protocol.md, "Framing"
inline constexpr std::size_t connections_max = 1024;       // half of the usual 2048 descriptors
inline constexpr int keepalive_idle_s = 10;  // with the probes: dead after 25 s, below a lease
inline constexpr int keepalive_interval_s = 5;
inline constexpr int keepalive_probes = 3;
inline constexpr int unacknowledged_ms = 25'000;            // tcp(7), TCP_USER_TIMEOUT
inline constexpr std::size_t chunk_bytes_max = 256u << 10;  // well below a line, base64 included
inline constexpr std::size_t outbox_bytes_max = 1u << 30;   // on disk, of all attempts
inline constexpr std::size_t outbox_attempt_bytes_max = 128u << 20;  // twice output_hard_bytes
inline constexpr std::size_t pushes_queued_max = 1u << 20;           // 1 Mi waiting runs
inline constexpr std::size_t journal_queue_max = 16u << 10;  // operations that wait for the writer
inline constexpr std::size_t batch_max = 1024;               // operations in one transaction

inline constexpr std::uint64_t source_bytes_max = 512ull << 20;  // unpacked size of one source
inline constexpr std::uint64_t source_entries_max = 100'000;
inline constexpr std::size_t source_depth_max = 64;    // directories below each other
inline constexpr std::size_t path_bytes_max = 4096;    // Linux: PATH_MAX
inline constexpr std::size_t submodules_max = 64;      // of one source, at all depths
inline constexpr std::size_t gitmodules_max = 1024;    // that one .gitmodules names
inline constexpr std::size_t submodule_depth_max = 8;  // submodules of submodules
inline constexpr std::size_t tree_texts_max = 64;  // .gitmodules and .gitattributes that are read
inline constexpr std::uint64_t download_bytes_max = 256ull << 20;

}  // namespace ntrace::limits
