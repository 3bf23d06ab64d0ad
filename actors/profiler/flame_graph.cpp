#include "actors/profiler/flame_graph.hpp"

#include <fmt/core.h>
#include <algorithm>
#include <array>
#include <cstdio>
#include <map>

#include "actors/profiler/flame_assets.hpp"

#include "actors/profiler/formats.hpp"
#include "actors/profiler/frame_name.hpp"
#include "config/digest.hpp"
#include "config/utf8.hpp"

namespace ntrace::profiler {
namespace {

constexpr double width_px = 1200;  // of the drawing; the page scales it to the window
constexpr double row_px = 18;      // one frame: 11 px text, its margins and a line between rows
constexpr double top_px = 64;      // title, subtitle, controls
constexpr double bottom_px = 34;   // details line
constexpr double char_px = 6.6;    // of the 11 px monospace text

/// A rectangle of the drawing. Positions and widths are in samples, so that zoom can scale them.
struct box {
  std::string_view name;
  std::uint64_t left = 0, count = 0;
  std::size_t depth = 0;
  std::size_t hidden = 0;  ///< For "…(n)": how many frames it stands for.
};

/// Children of each node in the order of their names, so that runs look alike.
std::vector<std::vector<stack_set::node_id>> children_of(const stack_set& stacks) {
  const auto& nodes = stacks.nodes();
  std::vector<std::vector<stack_set::node_id>> out(nodes.size());
  for (stack_set::node_id n = 1; n < nodes.size(); ++n) out[nodes[n].parent].push_back(n);
  for (auto& list : out)
    std::sort(list.begin(), list.end(), [&](auto a, auto b) {
      return stacks.name(nodes[a].frame) < stacks.name(nodes[b].frame);
    });
  return out;
}

/// The boxes of all frames that are at least `narrowest_px` wide, parents before children. Siblings
/// that are narrower share one box at the right end. No recursion: stacks may be 4,096 deep.
std::vector<box> lay_out(const stack_set& stacks, double narrowest_px) {
  const auto& nodes = stacks.nodes();
  const auto children = children_of(stacks);
  std::vector<std::uint64_t> below(nodes.size(), 0);
  for (auto n = nodes.size(); n-- > 0;) {
    below[n] += nodes[n].self;
    if (n > 0) below[nodes[n].parent] += below[n];
  }
  const auto total = std::max<std::uint64_t>(stacks.total(), 1);
  const double px = width_px / static_cast<double>(total);
  std::vector<box> out;
  struct open_node {
    stack_set::node_id node;
    std::uint64_t left;
    std::size_t depth;
  };
  std::vector<open_node> open{{0, 0, 0}};
  while (!open.empty()) {
    const auto [n, left, depth] = open.back();
    open.pop_back();
    out.push_back({n == 0 ? std::string_view{"all"} : std::string_view{stacks.name(nodes[n].frame)},
                   left, below[n], depth, 0});
    auto at = left;
    box rest{"", 0, 0, depth + 1, 0};
    for (const auto child : children[n]) {
      if (static_cast<double>(below[child]) * px < narrowest_px) {
        rest.count += below[child];
        ++rest.hidden;
        continue;
      }
      open.push_back({child, at, depth + 1});
      at += below[child];
    }
    rest.left = at;
    if (rest.hidden > 0 && static_cast<double>(rest.count) * px >= narrowest_px)
      out.push_back(rest);
  }
  return out;
}

/// The colour family of a frame: by the marks of docs/profiling.md (R9, R10), and by V8's names of
/// its garbage collectors.
std::string_view kind_of(std::string_view name) {
  if (name.ends_with("_[k]") || name == "[kernel]") return "kernel";
  if (name.ends_with("_[j]") || name.ends_with("_[i]"))
    return name.starts_with("v8:") ? "v8" : "js";
  if (name.starts_with("v8:") || name.starts_with("v8::")) return "v8";
  if (name == "[gc]" || name.find("Scaveng") != std::string_view::npos ||
      name.find("MarkCompact") != std::string_view::npos ||
      name.find("GarbageCollect") != std::string_view::npos)
    return "gc";
  return "native";
}

/// The hue tells the kind, the shade only tells neighbours apart.
std::string fill_of(std::string_view name) {
  std::uint32_t hash = 2166136261u;  // FNV-1a: the same name has the same shade everywhere.
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 16777619u;
  const auto kind = kind_of(name);
  const int hue = kind == "js"       ? 38
                  : kind == "v8"     ? 270
                  : kind == "kernel" ? 205
                  : kind == "gc"     ? 340
                                     : 100;
  const int shift = static_cast<int>(hash % 25) - 12;
  const int light =
      70 + static_cast<int>(hash / 25 % 10);  // Dark text on it keeps a contrast above 7.
  return fmt::format("hsl({},70%,{}%)", hue + shift, light);
}

/// Two digits are enough: a hundredth of a pixel cannot be seen, and files stay small.
std::string number(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.2f", value);
  return text;
}

/// As many characters as fit, without cutting one in the middle.
std::string fitting(std::string_view name, double px) {
  const auto room = static_cast<std::size_t>(std::max(0.0, (px - 6) / char_px));
  if (room < 3) return "";
  std::size_t chars = 0, at = 0;
  while (at < name.size() && chars < room) {
    ++at;
    while (at < name.size() && is_continuation(name[at])) ++at;
    ++chars;
  }
  if (at == name.size()) return std::string{name};
  while (at > 0 && chars-- > room - 1) {
    --at;
    while (at > 0 && is_continuation(name[at])) --at;
  }
  return std::string{name.substr(0, at)} + "…";
}

/// One <g> with its rectangle. `data-l`, `data-n` and `data-d` (left, count, depth) are what
/// assets/flame.js zooms and searches by.
void append_box(std::string& out, const box& b, std::uint64_t total) {
  const double px = width_px / static_cast<double>(std::max<std::uint64_t>(total, 1));
  const double x = static_cast<double>(b.left) * px;
  const double w = std::max(0.05, static_cast<double>(b.count) * px);
  const double y = top_px + static_cast<double>(b.depth) * row_px;
  const std::string name = b.hidden ? fmt::format("…({})", b.hidden) : std::string{b.name};
  const auto escaped = xml_escaped(name);
  const auto fill = b.hidden       ? "hsl(0,0%,75%)"
                    : b.depth == 0 ? "hsl(220,10%,80%)"
                                   : fill_of(b.name);
  out += fmt::format(
      "<g class=\"f\" data-l=\"{}\" data-n=\"{}\" data-d=\"{}\"><title>{} ({}{}{})</title><rect "
      "x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" fill=\"{}\"/>",
      b.left, b.count, b.depth, escaped, b.count, b.count == 1 ? " sample, " : " samples, ",
      percent_text(b.count, total), number(x), number(y), number(w), number(row_px - 1), fill);
  if (const auto text = fitting(name, w); !text.empty())
    out += fmt::format("<text x=\"{}\" y=\"{}\">{}</text>", number(x + 3), number(y + 13),
                       xml_escaped(text));
  out += "</g>\n";
}

std::string render(const stack_set& stacks, const flame_options& options, double narrowest_px) {
  const auto boxes = lay_out(stacks, narrowest_px);
  std::size_t deepest = 0;
  for (const auto& b : boxes) deepest = std::max(deepest, b.depth);
  const double height = top_px + static_cast<double>(deepest + 1) * row_px + bottom_px;
  auto subtitle = options.subtitle;
  if (narrowest_px > options.narrowest_px)
    subtitle += fmt::format("{}frames narrower than {} px are summed",
                            subtitle.empty() ? "" : " · ", number(narrowest_px));
  std::string out = fmt::format(
      "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<svg xmlns=\"http://www.w3.org/2000/svg\" "
      "width=\"1200\" height=\"{}\" viewBox=\"0 0 1200 {}\" role=\"img\" aria-label=\"{}\" "
      "data-total=\"{}\" data-deepest=\"{}\">\n",
      number(height), number(height), xml_escaped(options.title), stacks.total(), deepest);
  out += "<style>" + std::string{flame_style} + "</style>\n";
  out += fmt::format(
      "<rect id=\"paper\" width=\"100%\" height=\"100%\"/>\n<text id=\"title\" x=\"10\" "
      "y=\"24\">{}</text>\n<text id=\"subtitle\" x=\"10\" y=\"42\">{}</text>\n",
      xml_escaped(clean_name(options.title)),
      xml_escaped(subtitle.empty() ? "" : clean_name(subtitle)));
  out += "<g id=\"frames\">\n";
  for (const auto& b : boxes) append_box(out, b, stacks.total());
  out += "</g>\n<text id=\"details\" x=\"10\" y=\"" + number(height - 12) + "\"></text>\n";
  out += fmt::format("{}<script><![CDATA[\n{}]]></script>\n</svg>\n", flame_controls, flame_script);
  return out;
}

}  // namespace

std::string xml_escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

std::string flame_svg(const stack_set& stacks, const flame_options& options) {
  auto narrowest = options.narrowest_px;
  for (;;) {
    auto out = render(stacks, options, narrowest);
    if (out.size() <= options.bytes_max || narrowest > width_px) return out;
    narrowest *= 2;
  }
}

std::string flame_html(const stack_set& stacks, const flame_options& options) {
  auto svg = flame_svg(stacks, options);
  svg.erase(0, svg.find("<svg"));
  std::string rows;
  for (const auto& row : hottest_frames(stacks, 100))
    rows += fmt::format("<tr><td>{}</td><td>{}</td><td>{}</td></tr>\n",
                        percent_text(row.self, stacks.total()),
                        percent_text(row.total, stacks.total()), xml_escaped(row.name));
  // The page's only script is the graph's own: its hash is the one thing that may run.
  const auto begin = svg.find("<script><![CDATA[");
  const auto end = svg.find("]]></script>");
  const std::string script = svg.substr(begin + 17, end - begin - 17);
  svg.replace(begin, end + 12 - begin, "<script>" + script + "</script>");
  return fmt::format(
      "<!doctype html>\n"
      "<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
      "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src "
      "'unsafe-inline'; img-src data:; script-src 'sha256-{}'\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
      "<title>{}</title>\n"
      "<style>{}</style></head><body>\n"
      "<main>{}</main>\n"
      "<h2>Hottest frames</h2>\n"
      "<table><thead><tr><th>self</th><th>total</th><th>frame</th></tr></thead><tbody>\n"
      "{}</tbody></table>\n"
      "</body></html>\n",
      digest_base64("sha256", script), xml_escaped(clean_name(options.title)), page_style, svg,
      rows);
}

}  // namespace ntrace::profiler
