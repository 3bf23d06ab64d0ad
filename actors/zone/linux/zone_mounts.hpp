#pragma once
// What a zone sees of the kernel and of the host: one table for the engine that mounts it, for the
// bundle of an OCI runtime, and for the proof of clean (P10). docs/zones.md, "What a zone is made
// of".
#include <array>
#include <string_view>
#include <utility>

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
    zone_mount{"/dev", "tmpfs", "ro,nosuid,noexec", "size=64k,mode=755"},
    zone_mount{"/dev/pts", "devpts", "nosuid,noexec", "newinstance,ptmxmode=0666,mode=0620,max=64"},
    zone_mount{"/dev/shm", "tmpfs", "nosuid,nodev", "mode=1777", true},
    zone_mount{"/tmp", "tmpfs", "nosuid,nodev", "mode=1777", true},
    zone_mount{"/run", "tmpfs", "nosuid,nodev", "mode=755", true},
    zone_mount{"/sys", "tmpfs", "nosuid,nodev,noexec", "size=64k,mode=755"}};

inline constexpr std::string_view root_flags = "nosuid,nodev", usr_flags = "ro,nosuid,nodev";
inline constexpr unsigned tmp_files_max = 100'000;

/// Below /dev. Nobody may make a node in a user namespace: the helper makes them as root, so that
/// they are files of the zone's own; where it may not, those of the host are bound.
struct zone_device {
  const char* name;
  unsigned major, minor;  ///< Linux: Documentation/admin-guide/devices.txt
};
inline constexpr std::array zone_devices{zone_device{"null", 1, 3},    zone_device{"zero", 1, 5},
                                         zone_device{"full", 1, 7},    zone_device{"random", 1, 8},
                                         zone_device{"urandom", 1, 9}, zone_device{"tty", 5, 0}};
inline constexpr std::array<std::pair<const char*, const char*>, 5> device_links{
    {{"/proc/self/fd", "fd"},
     {"/proc/self/fd/0", "stdin"},
     {"/proc/self/fd/1", "stdout"},
     {"/proc/self/fd/2", "stderr"},
     {"pts/ptmx", "ptmx"}}};

/// Of /proc, what tells of the whole machine and what no program needs; docs/zones.md, "What a zone
/// learns of the host". What only root of the machine may read is closed without us.
/// Covered by the zone's /dev/null, where they exist:
inline constexpr std::array<std::string_view, 46> masked_files{"/proc/allocinfo",
                                                               "/proc/bootconfig",
                                                               "/proc/buddyinfo",
                                                               "/proc/cmdline",
                                                               "/proc/config.gz",
                                                               "/proc/consoles",
                                                               "/proc/crypto",
                                                               "/proc/devices",
                                                               "/proc/diskstats",
                                                               "/proc/dma",
                                                               "/proc/execdomains",
                                                               "/proc/fb",
                                                               "/proc/interrupts",
                                                               "/proc/iomem",
                                                               "/proc/ioports",
                                                               "/proc/kallsyms",
                                                               "/proc/kcore",
                                                               "/proc/key-users",
                                                               "/proc/keys",
                                                               "/proc/kmsg",
                                                               "/proc/latency_stats",
                                                               "/proc/locks",
                                                               "/proc/mdstat",
                                                               "/proc/misc",
                                                               "/proc/modules",
                                                               "/proc/mtrr",
                                                               "/proc/pagetypeinfo",
                                                               "/proc/partitions",
                                                               "/proc/sched_debug",
                                                               "/proc/schedstat",
                                                               "/proc/slabinfo",
                                                               "/proc/softirqs",
                                                               "/proc/swaps",
                                                               "/proc/sysrq-trigger",
                                                               "/proc/timer_list",
                                                               "/proc/timer_stats",
                                                               "/proc/vmallocinfo",
                                                               "/proc/vmstat",
                                                               "/proc/zoneinfo",
                                                               "/proc/sys/fs/aio-nr",
                                                               "/proc/sys/fs/dentry-state",
                                                               "/proc/sys/fs/file-nr",
                                                               "/proc/sys/fs/inode-nr",
                                                               "/proc/sys/fs/inode-state",
                                                               "/proc/sys/kernel/pty/nr",
                                                               "/proc/sys/kernel/random/boot_id"};
/// Covered by an empty folder, where they exist:
inline constexpr std::array<std::string_view, 11> masked_folders{
    "/proc/acpi", "/proc/asound", "/proc/bus",      "/proc/driver", "/proc/fs",     "/proc/ide",
    "/proc/irq",  "/proc/mpt",    "/proc/pressure", "/proc/scsi",   "/proc/sys/dev"};
/// For reading only, where they exist:
inline constexpr std::array<std::string_view, 1> readonly_folders{"/proc/sys"};

}  // namespace ntrace::zone
