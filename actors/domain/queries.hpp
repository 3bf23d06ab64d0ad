#pragma once
// Questions about the runs that the journal keeps.
#include <cstdint>
#include <string>

namespace ntrace::domain {

/// A page of runs, the newest first.
struct runs_query {
  std::string repo{};             ///< "OWNER/REPO"; empty: all.
  std::string state{};            ///< Its word; empty: all.
  std::int64_t since_ms = 0;      ///< Pushed then or later, wall clock.
  std::string before{}, after{};  ///< Ids: only older, only newer runs. Empty: no bound.
  std::int64_t limit = 20;        ///< 1 to limit_max.
  static constexpr std::int64_t limit_max = 1000;
};

/// The chunks of a run behind one of them.
struct logs_query {
  std::string run{};
  std::uint64_t after = 0;  ///< A chunk's place in the journal, as an answer's "next" gives it.
  std::string stream{};     ///< Its word; empty: all.
};

}  // namespace ntrace::domain
