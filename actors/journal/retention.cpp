// What the journal deletes, in steps that are short enough to come between two writes.
#include "actors/journal/run_columns.hpp"

namespace ntrace::journal {
namespace {

// Of one step: some milliseconds at most.
constexpr std::size_t runs_per_step = 32;
constexpr std::size_t chunks_per_step = 64;
constexpr std::int64_t pages_per_step = 256;
/// However old, so many stay: a clock that jumps ahead does not empty the journal.
constexpr std::int64_t runs_kept = 1000;
constexpr std::int64_t refusals_kept = 10'000;

}  // namespace

result<std::int64_t> journal_sqlite::pragma(const char* sql) {
  statement s{*db_, sql};
  auto row = s.step();
  if (!row) return fail(row.error());
  return s.number(0);
}

result<std::pair<std::int64_t, std::int64_t>> journal_sqlite::size() {
  const auto page = pragma("pragma page_size"), pages = pragma("pragma page_count"),
             free = pragma("pragma freelist_count");
  for (const auto* one : {&page, &pages, &free})
    if (!*one) return fail(one->error());
  return std::pair{*page * *pages, *page * *free};
}

result<void> journal_sqlite::bound(std::int64_t bytes) {
  const auto page = pragma("pragma page_size");
  if (!page) return fail(page.error());
  bound_bytes_ = bytes;
  // SQLite takes no bound below what the file has already.
  if (!db_->run(("pragma max_page_count=" + std::to_string(bytes / *page)).c_str()))
    return fail(db_->failure("bound"));
  return {};
}

/// A file that is full by its own bound has another remedy than a full disk.
error journal_sqlite::full(error e) {
  if (e.code != ec::journal_full || bound_bytes_ == 0) return e;
  const auto now = size();
  if (!now || now->first - now->second < bound_bytes_ - bound_bytes_ / 16) return e;
  e.message = "the journal " + db_->path() +
              " has reached its bound, journal_bytes = " + std::to_string(bound_bytes_) +
              "; ended runs are being deleted; if it stays, raise the bound";
  return e;
}

result<std::size_t> journal_sqlite::delete_run(const std::string& run, std::size_t chunks_max,
                                               bool& is_gone) {
  // From the last chunk on, so that what is left has no gap.
  auto done = statement{*db_,
                        "delete from chunk where id in (select id from chunk where run=? "
                        "order by id desc limit ?)"}
                  .bind(run)
                  .bind(chunks_max)
                  .done();
  if (!done) return fail(done.error());
  const auto chunks = static_cast<std::size_t>(sqlite3_changes(db_->handle()));
  is_gone = chunks < chunks_max;
  if (!is_gone) {
    // So that nobody takes for lost what is being deleted.
    auto told = statement{*db_, "insert or ignore into flag(name, value) values('deleting '||?, 1)"}
                    .bind(run)
                    .done();
    if (!told) return fail(told.error());
    return chunks;
  }
  for (const auto* sql : {"delete from flag where name='deleting '||?",
                          "delete from doc where token in (select token from attempt where run=?)",
                          "delete from attempt where run=?", "delete from event where run=?",
                          "delete from outage where run=?", "delete from run where id=?"})
    if (auto gone = statement{*db_, sql}.bind(run).done(); !gone) return fail(gone.error());
  return chunks;
}

result<void> journal_sqlite::delete_ended(const retention& keep, std::int64_t now_ms,
                                          retained& out) {
  const auto now = size();
  if (!now) return fail(now.error());
  const bool is_crowded = keep.bytes != 0 && now->first - now->second > keep.bytes / 5 * 4;
  std::int64_t before = is_crowded ? std::numeric_limits<std::int64_t>::max() : 0;
  if (!is_crowded && keep.age.count() != 0) {
    statement s{*db_, "select updated_ms from run where " NTRACE_RUN_HAS_ENDED
                      " order by updated_ms desc limit 1 offset ?"};
    auto row = s.bind(runs_kept).step();
    if (!row) return fail(row.error());
    before = *row ? std::min(s.number(0), now_ms - keep.age.count()) : 0;
  }
  std::vector<std::string> due;
  // The run of the highest token stays: tokens go on from it.
  auto read =
      statement{*db_, "select id from run where " NTRACE_RUN_HAS_ENDED
                      " and updated_ms<? and "
                      "id<>coalesce((select run from attempt order by token desc limit 1),'') "
                      "order by updated_ms limit ?"}
          .bind(before)
          .bind(runs_per_step)
          .each([&](const statement& s) { due.push_back(s.text(0)); });
  if (!read) return read;
  for (const auto& run : due) {
    if (out.chunks >= chunks_per_step) break;
    bool is_gone = false;
    auto chunks = delete_run(run, chunks_per_step - out.chunks, is_gone);
    if (!chunks) return fail(chunks.error());
    out.chunks += *chunks;
    out.runs += is_gone ? 1 : 0;
  }
  out.is_more = !due.empty();
  return {};
}

result<retained> journal_sqlite::retain(const retention& keep, std::int64_t now_ms) {
  retained out;
  const auto work = [&]() -> result<void> {
    if (auto done = delete_ended(keep, now_ms, out); !done) return done;
    auto done = statement{*db_,
                          "delete from event where id in (select id from event where "
                          "what='push_refused' and id<=(select id from event where "
                          "what='push_refused' order by id desc limit 1 offset ?) "
                          "order by id limit ?)"}
                    .bind(refusals_kept)
                    .bind(runs_per_step)
                    .done();
    if (!done) return done;
    out.refusals = static_cast<std::size_t>(sqlite3_changes(db_->handle()));
    const auto now = size();
    if (!now) return fail(now.error());
    const bool can_shrink = pragma("pragma auto_vacuum").value_or(0) == 2;
    const auto free = pragma("pragma freelist_count").value_or(0);
    // Some free pages are worth keeping: the next runs take them.
    if (!can_shrink || now->second <= now->first / 4 || free <= pages_per_step) return {};
    statement vacuum{*db_, "pragma incremental_vacuum(256)"};
    if (auto freed = vacuum.each([](const statement&) {}); !freed) return freed;
    out.pages = static_cast<std::size_t>(free - pragma("pragma freelist_count").value_or(free));
    return {};
  };
  if (auto begun = statement{*db_, "begin immediate"}.done(); !begun) return fail(begun.error());
  auto done = work();
  if (done) done = statement{*db_, "commit"}.done();
  if (!done) {
    db_->undo();
    return fail(done.error());
  }
  out.is_more = out.is_more || out.refusals != 0 || out.pages != 0;
  return out;
}

}  // namespace ntrace::journal
