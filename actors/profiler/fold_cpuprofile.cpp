// Folds V8's .cpuprofile: JSON written by a hostile process, walked without recursion.
#include <fmt/core.h>
#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <unordered_map>

#include "actors/profiler/fold.hpp"

namespace ntrace::profiler {
namespace {

using json = nlohmann::json;

constexpr std::size_t json_bytes_max = 512u << 20;

struct profile_node {
  std::string name;
  std::vector<std::uint64_t> children;
  std::uint64_t hits = 0;
  std::uint64_t parent = 0;
  bool has_parent = false;
};
using node_table = std::unordered_map<std::uint64_t, profile_node>;

auto bad(std::string message) { return fail(ec::bad_profile, "cpuprofile: " + std::move(message)); }

std::uint64_t number_of(const json& value, const char* key, std::uint64_t fallback) {
  const auto at = value.find(key);
  return at != value.end() && at->is_number_integer() && at->get<std::int64_t>() >= 0
             ? at->get<std::uint64_t>()
             : fallback;
}

std::string text_of(const json& value, const char* key) {
  const auto at = value.find(key);
  return at != value.end() && at->is_string() ? at->get<std::string>() : std::string{};
}

std::int64_t signed_of(const json& value, const char* key) {
  const auto at = value.find(key);
  return at != value.end() && at->is_number_integer() ? at->get<std::int64_t>() : -1;
}

std::string name_of(const json& frame, const fold_options& options) {
  const auto function = text_of(frame, "functionName");
  if (function == "(program)") return "[program]";
  if (function == "(garbage collector)") return "[gc]";
  if (function == "(idle)") return "[idle]";
  const auto url = text_of(frame, "url");
  if (url.empty()) return clean_name(function.empty() ? "(anonymous)" : function);
  const auto place = fmt::format("{}:{}:{}", url, signed_of(frame, "lineNumber") + 1,
                                 signed_of(frame, "columnNumber") + 1);
  return clean_name(js_name("JS:" + function + " " + place, options.js)) + "_[j]";
}

result<void> add_node(node_table& nodes, const json& value, std::uint64_t id,
                      const fold_options& options) {
  profile_node node;
  const auto frame = value.find("callFrame");
  const auto& named = frame != value.end() && frame->is_object() ? *frame : value;
  node.name = text_of(named, "functionName") == "(root)" ? "" : name_of(named, options);
  node.hits = number_of(value, "hitCount", 0);
  if (!nodes.emplace(id, std::move(node)).second)
    return bad("duplicate node id " + std::to_string(id));
  return {};
}

/// The form of today: a flat list with children's ids (or parents').
result<void> read_flat(const json& list, node_table& nodes, const fold_options& options) {
  for (const auto& value : list) {
    if (!value.is_object() || !value.contains("id")) return bad("a node without an id");
    const auto id = number_of(value, "id", 0);
    if (auto added = add_node(nodes, value, id, options); !added) return added;
    if (const auto children = value.find("children");
        children != value.end() && children->is_array())
      for (const auto& child : *children)
        if (child.is_number_unsigned()) nodes[id].children.push_back(child.get<std::uint64_t>());
    if (value.contains("parent")) {
      nodes[id].parent = number_of(value, "parent", 0);
      nodes[id].has_parent = true;
    }
  }
  return {};
}

/// The form of 2013: nested below `head`.
result<void> read_nested(const json& head, node_table& nodes, const fold_options& options) {
  std::vector<std::pair<const json*, std::uint64_t>> open{{&head, 0}};
  std::uint64_t next_own_id = std::uint64_t{1} << 62;
  while (!open.empty()) {
    const auto [value, parent] = open.back();
    open.pop_back();
    if (!value->is_object()) return bad("a node that is not an object");
    const auto id = number_of(*value, "id", next_own_id++);
    if (auto added = add_node(nodes, *value, id, options); !added) return added;
    if (value != &head) nodes[parent].children.push_back(id);
    if (const auto children = value->find("children");
        children != value->end() && children->is_array())
      for (const auto& child : *children) open.emplace_back(&child, id);
  }
  return {};
}

result<void> link_parents(node_table& nodes) {
  for (auto& [id, node] : nodes) {
    for (const auto child : node.children) {
      const auto at = nodes.find(child);
      if (at == nodes.end()) return bad(fmt::format("child {} is not there", child));
      if (at->second.has_parent && at->second.parent != id)
        return bad(fmt::format("node {} has two parents", child));
      at->second.parent = id;
      at->second.has_parent = true;
    }
  }
  // A walk to the root that passes more nodes than there are has met a cycle; depth is bounded too.
  std::unordered_map<std::uint64_t, std::size_t> depths;
  std::vector<std::uint64_t> path;
  for (const auto& [id, node] : nodes) {
    path.clear();
    auto at = id;
    std::size_t depth = 0;
    for (;;) {
      if (const auto known = depths.find(at); known != depths.end()) {
        depth = known->second;
        break;
      }
      if (path.size() > nodes.size()) return bad("the nodes form a cycle");
      path.push_back(at);
      const auto found = nodes.find(at);
      if (found == nodes.end()) return bad(fmt::format("parent {} is not there", at));
      if (!found->second.has_parent) break;
      at = found->second.parent;
    }
    for (auto up = path.rbegin(); up != path.rend(); ++up) depths[*up] = ++depth;
    if (depth > depth_max) return bad("stacks deeper than " + std::to_string(depth_max));
  }
  return {};
}

result<void> add_sample(folding& out, const node_table& nodes, std::uint64_t id,
                        std::uint64_t weight, const fold_options& options) {
  std::vector<stack_set::frame_id> stack;
  for (auto at = id;;) {
    const auto found = nodes.find(at);
    if (found == nodes.end())
      return bad(fmt::format("a sample of node {}, which is not there", id));
    const auto& name = found->second.name;
    if (name == "[idle]" && !options.with_idle) return {};
    if (!name.empty()) {
      const auto frame = out.stacks.intern(name);
      if (!options.merge_recursion || stack.empty() || stack.back() != frame)
        stack.push_back(frame);
    }
    if (!found->second.has_parent) break;
    at = found->second.parent;
  }
  std::reverse(stack.begin(), stack.end());
  ++out.report.samples;
  return out.stacks.add(stack, weight);
}

/// Sample i lasts until sample i+1; the last one until endTime.
std::uint64_t duration_of(const json& profile, const json& deltas, std::size_t i, std::size_t count,
                          double& elapsed, fold_report& report) {
  const auto number = [&](const json& v) {
    return v.is_number() && std::isfinite(v.get<double>()) ? v.get<double>() : 0.0;
  };
  double delta = 0;
  if (i + 1 < count && i + 1 < deltas.size()) {
    delta = number(deltas[i + 1]);
  } else if (profile.contains("endTime") && profile.contains("startTime")) {
    delta = number(profile["endTime"]) - number(profile["startTime"]) - elapsed;
  }
  if (i < deltas.size()) elapsed += number(deltas[i]);
  if (delta < 0) ++report.negative_deltas;
  return delta > 0 ? static_cast<std::uint64_t>(std::llround(delta)) : 0;
}

}  // namespace

result<folding> fold_cpuprofile(std::string_view input, const fold_options& options) {
  if (input.size() > json_bytes_max) return bad("longer than 512 MiB");
  auto profile = json::parse(input, nullptr, false);
  if (!profile.is_object()) return bad("not a JSON object");
  node_table nodes;
  result<void> read{};
  if (profile.contains("nodes") && profile["nodes"].is_array())
    read = read_flat(profile["nodes"], nodes, options);
  else if (profile.contains("head"))
    read = read_nested(profile["head"], nodes, options);
  else
    return bad("neither nodes nor head");
  if (read) read = link_parents(nodes);
  if (!read) return fail(read.error());
  folding out;
  const auto samples = profile.find("samples");
  if (samples == profile.end() || !samples->is_array() || samples->empty()) {
    for (const auto& [id, node] : nodes)
      if (node.hits > 0)
        if (auto added = add_sample(out, nodes, id, node.hits, options); !added)
          return fail(added.error());
    return out;
  }
  const auto deltas = profile.value("timeDeltas", json::array());
  double elapsed = 0;
  for (std::size_t i = 0; i < samples->size(); ++i) {
    const auto& id = (*samples)[i];
    if (!id.is_number_unsigned()) return bad("a sample that is not a node's id");
    std::uint64_t weight = 1;
    if (options.count == fold_options::weight::time) {
      weight = duration_of(profile, deltas, i, samples->size(), elapsed, out.report);
    }
    if (auto added = add_sample(out, nodes, id.get<std::uint64_t>(), weight, options); !added)
      return fail(added.error());
  }
  return out;
}

}  // namespace ntrace::profiler
