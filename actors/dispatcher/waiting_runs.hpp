#pragma once
// The runs that wait for a worker, a million of them if need be: in little memory, and the next one
// found without looking at the others. Pure.
#include <array>
#include <map>
#include <memory>
#include <memory_resource>
#include <optional>
#include <set>
#include <string>

#include "actors/dispatcher/source_template.hpp"
#include "actors/domain/run.hpp"

namespace ntrace::dispatcher {

using domain::outage_record_ptr;
using domain::run_row;

/// Order: priority classes first; then the repo that waits longest for its turn; then age, then id.
class waiting_runs {
public:
  /// Sources that the template gives are not kept.
  explicit waiting_runs(source_template sources) : sources_{std::move(sources)} {}
  waiting_runs(const waiting_runs&) = delete;
  waiting_runs& operator=(const waiting_runs&) = delete;

  /// Of `row` its state, token and last_seq are not kept. False, and nothing done, for an id that
  /// is there or has more than 26 bytes.
  bool add(const run_row& row);
  /// The next run; its repo's turn is over with it. nullopt when none waits.
  std::optional<run_row> take_next();
  std::optional<run_row> take(const std::string& id);
  std::optional<run_row> find(const std::string& id) const;
  bool contains(const std::string& id) const {
    return runs_.find(std::string_view{id}) != runs_.end();
  }
  std::size_t size() const { return runs_.size(); }

private:
  struct repo_queue;
  struct record {
    std::array<char, 26> id_bytes{};
    std::uint8_t id_size = 0, sha_size = 0;  ///< Of the sha in bytes.
    std::array<std::uint8_t, 32> sha{};
    std::int8_t priority = 0;
    std::uint32_t attempts = 0;
    std::int64_t created_ms = 0, deadline_ms = 0;
    std::uint64_t expired_token = 0;
    repo_queue* repo = nullptr;
    std::unique_ptr<const std::string> source;  ///< Null: what the template gives.
    outage_record_ptr outages;
    std::string_view id() const { return {id_bytes.data(), id_size}; }
  };
  struct by_id {
    using is_transparent = void;
    bool operator()(const record& a, const record& b) const { return a.id() < b.id(); }
    bool operator()(const record& a, std::string_view b) const { return a.id() < b; }
    bool operator()(std::string_view a, const record& b) const { return a < b.id(); }
  };
  struct by_age {
    bool operator()(const record* a, const record* b) const {
      return a->created_ms != b->created_ms ? a->created_ms < b->created_ms : a->id() < b->id();
    }
  };
  using lane = std::pmr::set<const record*, by_age>;  ///< Runs of one repo and priority.
  struct repo_queue {
    std::string owner, name;
    std::uint64_t turn = 0;     ///< When it last got one.
    std::map<int, lane> lanes;  ///< By priority.
  };
  /// A lane among the others: by priority, turn, and its oldest run.
  struct place {
    int priority = 0;
    std::uint64_t turn = 0;
    const record* oldest = nullptr;
    bool operator<(const place& other) const;
  };
  using records = std::pmr::set<record, by_id>;

  static place place_of(const repo_queue& repo, int priority, const lane& runs) {
    return {priority, repo.turn, *runs.begin()};
  }
  run_row row_of(const record& r) const;
  run_row remove(records::iterator at);
  void drop_idle_repos();
  /// After a long queue, once nothing waits.
  void give_memory_back();

  source_template sources_;
  /// What waits for long lies apart from what lives for one request, which so stays in few pages.
  std::pmr::unsynchronized_pool_resource memory_;
  records runs_{&memory_};
  std::size_t most_ = 0;                     ///< Runs since memory_ was given back.
  std::map<std::string, repo_queue> repos_;  ///< By "owner/name"; kept for their turn.
  std::set<place> order_;
  std::uint64_t next_turn_ = 1;
};

}  // namespace ntrace::dispatcher
