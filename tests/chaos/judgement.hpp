#pragma once
// What the fleet did, held against what it promises, once all is over.
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

#include "tests/chaos/fleet.hpp"
#include "tests/chaos/load.hpp"

namespace ntrace::chaos {

void wait(milliseconds time);
milliseconds since(time_point began);
/// Of a SQLite file that may be written meanwhile: what the query counts.
result<std::uint64_t> count(const std::string& path, const char* query);

class judgement {
public:
  void add(std::string invariant, std::string what) {
    violations_.push_back({{"invariant", std::move(invariant)}, {"what", std::move(what)}});
  }
  /// Ends all processes. One that is not done would wait for what never ends: that is a violation
  /// already.
  void judge_processes(fleet& all, bool is_done);
  /// The history that the journal and the client tell, by the simulator's checker; the end of each
  /// run; what waits.
  void judge(fleet& all, const load& pushes, nlohmann::json& figures);
  const nlohmann::json& violations() const { return violations_; }

private:
  void judge_history(fleet& all, const load& pushes, nlohmann::json& figures);
  void judge_ends(const std::string& journal, const load& pushes);
  nlohmann::json violations_ = nlohmann::json::array();
};

}  // namespace ntrace::chaos
