// fold and graph: the profiling engine on files, without any server.
#include <unistd.h>

#include <iostream>

#include "actors/profiler/fold.hpp"
#include "tools/render.hpp"

namespace ntrace::tools {
namespace {

constexpr std::size_t input_bytes_max = 8ull << 30;  // as much as unpack_input() gives at most

struct engine_args {
  render_args render;
  std::string input, from, event, count = "samples", job_folder;
  bool with_pid = false, with_tid = false, merge = false, idle = false, tiers = false;
};

result<std::string> read_input(const std::string& path) {
  auto text = read_stream(path.empty() || path == "-" ? "/dev/stdin" : path, input_bytes_max);
  if (!text) return text;
  return profiler::unpack_input(std::move(*text));
}

result<profiler::folding> fold_input(const engine_args& a) {
  auto text = read_input(a.input);
  if (!text) return fail(text.error());
  auto format = a.from.empty()
                    ? profiler::detect_format(*text)
                    : result<profiler::stack_format>{*profiler::stack_format_from(a.from)};
  if (!format) return fail(format.error());
  profiler::fold_options options;
  options.count = a.count == "period" ? profiler::fold_options::weight::period
                  : a.count == "time" ? profiler::fold_options::weight::time
                                      : profiler::fold_options::weight::samples;
  options.event = a.event;
  options.with_pid = a.with_pid;
  options.with_tid = a.with_tid;
  options.merge_recursion = a.merge;
  options.with_idle = a.idle;
  options.js = {a.job_folder, a.tiers};
  return profiler::fold(*text, *format, options);
}

/// Names each kind of input that was left out, once, on stderr.
void tell(const profiler::fold_report& r) {
  for (const auto& [event, n] : r.other_events)
    std::cerr << "ntrace: left out " << n << " samples of " << for_terminal(event)
              << "; --event selects\n";
  if (r.skipped_lines > 0)
    std::cerr << "ntrace: skipped " << r.skipped_lines << " lines that fit nowhere\n";
  for (const auto& line : r.first_skipped) std::cerr << "  " << for_terminal(line) << "\n";
  if (r.unresolved_jit > 0)
    std::cerr << "ntrace: " << r.unresolved_jit << " samples hold JIT frames without a name\n";
  if (r.truncated > 0)
    std::cerr << "ntrace: " << r.truncated
              << " stacks were too deep for the sampler and lost their root\n";
}

int run(const engine_args& a) {
  auto folded = fold_input(a);
  if (!folded) return report(folded.error(), a.render.as_json);
  tell(folded->report);
  return put(a.render, render(folded->stacks, a.render));
}

}  // namespace

void add_engine(cli::app app, outcome& out) {
  const auto add = [&](const char* name, const char* help) {
    const auto sub = app.add_subcommand(name, help);
    auto a = std::make_shared<engine_args>();
    sub.add_option("FILE", a->input, "input; standard input when absent or -");
    return std::pair{sub, a};
  };
  auto [fold, f] = add("fold", "perf script text, DTrace stacks or a .cpuprofile to folded stacks");
  f->render.format = "folded";
  fold.add_option("-o,--output", f->render.file, "file; standard output when absent")
      .type_name("FILE");
  fold.add_option("--from", f->from, "format of the input; detected when absent")
      .check(cli::one_of({"perf", "dtrace", "cpuprofile", "folded"}));
  fold.add_option("--event", f->event, "fold this event only, or all").type_name("NAME");
  fold.add_option("--count", f->count, "weight of a sample")
      .check(cli::one_of({"samples", "period", "time"}))
      .capture_default_str();
  fold.add_option("--job-folder", f->job_folder, "paths below it become relative").type_name("DIR");
  fold.add_flag("--pid", f->with_pid, "pid in the root frame");
  fold.add_flag("--tid", f->with_tid, "pid and tid in the root frame");
  fold.add_flag("--merge-recursion", f->merge, "join direct repeats of a frame");
  fold.add_flag("--idle", f->idle, "keep V8's idle time");
  fold.add_flag("--js-tiers", f->tiers, "keep V8's tier before a name");
  fold.callback([&out, a = f] { out.run = [a] { return run(*a); }; });
  auto [graph, g] = add("graph", "Folded stacks to a flame graph or another format");
  g->render.add(graph);
  graph.add_option("--title", g->render.title).type_name("TITLE").capture_default_str();
  graph.add_flag("--json", g->render.as_json, "with --format text: JSON");
  graph.callback([&out, a = g] { out.run = [a] { return run(*a); }; });
}

}  // namespace ntrace::tools
