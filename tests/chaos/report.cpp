// What chaos did, for people.
#include <algorithm>
#include <cmath>

#include "tests/chaos/chaos.hpp"

namespace ntrace::chaos {
namespace {

using nlohmann::json;

std::string seconds(std::int64_t ms) {
  if (ms < 0) return "never";
  char text[32];
  std::snprintf(text, sizeof text, "%.2f", static_cast<double>(ms) / 1000);
  return text;
}

std::string padded(std::string text, std::size_t width) {
  if (text.size() < width) text.append(width - text.size(), ' ');
  return text;
}

std::string right(const std::string& text, std::size_t width) {
  return std::string(text.size() < width ? width - text.size() : 0, ' ') + text;
}

std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '<')
      out += "&lt;";
    else if (c == '>')
      out += "&gt;";
    else if (c == '&')
      out += "&amp;";
    else
      out += c;
  }
  return out;
}

std::int64_t number(const json& in, const char* name) { return in.value(name, std::int64_t{0}); }

std::string command_of(const json& f) {
  std::string kinds;
  for (const auto& kind : f["only"])
    kinds += (kinds.empty() ? " --only " : ",") + kind.get<std::string>();
  return "ntrace chaos --seconds " + std::to_string(number(f, "lasted_ms") / 1000) + " --seed " +
         std::to_string(number(f, "seed")) + kinds;
}

std::string summary(const json& f) {
  return std::to_string(f["faults"].size()) + " faults of " + std::to_string(f["kinds"].size()) +
         " kinds in " + std::to_string(number(f, "lasted_ms") / 1000) + " s; pushes " +
         std::to_string(number(f, "pushes_acknowledged")) + ", verdicts " +
         std::to_string(number(f, "verdicts")) + " (" + std::to_string(number(f, "consumed")) +
         " by a consumer of the old protocol), retries " + std::to_string(number(f, "retries")) +
         ", outages met " + std::to_string(number(f, "outages")) + ", pushes tried again " +
         std::to_string(number(f, "pushes_refused")) + "; all done " +
         seconds(number(f, "all_done_ms")) + " s after the last fault";
}

/// Bars from 10 ms to 100 s, by their logarithm.
double place(std::int64_t ms) {
  return std::clamp((std::log10(static_cast<double>(std::max<std::int64_t>(ms, 10))) - 1) / 4, 0.0,
                    1.0);
}

}  // namespace

std::string report_text(const json& f) {
  std::string out = summary(f) + "\n\nrecovery, s\n" + padded("FAULT", 18) + right("COUNT", 6) +
                    right("MEDIAN", 9) + right("P99", 9) + right("WORST", 9) + "\n";
  for (const auto& k : f["kinds"])
    out += padded(k["kind"], 18) + right(std::to_string(number(k, "count")), 6) +
           right(seconds(number(k, "median_ms")), 9) + right(seconds(number(k, "p99_ms")), 9) +
           right(seconds(number(k, "worst_ms")), 9) + "\n";
  out += "\nin the first and last quarter of the last life, and the most\n" +
         padded("PROCESS", 12) + right("KIB", 22) + right("DESCRIPTORS", 13) +
         right("THREADS", 11) + right("ZOMBIES", 9) + right("DISK, KIB", 20) + "\n";
  for (const auto& p : f["processes"]) {
    const auto three = [&](const char* what, std::size_t width) {
      std::string text;
      for (const auto& n : p[what])
        text += (text.empty() ? "" : " ") + std::to_string(n.get<std::int64_t>());
      return right(text, width);
    };
    out += padded(p["name"], 12) + three("rss_kib", 22) + three("descriptors", 13) +
           three("threads", 11) + three("zombies", 9) + three("disk_kib", 20) + "\n";
  }
  for (const auto& s : f["skipped"])
    out += "not tried: " + s.value("kind", "") + ", for " + s.value("why", "") + "\n";
  for (const auto& [what, n] : f["missed"].items())
    out += std::to_string(n.get<std::uint64_t>()) + " not caused: " + what + "\n";
  for (const auto& v : f["violations"])
    out += "violation " + v.value("invariant", "") + ": " + v.value("what", "") + "\n";
  return out + "\nviolations " + std::to_string(f["violations"].size()) +
         "\nagain: " + command_of(f) + "\n";
}

std::string report_html(const json& f) {
  constexpr int left = 150, width = 560, row = 22;
  const auto rows = static_cast<int>(f["kinds"].size());
  std::string svg = "<svg viewBox='0 0 " + std::to_string(left + width + 90) + " " +
                    std::to_string(rows * row + 40) + "' role='img' aria-label='recovery'>";
  for (const int ms : {10, 100, 1000, 10'000, 100'000}) {
    const auto x = std::to_string(left + static_cast<int>(place(ms) * width));
    svg += "<line x1='" + x + "' x2='" + x + "' y1='20' y2='" + std::to_string(rows * row + 24) +
           "' class='grid'/><text x='" + x + "' y='14' text-anchor='middle'>" +
           (ms < 1000 ? std::to_string(ms) + " ms" : std::to_string(ms / 1000) + " s") + "</text>";
  }
  int y = 36;
  for (const auto& k : f["kinds"]) {
    const auto x = [&](const char* what) {
      return std::to_string(left + static_cast<int>(place(number(k, what)) * width));
    };
    const auto at = std::to_string(y);
    svg += "<text x='" + std::to_string(left - 10) + "' y='" + std::to_string(y + 4) +
           "' text-anchor='end'>" + escaped(k["kind"]) + " ×" + std::to_string(number(k, "count")) +
           "</text>";
    if (number(k, "worst_ms") >= 0)
      svg += "<line class='span' x1='" + x("median_ms") + "' x2='" + x("worst_ms") + "' y1='" + at +
             "' y2='" + at + "'/><circle class='median' r='5' cx='" + x("median_ms") + "' cy='" +
             at + "'/><circle class='worst' r='3' cx='" + x("worst_ms") + "' cy='" + at +
             "'/><text x='" + std::to_string(left + width + 12) + "' y='" + std::to_string(y + 4) +
             "'>" + seconds(number(k, "median_ms")) + " s</text>";
    y += row;
  }
  svg += "</svg>";
  std::string list;
  for (const auto& v : f["violations"])
    list += "<li>" + escaped(v.value("invariant", "") + ": " + v.value("what", "")) + "</li>";
  const auto count = f["violations"].size();
  return "<!doctype html><html lang='en'><meta charset='utf-8'><title>ntrace chaos, seed " +
         std::to_string(number(f, "seed")) +
         "</title><style>body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem "
         "auto;padding:0 1rem;color:#1c2330}svg{width:100%;font:12px "
         "system-ui}.grid{stroke:#d8dde6}"
         ".span{stroke:#9db2d6;stroke-width:4}.median{fill:#1f5fbf}.worst{fill:#c2452d}"
         ".good{color:#13733c}.bad{color:#b3261e}pre{overflow:auto;background:#f4f6fa;padding:1rem}"
         "</style><h1>Chaos, seed " +
         std::to_string(number(f, "seed")) + "</h1><p class='" + (count == 0 ? "good" : "bad") +
         "'><strong>violations " + std::to_string(count) + "</strong></p><p>" +
         escaped(summary(f)) + ".</p>" + (list.empty() ? "" : "<ul>" + list + "</ul>") +
         "<h2>Recovery by kind of fault</h2><p>From the end of a fault until its machine was well "
         "again: large dots are medians, small ones the worst.</p>" +
         svg + "<h2>All figures</h2><pre>" + escaped(report_text(f)) + "</pre></html>\n";
}

}  // namespace ntrace::chaos
