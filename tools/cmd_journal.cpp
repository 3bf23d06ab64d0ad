// journal: check, copy, compact and salvage the dispatcher's journal.
#include <filesystem>
#include <iostream>

#include "actors/journal/journal_file.hpp"
#include "config/folder_lock.hpp"
#include "tools/command.hpp"

namespace ntrace::tools {
namespace {

struct journal_args {
  std::string path, to;
  bool as_json = false, as_is = false;
  std::shared_ptr<setting_flags> flags;

  /// The file that was named, else the one in the data folder.
  result<std::string> file() const {
    if (!path.empty()) return path;
    const auto s = flags->load();
    if (!s) return fail(s.error());
    return s->text("data") + "/journal.sqlite";
  }
};

int check(const journal_args& a) {
  const auto path = a.file();
  const auto found = path ? journal::check_file(*path) : fail(path.error());
  if (!found) return report(found.error(), a.as_json);
  if (a.as_json) {
    std::cout << json{{"journal", *path},
                      {"whole", found->count == 0},
                      {"runs", found->runs},
                      {"count", found->count},
                      {"findings", found->findings}}
                     .dump(-1, ' ', false, json::error_handler_t::replace)
              << "\n";
  } else {
    for (const auto& line : found->findings) std::cout << for_terminal(line) << "\n";
    if (found->count > found->findings.size())
      std::cout << "… and " << found->count - found->findings.size() << " more\n";
    if (found->count == 0)
      std::cout << *path << " is whole: " << found->runs << " runs keep all rules\n";
    else
      std::cout << *path << " has " << found->count << " faults; `ntrace journal salvage " << *path
                << " NEW` saves what can be read, `ntrace journal backup --as-is` keeps it as it "
                   "is\n";
  }
  return found->count == 0 ? 0 : 5;
}

int backup(const journal_args& a) {
  const auto path = a.file();
  const auto done = path ? journal::backup_file(*path, a.to, a.as_is) : fail(path.error());
  if (!done) return report(done.error(), a.as_json);
  if (a.as_json)
    std::cout << json{{"journal", *path}, {"backup", a.to}, {"checked", !a.as_is}}.dump() << "\n";
  else
    std::cout << a.to << (a.as_is ? " is a copy of " : " is a whole copy of ") << *path
              << (a.as_is ? "; it was not checked\n" : "\n");
  return 0;
}

/// A dispatcher must not start while the file is made: it would wait for it, or make another.
result<folder_lock> own_folder_of(const std::string& path) {
  const std::filesystem::path file{path};
  if (file.filename() != "journal.sqlite") return fail(ec::not_found, "no data folder");
  const auto folder = file.parent_path();
  return folder_lock::take(folder.empty() ? "." : folder.string(), {folder_role::dispatcher});
}

int compact(const journal_args& a) {
  const auto path = a.file();
  // Beside a running dispatcher the locks of SQLite are enough.
  const auto owned = path ? own_folder_of(*path) : fail(path.error());
  const auto bytes = path ? journal::compact_file(*path) : fail(path.error());
  if (!bytes) return report(bytes.error(), a.as_json);
  if (a.as_json)
    std::cout << json{{"journal", *path},
                      {"bytes_before", bytes->first},
                      {"bytes_after", bytes->second}}
                     .dump()
              << "\n";
  else
    std::cout << *path << " with its log had " << bytes->first << " bytes on the disk and has "
              << bytes->second << "\n";
  return 0;
}

int salvage(const journal_args& a) {
  const auto owned = own_folder_of(a.to);
  if (!owned && owned.error().code == ec::folder_busy) return report(owned.error(), a.as_json);
  const auto got = journal::salvage_file(a.path, a.to);
  if (!got) return report(got.error(), a.as_json);
  if (a.as_json) {
    std::cout << json{{"journal", a.to},
                      {"runs", got->runs},
                      {"attempts", got->attempts},
                      {"chunks", got->chunks},
                      {"events", got->events},
                      {"unreadable", got->unreadable},
                      {"requeued", got->requeued},
                      {"stories_lost", got->stories_lost},
                      {"lost_runs", got->lost_runs}}
                     .dump()
              << "\n";
    return 0;
  }
  std::cout << a.to << " has " << got->runs << " runs, " << got->attempts << " attempts, "
            << got->chunks << " chunks, " << got->events << " events; " << got->unreadable
            << " places could not be read; " << got->requeued
            << " runs that were under way start again\n";
  if (got->stories_lost != 0)
    std::cout << got->stories_lost << " runs had a story that is incomplete or breaks a rule; it "
              << "starts again\n";
  for (const auto& run : got->lost_runs)
    std::cout << "lost: run " << run << ", named by other tables only; push it again\n";
  std::cout << "stop the dispatcher, move the damaged file and its -wal and -shm away, put " << a.to
            << " in its place, start\n";
  return 0;
}

}  // namespace

void add_journal(cli::app app, outcome& out) {
  const auto sub =
      app.add_subcommand("journal", "Check, copy, compact or salvage the dispatcher's journal");
  sub.require_subcommand(1);
  const auto add = [&](const char* name, const char* help, int (*run)(const journal_args&)) {
    const auto one = sub.add_subcommand(name, help);
    auto a = std::make_shared<journal_args>();
    one.add_flag("--json", a->as_json, "print JSON");
    one.callback([&out, a, run] { out.run = [a, run] { return run(*a); }; });
    return std::pair{one, a};
  };
  const auto [c, c_args] =
      add("check",
          "Pages, references, and each run against all rules; 5 when something is wrong. Safe "
          "while it is in use",
          check);
  c.add_option("FILE", c_args->path, "default: journal.sqlite in the data folder");
  c_args->flags = std::make_shared<setting_flags>(c);
  const auto [b, b_args] = add("backup", "A whole copy, while the dispatcher works", backup);
  b.add_option("TO", b_args->to, "a new file").required();
  b.add_option("--file", b_args->path, "default: journal.sqlite in the data folder")
      .type_name("FILE");
  b.add_flag("--as-is", b_args->as_is, "even with faults, as evidence");
  b_args->flags = std::make_shared<setting_flags>(b);
  const auto [k, k_args] =
      add("compact", "Give free space back to the disk; pushes wait meanwhile", compact);
  k.add_option("FILE", k_args->path, "default: journal.sqlite in the data folder");
  k_args->flags = std::make_shared<setting_flags>(k);
  const auto [s, s_args] =
      add("salvage", "Save the readable part of a damaged journal as a new one", salvage);
  s.add_option("FILE", s_args->path, "the damaged journal").required();
  s.add_option("TO", s_args->to, "a new file").required();
}

}  // namespace ntrace::tools
