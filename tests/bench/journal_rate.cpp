#include "tests/bench/journal_rate.hpp"

#include <algorithm>

#include "actors/journal/journal_sqlite.hpp"
#include "config/ids.hpp"

namespace ntrace::bench {
namespace {

std::vector<journal::batch> pushes(unsigned count, ulid_source& ids, random_source& random) {
  std::vector<journal::batch> out(count);
  const auto now = wall_ms();
  for (auto& one : out) {
    journal::insert_run in;
    in.run.id = ids.next(now, random);
    in.run.owner = "owner";
    in.run.repo = "repo";
    in.run.sha = std::string(40, '0');
    in.run.source = "https://github.com/owner/repo.git";
    in.run.created_ms = now;
    one.push_back(std::move(in));
  }
  return out;
}

}  // namespace

result<load_figures> journal_rate(const std::string& dir, unsigned group, milliseconds time) {
  auto db = journal::journal_sqlite::open(dir + "/journal-of-" + std::to_string(group) + ".db",
                                          sqlite::role::writer);
  if (!db) return fail(db.error());
  ulid_source ids;
  random_source random{random_seed()};
  load_figures out;
  const auto from = steady_now() + warm_up;
  const auto end = from + time;
  for (auto now = steady_now(); now < end;) {
    const auto batches = pushes(group, ids, random);
    const auto began = steady_now();
    if (auto done = (*db)->commit(batches); !done) return fail(done.error());
    now = steady_now();
    if (began >= from)
      out.latency.us.push_back(std::chrono::duration<double, std::micro>(now - began).count());
  }
  out.per_second = static_cast<double>(out.latency.us.size() * group) /
                   std::chrono::duration<double>(steady_now() - from).count();
  std::sort(out.latency.us.begin(), out.latency.us.end());
  return out;
}

}  // namespace ntrace::bench
