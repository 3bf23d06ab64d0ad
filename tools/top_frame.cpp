#include "tools/top_frame.hpp"

#include <fmt/core.h>
#include <algorithm>
#include <array>
#include <cstdio>

#include "config/outage.hpp"
#include "config/utf8.hpp"
#include "tools/text.hpp"

namespace ntrace::tools {
namespace {

using nlohmann::json;
using rows = std::vector<std::vector<std::string>>;

constexpr std::size_t cell_max = 100;  // columns of one cell; lines are cut to the terminal

/// 0 where an older server does not have that member.
std::int64_t number(const json& in, const char* name) {
  return in.is_object() ? in.value(name, std::int64_t{0}) : 0;
}

/// In the largest unit of which there are at least two.
std::string span(std::int64_t ms) {
  const auto s = ms / 1000;
  if (s < 120) return std::to_string(s) + " s";
  if (s < 7200) return std::to_string(s / 60) + " min";
  if (s < 172'800) return std::to_string(s / 3600) + " h";
  return std::to_string(s / 86'400) + " d";
}

std::string decimal(double value) {
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%.1f", value);
  return text.data();
}

/// One line, harmless. A text that is too long is cut, with a mark.
std::string fit(std::string text, std::size_t width, top_charset shown) {
  if (shown == top_charset::utf8) return cut_to_width(one_line(text), width, "~");
  for (auto& c : text)
    if (static_cast<unsigned char>(c) < 0x20 || static_cast<unsigned char>(c) >= 0x7f) c = '?';
  return cut_to_width(text, width, "~");
}

/// The same, but cut in its middle: the end of a sentence says when the next try is.
std::string fit_around(const std::string& text, std::size_t width, top_charset shown) {
  constexpr std::size_t end_kept = 24;
  const auto whole = fit(text, std::string::npos, shown);
  const auto fitted = fit(whole, width, shown);
  if (fitted == whole || width < 2 * end_kept || whole.size() < end_kept) return fitted;
  auto end = whole.size() - end_kept;
  while (end < whole.size() && is_continuation(whole[end])) ++end;
  return fit(cut_to_width(whole, width - end_kept, "~") + whole.substr(end), width, shown);
}

/// Of all actors below, supervisors' own restarts included.
std::int64_t restarts_in(const json& tree) {
  std::int64_t out = 0;
  for (const auto& child : tree.value("children", json::array())) {
    out += number(child, "restarts");
    if (child.contains("tree")) out += restarts_in(child["tree"]);
  }
  return out;
}

/// "path state" of each actor that does not run.
std::string down_in(const json& tree, const std::string& above = "") {
  std::string out;
  for (const auto& child : tree.value("children", json::array())) {
    const auto path = above + child.value("id", "");
    if (const auto state = child.value("state", ""); state != "running")
      out += fmt::format("{}{} {}", out.empty() ? "" : ", ", path, state);
    if (!child.contains("tree")) continue;
    if (const auto below = down_in(child["tree"], path + "/"); !below.empty())
      out += (out.empty() ? "" : ", ") + below;
  }
  return out;
}

std::string counts(const top_sample& s) {
  std::string out = fmt::format("runs     {} waiting", number(s.status, "waiting"));
  const auto runs = s.status.value("runs", json::object());
  for (const char* state : {"leased", "running", "done", "failed", "cancelled", "quarantined"})
    if (const auto n = number(runs, state); n > 0) out += fmt::format("  {} {}", n, state);
  return out;
}

/// Runs with a verdict. Cancelled runs have none.
std::int64_t ended(const top_sample& s) {
  const auto runs = s.status.value("runs", json::object());
  return number(runs, "done") + number(runs, "failed") + number(runs, "quarantined");
}

/// Verdicts need two looks; the journal's times are sums since its start.
std::string rates(const top_sample& now, const top_sample* before) {
  const auto gauges = now.status.value("gauges", json::object());
  const auto commits = number(gauges, "journal_commits");
  std::string out = "rates    ";
  const auto passed = before ? std::chrono::duration<double>(now.at - before->at).count() : 0;
  if (passed > 0)
    out +=
        decimal(static_cast<double>(ended(now) - ended(*before)) * 60 / passed) + " verdicts/min  ";
  out += fmt::format("journal {} queued", number(gauges, "journal_queued"));
  if (commits > 0)
    out +=
        fmt::format(", {} ms a commit, worst {}",
                    decimal(static_cast<double>(number(gauges, "journal_commit_us_sum")) /
                            static_cast<double>(commits) / 1000),
                    decimal(static_cast<double>(number(gauges, "journal_commit_us_max")) / 1000));
  return out;
}

top_line health(const top_sample& s) {
  const auto violations = number(s.status.value("invariants", json::object()), "violations");
  const auto down = down_in(s.tree);
  const bool is_draining = s.status.value("draining", false);
  std::string text =
      fmt::format("health   {} violations  {} restarts  {} pushes refused", violations,
                  restarts_in(s.tree), number(s.status, "pushes_refused"));
  if (!down.empty()) text += "  down: " + down;
  if (is_draining) text += "  DRAINING";
  return {text, violations == 0 && down.empty() && !is_draining ? top_style::good : top_style::bad};
}

struct line_shape {
  std::size_t width;
  top_charset charset;
};

/// A head and as many rows as there is room for.
void add_section(std::vector<top_line>& out, const rows& all, std::size_t room,
                 const line_shape& shape) {
  if (room < 2) return;
  const auto shown = std::min(all.size() - 1, room - 1);
  const bool is_cut = shown < all.size() - 1;
  rows part{all.begin(), all.begin() + static_cast<std::ptrdiff_t>(1 + shown - is_cut)};
  for (auto& row : part)  // What a push says must not begin a line of its own.
    for (auto& cell : row) cell = fit_around(cell, cell_max, shape.charset);
  const auto text = table(part);
  std::size_t at = 0;
  for (bool is_head = true; at < text.size(); is_head = false) {
    const auto end = std::min(text.find('\n', at), text.size());
    out.push_back({fit_around(text.substr(at, end - at), shape.width, shape.charset),
                   is_head ? top_style::head : top_style::plain});
    at = end + 1;
  }
  if (is_cut) out.push_back({fmt::format("... and {} more", all.size() - shown)});
}

/// One line with the host that most runs wait for; empty when all hosts can be reached.
void add_outages(std::vector<top_line>& out, const top_sample& s, const line_shape& shape) {
  const auto all = s.status.value("outages", json::array());
  const json* worst = nullptr;
  std::int64_t runs = 0;
  for (const auto& one : all) {
    runs += number(one, "runs");
    if (!worst || number(one, "runs") > number(*worst, "runs")) worst = &one;
  }
  if (!worst) return;
  const auto cause = outage_cause_from(worst->value("cause", ""));
  const auto text = fmt::format(
      "outages  {} runs wait for {}{}: {} since {}, next try in {}", runs, worst->value("host", ""),
      all.size() > 1 ? " and " + std::to_string(all.size() - 1) + " more" : "",
      phrase_of(cause.value_or(outage_cause::silent)), moment(number(*worst, "since_ms")),
      span(number(*worst, "next_try_in_ms")));
  out.push_back({fit_around(text, shape.width, shape.charset), top_style::bad});
}

rows runner_rows(const top_sample& s) {
  rows out{{"RUNNER", "WORKERS", "BUSY", "LOAD"}};
  for (const auto& r : s.status.value("runners", json::array())) {
    const auto workers = number(r, "workers"), busy = workers - number(r, "free");
    const auto filled = workers > 0 ? static_cast<std::size_t>(20 * busy / workers) : 0;
    out.push_back({r.value("name", ""), std::to_string(workers), std::to_string(busy),
                   std::string(filled, '#') + std::string(20 - filled, '.')});
  }
  return out;
}

std::string repo_of(const json& run) {
  return run.value("owner", "") + "/" + run.value("repo", "");
}

rows lease_rows(const top_sample& s) {
  rows out{{"LEASED RUN", "REPO", "RUNNER", "ATTEMPT", "LEFT"}};
  for (const auto& lease : s.status.value("leases", json::array())) {
    const auto id = lease.value("run", "");
    std::string repo = "-";
    for (const auto& run : s.runs)
      if (run.value("run", "") == id) repo = repo_of(run);
    const auto runner = lease.value("runner", "");
    out.push_back({id, repo, runner.empty() ? "-" : runner,
                   std::to_string(number(lease, "attempt")), span(number(lease, "expires_in_ms"))});
  }
  return out;
}

rows latest_rows(const top_sample& s) {
  rows out{{"LATEST RUN", "STATE", "REPO", "SHA", "AGE", "REASON"}};
  for (const auto& run : s.runs)
    out.push_back({run.value("run", ""), run.value("state", ""), repo_of(run),
                   run.value("sha", "").substr(0, 8),
                   span(std::max<std::int64_t>(s.wall_ms - number(run, "created_ms"), 0)),
                   run.contains("waits_for")         ? "waits for " + run.value("waits_for", "")
                   : run.value("reason", "").empty() ? "-"
                                                     : run.value("reason", "")});
  return out;
}

}  // namespace

std::vector<top_line> top_frame(const top_sample& now, const top_sample* before, std::size_t width,
                                std::size_t height, top_charset shown) {
  std::vector<top_line> out{
      {fmt::format("ntrace top  {}  {} UTC", now.address, moment(now.wall_ms)), top_style::head},
      {counts(now)},
      {rates(now, before)},
      health(now)};
  const line_shape shape{width, shown};
  add_outages(out, now, shape);
  out.push_back({""});
  const auto runners = runner_rows(now), leases = lease_rows(now), latest = latest_rows(now);
  const auto left = [&] { return height > out.size() ? height - out.size() : 0; };
  // A third for each; unused lines go to the tables below.
  add_section(out, runners, std::min(runners.size(), std::max<std::size_t>(left() / 3, 2)), shape);
  out.push_back({""});
  add_section(out, leases, std::min(leases.size(), std::max<std::size_t>(left() / 2, 2)), shape);
  out.push_back({""});
  add_section(out, latest, left(), shape);
  if (out.size() > height) out.resize(height);
  for (auto& line : out) line.text = fit(std::move(line.text), width, shown);
  return out;
}

}  // namespace ntrace::tools
