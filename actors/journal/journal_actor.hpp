#pragma once
// The journal's writer and its reader, each on its own thread: SQLite blocks.
#include <caf/actor.hpp>
#include <caf/actor_system.hpp>
#include <caf/typed_actor.hpp>

#include "actors/journal/journal_sqlite.hpp"
#include "actors/journal/run_sink.hpp"
#include "supervision/held_bytes.hpp"

namespace ntrace::journal {

/// Work for the writer, of each batch all or nothing. Many in one message: the way to another
/// thread and back costs more than a batch.
struct write_request {
  std::vector<batch> batches;
};
/// What became of each of them.
struct written {
  std::vector<result<committed>> outcomes;
};
/// Hears what became of a direct_write.
class write_sink {
public:
  virtual ~write_sink() = default;
  /// Once, on the writer's thread, where nothing may wait. A writer that ends drops its sinks: then
  /// it is not known what became of it.
  virtual void on_written(std::vector<result<committed>> outcomes) = 0;
};
/// A write_request of a thread that is no actor.
struct direct_write {
  std::vector<batch> batches;
  std::shared_ptr<write_sink> sink;
};
/// One run with its attempts; and with its story.
struct show_query {
  std::string run;
};
struct why_query {
  std::string run;
};
/// How many runs there are, by state.
struct counts_query {};
/// A question for the reader.
struct read_request {
  std::variant<domain::runs_query, show_query, why_query, domain::logs_query, counts_query> what;
};
struct read_answer {
  nlohmann::json value;
};
struct find_request {
  std::string run;
};
struct found_run {
  run_row row;
};
/// What the dispatcher starts from: the runs with a lease. Those that only wait are many, and are
/// given by pages.
struct recovery {
  std::vector<run_row> runs;
  std::uint64_t highest_token = 0;
  bool is_draining = false;
};
/// The queued runs behind this place.
struct page_request {
  queue_place after;
};
struct page {
  std::vector<run_row> runs;
  queue_place last;  ///< Of the last of `runs`.
  bool is_last = true;
};
using recover_atom = caf::atom_constant<caf::atom("recover")>;
using flush_atom = caf::atom_constant<caf::atom("flush")>;
using reopen_atom = caf::atom_constant<caf::atom("reopen")>;
using retain_atom = caf::atom_constant<caf::atom("retain")>;

using journal_actor = caf::typed_actor<
    /// Answered after the fsync of the transaction that holds the last of them. A batch that is
    /// refused (journal_full, journal_failed, overloaded) left nothing behind.
    caf::replies_to<write_request>::with<written>, caf::reacts_to<direct_write>,
    caf::replies_to<recover_atom>::with<recovery>,
    /// Between the writes, in order: what is written after it is not in it.
    caf::replies_to<page_request>::with<page>,
    /// From itself: commit what has come together.
    caf::reacts_to<flush_atom>,
    /// From itself, after a write failed: is the file whole again?
    caf::reacts_to<reopen_atom>,
    /// From itself: delete what is kept no longer, a little at a time.
    caf::reacts_to<retain_atom>>;

using journal_reader = caf::typed_actor<
    /// The rows asked for, as JSON; not_found and bad_argument as they are.
    caf::replies_to<read_request>::with<read_answer>,
    /// One run as it is kept.
    caf::replies_to<find_request>::with<found_run>>;

/// Spawned detached; the error of a journal that cannot be opened.
result<caf::actor> spawn_journal(caf::actor_system& system, const std::string& path,
                                 const retention& keep, const std::shared_ptr<run_sink>& new_runs);
result<caf::actor> spawn_journal_reader(caf::actor_system& system, const std::string& path);

}  // namespace ntrace::journal

NTRACE_LOCAL_MESSAGE(ntrace::journal::write_request)
NTRACE_LOCAL_MESSAGE(ntrace::journal::direct_write)
NTRACE_LOCAL_MESSAGE(ntrace::journal::read_request)
NTRACE_LOCAL_MESSAGE(ntrace::journal::read_answer)
NTRACE_LOCAL_MESSAGE(ntrace::journal::find_request)
NTRACE_LOCAL_MESSAGE(ntrace::journal::found_run)
NTRACE_LOCAL_MESSAGE(ntrace::journal::recovery)
NTRACE_LOCAL_MESSAGE(ntrace::journal::page_request)
NTRACE_LOCAL_MESSAGE(ntrace::journal::page)
NTRACE_LOCAL_MESSAGE(ntrace::journal::written)
