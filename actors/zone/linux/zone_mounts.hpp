#pragma once
// What a zone sees of the kernel and of the host: one table for the engine that mounts it, for the
// bundle of an OCI runtime, and for the proof of clean (P10). docs/zones.md, "What a zone is made
// of".
#include <array>
#include <string_view>

namespace ntrace::zone {

struct zone_mount {
  std::string_view at, type;
  std::string_view flags;  ///< As mount(8) names them, with commas.
  std::string_view data;   ///< Options of the file system.
  bool is_sized = false;   ///< Bounded further by the boot's tmp_bytes and tmp_files_max.
};

/// In the order in which they are mounted; `/` and `/usr` are there before.
inline constexpr std::array zone_mounts{
    zone_mount{"/proc", "proc", "nosuid,nodev,noexec", ""},
    zone_mount{"/dev", "tmpfs", "nosuid,noexec", "size=64k,mode=755"},
    zone_mount{"/dev/pts", "devpts", "nosuid,noexec", "newinstance,ptmxmode=0666,mode=0620"},
    zone_mount{"/dev/shm", "tmpfs", "nosuid,nodev", "mode=1777", true},
    zone_mount{"/tmp", "tmpfs", "nosuid,nodev", "mode=1777", true},
    zone_mount{"/run", "tmpfs", "nosuid,nodev", "mode=755", true}};

inline constexpr std::string_view root_flags = "nosuid,nodev", usr_flags = "ro,nosuid,nodev";
inline constexpr unsigned tmp_files_max = 100'000;

/// The host's devices below /dev, for nobody may make a node in a user namespace.
inline constexpr std::array<std::string_view, 6> zone_devices{"null",   "zero",    "full",
                                                              "random", "urandom", "tty"};
/// Covered by /dev/null, where they exist.
inline constexpr std::array<std::string_view, 4> masked_files{
    "/proc/kcore", "/proc/keys", "/proc/sysrq-trigger", "/proc/timer_list"};
/// Covered by an empty folder, where they exist.
inline constexpr std::array<std::string_view, 1> masked_folders{"/proc/scsi"};
/// For reading only, where they exist.
inline constexpr std::array<std::string_view, 4> readonly_folders{"/proc/sys", "/proc/irq",
                                                                  "/proc/bus", "/proc/fs"};

}  // namespace ntrace::zone
