#pragma once
// Distinct stacks and their counts: frames interned, stacks as a trie, so that memory follows the
// number of distinct stack nodes and not the length of the input. Pure.
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "config/result.hpp"

namespace ntrace::profiler {

inline constexpr std::size_t depth_max = 4096;  // docs/profiling.md, "Bounds"
inline constexpr std::size_t stack_nodes_max = 20'000'000;
inline constexpr std::size_t frames_max = 4'000'000;

class stack_set {
public:
  using frame_id = std::uint32_t;
  using node_id = std::uint32_t;
  struct node {
    node_id parent = 0;
    frame_id frame = 0;
    std::uint64_t self = 0;  ///< Count of the stacks that end here.
  };

  stack_set();
  /// The id of a name, the same for the same name.
  frame_id intern(std::string_view name);
  const std::string& name(frame_id id) const { return *names_[id]; }

  /// Adds `count` to the stack, root first; deeper than depth_max is cut at the leaf's side.
  /// ec::too_many_stacks above the bounds, ec::overflow when the total leaves 64 bits.
  result<void> add(const std::vector<frame_id>& stack, std::uint64_t count);
  result<void> add(const stack_set& other);

  /// The nodes; index 0 is the root above all stacks, and each parent stands before its children.
  const std::vector<node>& nodes() const { return nodes_; }
  std::uint64_t total() const { return total_; }
  std::size_t frame_count() const { return names_.size(); }

  /// Each stack with a count, frames joined by ';', sorted bytewise: "a;b 3\n"….
  std::string folded() const;

private:
  std::unordered_map<std::string, frame_id> ids_;
  std::vector<const std::string*> names_;  ///< Keys of ids_, whose addresses are stable.
  std::unordered_map<std::uint64_t, node_id> children_;  ///< parent << 32 | frame.
  std::vector<node> nodes_;
  std::uint64_t total_ = 0;
};

/// One row of the table of hottest frames.
struct frame_row {
  std::string name;
  std::uint64_t self = 0;   ///< Samples that end in the frame.
  std::uint64_t total = 0;  ///< Samples that hold it, once each.
};
/// By self, then total, then name; at most `limit` rows.
std::vector<frame_row> hottest_frames(const stack_set& stacks, std::size_t limit);

}  // namespace ntrace::profiler
