#include "actors/runner/npm_words.hpp"

#include "config/shown_url.hpp"

namespace ntrace::runner {
namespace {

constexpr std::size_t line_bytes_max = 400;
constexpr std::size_t lines_max = 3;

}  // namespace

void npm_words::on_output(std::string_view stream, std::string_view data) {
  auto& line = stream == "stdout" ? out_ : err_;
  while (!data.empty()) {
    const auto end = data.find('\n');
    const auto piece = data.substr(0, end);
    line.append(piece.substr(0, line_bytes_max - std::min(line_bytes_max, line.size())));
    if (end == data.npos) return;
    on_line(line);
    line.clear();
    data.remove_prefix(end + 1);
  }
}

void npm_words::on_line(std::string_view line) {
  // A file in the zone, which is gone with it.
  if (line.find("A complete log of this run") != line.npos) return;
  for (const std::string_view begin : {"npm ERR! ", "npm error "})
    if (line.starts_with(begin) && line.size() > begin.size() && errors_.size() < lines_max)
      errors_.push_back(without_passwords(std::string{line.substr(begin.size())}));
}

std::string npm_words::first_errors() const {
  std::string out;
  for (const auto& one : errors_) out += (out.empty() ? "" : "; ") + one;
  return out;
}

}  // namespace ntrace::runner
