#pragma once
// What programs in a zone find of its limits, and what keeps the folder of a profiled job clean.
// docs/zones.md, "What a job sees".
#include <string>
#include <string_view>

namespace ntrace::zone {

/// What sysconf(_SC_NPROCESSORS_ONLN) reads, and who counts CPUs by it.
inline constexpr std::string_view online_cpus_file = "/sys/devices/system/cpu/online";
/// Where programs look for their own limits: cgroups(7).
inline constexpr std::string_view limits_folder = "/sys/fs/cgroup";
inline constexpr std::string_view limits_flags = "ro,nosuid,nodev,noexec";

/// A folder of the host's that holds a zone's own limits, and where it lies in the zone.
struct limits_view {
  std::string host, inside;
};

/// A module that profiled Node programs load first. V8 opens a log beside its perf map, in the
/// working folder, and no flag that NODE_OPTIONS may hold moves it: the module removes the one of
/// this process before the program's first line, and later threads of it open theirs in /tmp. A
/// log that the program's own flags ask for stays.
inline constexpr std::string_view node_module_file = "/run/ntrace-node.cjs";
inline constexpr std::string_view node_module = R"js('use strict';
try {
  var fs = require('fs');
  var own = process.execArgv.some(function (word) { return /^--(no-)?(prof|log)/.test(word); });
  if (!own) {
    fs.readdirSync('/proc/self/fd').forEach(function (fd) {
      var file = '';
      try { file = fs.readlinkSync('/proc/self/fd/' + fd); } catch (closed) {}
      if (/\/isolate-0x[0-9a-f]+-\d+-v8\.log$/.test(file)) fs.unlinkSync(file);
    });
    require('v8').setFlagsFromString('--logfile=/tmp/v8.log');
  }
} catch (unwritable) {}
)js";

/// In zone init, before there is a job, which inherits it: keeps to the CPUs of the list `cpus`,
/// unless it is empty, and writes the files. The step that failed, with errno; else null.
const char* show_sights(std::string_view cpus);

}  // namespace ntrace::zone
