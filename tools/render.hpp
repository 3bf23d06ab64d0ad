#pragma once
// Stacks in the format that the command line asked for.
#include <unistd.h>

#include <iostream>

#include "actors/profiler/flame_graph.hpp"
#include "actors/profiler/formats.hpp"
#include "tools/command.hpp"
#include "tools/output.hpp"

namespace ntrace::tools {

struct render_args {
  std::string format = "svg", file, title = "Flame graph", subtitle;
  std::uint64_t frequency = 999;
  bool as_json = false;
  void add(cli::app sub) {
    sub.add_option("--format", format, "what is drawn or written")
        .check(cli::one_of({"svg", "html", "folded", "speedscope", "pprof", "text"}))
        .capture_default_str();
    sub.add_option("-o,--output", file, "file; standard output when absent").type_name("FILE");
  }
};

inline std::string render(const profiler::stack_set& stacks, const render_args& a) {
  const profiler::flame_options options{a.title, a.subtitle};
  if (a.format == "svg") return flame_svg(stacks, options);
  if (a.format == "html") return flame_html(stacks, options);
  if (a.format == "folded") return stacks.folded();
  if (a.format == "speedscope") return speedscope_json(stacks, a.title);
  if (a.format == "pprof") return pprof_bytes(stacks, a.frequency);
  if (!a.as_json) return profiler::hottest_table(stacks, 20, terminal_width());
  json rows = json::array();
  for (const auto& row : hottest_frames(stacks, 20))
    rows.push_back({{"frame", row.name}, {"self", row.self}, {"total", row.total}});
  return rows.dump() + "\n";
}

/// Writes to the file or to standard output; the exit code.
inline int put(const render_args& a, const std::string& content) {
  if (a.file.empty() && a.format == "pprof" && ::isatty(1) == 1)
    return report({ec::bad_config, "pprof is no text for a terminal; name a file with -o", {}});
  if (a.file.empty())
    std::cout << content;
  else if (auto written = write_named_file(a.file, content); !written)
    return report(written.error());
  return 0;
}

}  // namespace ntrace::tools
