#pragma once
// Holds what the journal has of one run, its story line by line and its rows in the tables, against
// the safety invariants of docs/simulator.md that can be read off them. Pure.
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "actors/journal/journal_types.hpp"

namespace ntrace::journal {

struct numbered_event {
  std::int64_t id = 0;  ///< Rises in the order of the commits.
  event what;
};

/// The rows of one run in one snapshot of the journal.
struct story {
  struct attempt {
    std::uint64_t token = 0;
    std::uint64_t chunks = 0, last_chunk = 0;  ///< Stored: how many, and the highest number.
    std::string verdict;
    bool is_placeholder = false;  ///< By `ntrace journal salvage`: nothing else is known of it.
  };
  std::string run;
  bool has_row = false;
  bool is_being_deleted = false;        ///< Retention has taken some of its chunks.
  run_state state = run_state::queued;  ///< As the table says.
  std::uint64_t token = 0, attempts_begun = 0;
  std::int64_t pushed_seq = 0;           ///< The push's number; 0: not known.
  std::optional<std::uint64_t> outages;  ///< On record; an older journal keeps none.
  std::string verdict, reason;
  std::vector<attempt> attempts;
  std::uint64_t stray_chunks = 0;  ///< Of tokens that no attempt of the run has.
};

struct broken_rule {
  std::string invariant;  ///< "S4" …
  std::string run, what;
};

struct story_rules {
  std::uint64_t attempts_max = 0;  ///< For lines that do not say it themselves; 0: not known.
  /// Lines up to this one were written before these rules were known to hold: by another
  /// configuration.
  std::int64_t after = 0;
};

/// What was found of one run.
struct judgement {
  bool is_kept = false;    ///< There is something of the run.
  bool is_whole = true;    ///< False: it has more lines than were read, and nothing was judged.
  bool has_story = false;  ///< There are lines.
  std::vector<broken_rule> broken;  ///< The first of them.
  std::uint64_t count = 0;          ///< All of them.
};

/// Reads the lines of one run, in their order.
class story_checker {
public:
  /// So many broken rules of one run are told in words.
  static constexpr std::size_t told_max = 20;

  story_checker(const story& rows, const story_rules& rules) : story_{rows}, rules_{rules} {}
  void on(const numbered_event& e);
  /// After the last line.
  judgement finish();

private:
  void hold(const char* invariant, bool holds, std::string what);
  bool is_open() const { return !domain::is_terminal(state_); }
  std::string state() const { return std::string{domain::to_string(state_)}; }
  void on_story_lost(const event& e);
  void on_offered(std::uint64_t token);
  void on_accepted(const numbered_event& e);
  void on_started(std::uint64_t token);
  void on_revived(std::uint64_t token);
  void on_ended(const numbered_event& e);
  void hold_chunks(const numbered_event& e);
  void end(run_state next);
  void on_requeued(const event& e);
  void at_the_end();

  const story& story_;
  const story_rules& rules_;
  judgement out_;
  run_state state_ = run_state::queued;
  std::uint64_t lines_ = 0, offered_ = 0, live_ = 0, accepted_ = 0, attempts_max_ = 0;
  std::uint64_t outages_ = 0;  ///< Of the accepted attempts, those that met one.
  std::int64_t accepted_at_ = 0;
  std::set<std::uint64_t> offers_;
  std::map<std::uint64_t, std::string> verdicts_;  ///< By token, as the lines say.
  std::optional<std::string> verdict_;             ///< The run's.
  /// By `ntrace journal salvage`: what came before is not known.
  bool is_salvaged_ = false, is_lost_ = false;
  bool is_counted_ = true;
};

/// Tokens rise over all runs; given all offers in the order of the commits.
class token_order {
public:
  explicit token_order(std::uint64_t last = 0) : last_{last} {}
  std::optional<broken_rule> on_offered(const std::string& run, std::uint64_t token);

private:
  std::uint64_t last_ = 0;
};

/// True for the line by which a run is given to somebody under a new token.
bool is_offer(std::string_view what);

/// True for the end of an attempt that counts towards no limit: what it needed was not to be
/// reached, and nothing else decided what becomes of the run.
bool met_outage(const event& e);

}  // namespace ntrace::journal
