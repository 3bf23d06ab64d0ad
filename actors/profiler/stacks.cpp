#include "actors/profiler/stacks.hpp"

#include <fmt/core.h>
#include <algorithm>

namespace ntrace::profiler {

stack_set::stack_set() { nodes_.push_back({}); }

stack_set::frame_id stack_set::intern(std::string_view name) {
  const auto [at, is_new] =
      ids_.try_emplace(std::string{name}, static_cast<frame_id>(names_.size()));
  if (is_new) names_.push_back(&at->first);
  return at->second;
}

result<void> stack_set::add(const std::vector<frame_id>& stack, std::uint64_t count) {
  if (count == 0) return {};
  if (total_ + count < total_) return fail(ec::overflow, "the counts' sum is above 2^64-1");
  node_id at = 0;
  std::size_t depth = 0;
  for (const auto frame : stack) {
    if (++depth > depth_max) break;
    const auto key = static_cast<std::uint64_t>(at) << 32 | frame;
    const auto [child, is_new] = children_.try_emplace(key, static_cast<node_id>(nodes_.size()));
    if (is_new) nodes_.push_back({at, frame, 0});
    at = child->second;
  }
  if (nodes_.size() > stack_nodes_max || names_.size() > frames_max)
    return fail(ec::too_many_stacks,
                fmt::format("{} stack nodes, {} frames: above the bound; filter the input first",
                            nodes_.size(), names_.size()));
  nodes_[at].self += count;
  total_ += count;
  return {};
}

result<void> stack_set::add(const stack_set& other) {
  std::vector<frame_id> path;
  for (node_id n = 0; n < other.nodes_.size(); ++n) {
    if (other.nodes_[n].self == 0) continue;
    path.clear();
    for (auto at = n; at != 0; at = other.nodes_[at].parent)
      path.push_back(intern(other.name(other.nodes_[at].frame)));
    std::reverse(path.begin(), path.end());
    if (auto added = add(path, other.nodes_[n].self); !added) return added;
  }
  return {};
}

std::string stack_set::folded() const {
  std::vector<std::pair<std::string, std::uint64_t>> lines;
  std::vector<node_id> path;
  for (node_id n = 1; n < nodes_.size(); ++n) {
    if (nodes_[n].self == 0) continue;
    path.clear();
    for (auto at = n; at != 0; at = nodes_[at].parent) path.push_back(at);
    std::string line;
    for (auto at = path.rbegin(); at != path.rend(); ++at) {
      if (!line.empty()) line += ';';
      line += name(nodes_[*at].frame);
    }
    // A line that begins with '#' would be read as a comment.
    if (line.starts_with('#')) line.replace(0, 1, "\\x23");
    lines.emplace_back(std::move(line), nodes_[n].self);
  }
  std::sort(lines.begin(), lines.end());
  std::string out;
  for (const auto& [line, count] : lines) out += fmt::format("{} {}\n", line, count);
  return out;
}

std::vector<frame_row> hottest_frames(const stack_set& stacks, std::size_t limit) {
  const auto& nodes = stacks.nodes();
  std::vector<std::uint64_t> below(nodes.size(), 0);
  for (auto n = nodes.size(); n-- > 1;) {
    below[n] += nodes[n].self;
    below[nodes[n].parent] += below[n];
  }
  std::unordered_map<stack_set::frame_id, frame_row> rows;
  for (std::size_t n = 1; n < nodes.size(); ++n) {
    auto& row = rows[nodes[n].frame];
    row.self += nodes[n].self;
    // Once per sample: a node counts unless the same frame stands above it.
    bool above = false;
    for (auto at = nodes[n].parent; at != 0 && !above; at = nodes[at].parent)
      above = nodes[at].frame == nodes[n].frame;
    if (!above) row.total += below[n];
  }
  std::vector<frame_row> out;
  for (auto& [frame, row] : rows) {
    row.name = stacks.name(frame);
    out.push_back(std::move(row));
  }
  std::sort(out.begin(), out.end(), [](const frame_row& a, const frame_row& b) {
    if (a.self != b.self) return a.self > b.self;
    return a.total != b.total ? a.total > b.total : a.name < b.name;
  });
  if (out.size() > limit) out.resize(limit);
  return out;
}

}  // namespace ntrace::profiler
