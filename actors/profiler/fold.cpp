// Detection, the folded format itself, and what all readers share.
#include "actors/profiler/fold.hpp"
#include "config/ascii.hpp"

#include <archive.h>
#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

namespace ntrace::profiler {
namespace {

constexpr std::size_t line_bytes_max = 1u << 20;     // docs/profiling.md, "Bounds"
constexpr std::size_t detect_bytes = 64u << 10;      // of the input; a comment above it may be long
constexpr std::uint64_t expansion_max = 8ull << 30;  // bytes of one unpacked input
constexpr std::uint64_t expansion_ratio_max = 200;   // stacks pack well, but a bomb packs better

/// "12" or "1.5": the number, or nothing.
std::optional<long double> parse_count(std::string_view word, bool& is_too_large) {
  std::uint64_t whole = 0;
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), whole);
  is_too_large = error == std::errc::result_out_of_range;
  if (error != std::errc{} || end == word.data()) return {};
  auto rest = word.substr(static_cast<std::size_t>(end - word.data()));
  if (rest.empty()) return static_cast<long double>(whole);
  if (rest.front() != '.' || rest.size() < 2 ||
      rest.find_first_not_of("0123456789", 1) != std::string_view::npos)
    return {};
  long double fraction = 0;
  long double scale = 0.1L;
  for (const char c : rest.substr(1)) {
    fraction += scale * static_cast<long double>(c - '0');
    scale /= 10;
  }
  return static_cast<long double>(whole) + fraction;
}

/// Every line of folded text does.
bool ends_in_number(std::string_view line) {
  line = trimmed(line);
  const auto blank = line.find_last_of(" \t");
  bool ignored = false;
  return blank != std::string_view::npos &&
         parse_count(line.substr(blank + 1), ignored).has_value();
}

/// The header of a sample, by its time stamp: the command before it may hold anything.
bool looks_like_perf(std::string_view line) {
  line = trimmed(line);
  if (!line.ends_with(':') || line.starts_with('#')) return false;
  // "…seconds.micros: [period] event:"
  for (auto colon = line.find(": "); colon != std::string_view::npos;
       colon = line.find(": ", colon + 1)) {
    const auto blank = line.find_last_of(" \t", colon);
    const auto word = line.substr(blank == std::string_view::npos ? 0 : blank + 1,
                                  colon - (blank == std::string_view::npos ? 0 : blank + 1));
    const auto dot = word.find('.');
    if (dot != std::string_view::npos && dot > 0 &&
        word.find_first_not_of("0123456789.") == std::string_view::npos)
      return true;
  }
  return false;
}

std::string from_utf16(std::string_view bytes, bool big) {
  std::string out;
  const auto unit = [&](std::size_t i) {
    const auto a = static_cast<unsigned char>(bytes[i]);
    const auto b = static_cast<unsigned char>(bytes[i + 1]);
    return static_cast<std::uint32_t>(big ? a << 8 | b : b << 8 | a);
  };
  for (std::size_t i = 0; i + 1 < bytes.size(); i += 2) {
    auto c = unit(i);
    if (c >= 0xd800 && c < 0xdc00 && i + 3 < bytes.size()) {
      const auto low = unit(i + 2);
      if (low >= 0xdc00 && low < 0xe000) {
        c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
        i += 2;
      }
    }
    if (c >= 0xd800 && c < 0xe000) c = 0xfffd;
    const auto put = [&out](std::uint32_t v) { out.push_back(static_cast<char>(v)); };
    if (c < 0x80) {
      put(c);
    } else if (c < 0x800) {
      put(0xc0 | c >> 6), put(0x80 | (c & 0x3f));
    } else if (c < 0x10000) {
      put(0xe0 | c >> 12), put(0x80 | (c >> 6 & 0x3f)), put(0x80 | (c & 0x3f));
    } else {
      put(0xf0 | c >> 18), put(0x80 | (c >> 12 & 0x3f)), put(0x80 | (c >> 6 & 0x3f)),
          put(0x80 | (c & 0x3f));
    }
  }
  return out;
}

result<std::string> decompress(const std::string& packed) {
  const std::unique_ptr<archive, int (*)(archive*)> reader{archive_read_new(), &archive_read_free};
  archive_read_support_filter_gzip(reader.get());
  archive_read_support_filter_zstd(reader.get());
  archive_read_support_format_raw(reader.get());
  archive_entry* entry = nullptr;
  if (archive_read_open_memory(reader.get(), packed.data(), packed.size()) != ARCHIVE_OK ||
      archive_read_next_header(reader.get(), &entry) != ARCHIVE_OK ||
      archive_filter_code(reader.get(), 0) ==
          ARCHIVE_FILTER_NONE)  // Then the magic was all there was.
    return fail(ec::truncated, "the compressed input cannot be read");
  std::string out;
  std::array<char, 65536> block;
  for (;;) {
    const auto n = archive_read_data(reader.get(), block.data(), block.size());
    if (n < 0)
      return fail(
          ec::truncated,
          fmt::format("the compressed input is damaged or ends after {} bytes", out.size()));
    if (n == 0) return out;
    out.append(block.data(), static_cast<std::size_t>(n));
    if (out.size() > expansion_max || out.size() / expansion_ratio_max > packed.size() + 4096)
      return fail(ec::truncated, fmt::format("the compressed input expands more than {}-fold",
                                             expansion_ratio_max));
  }
}

}  // namespace

std::optional<stack_format> stack_format_from(std::string_view word) {
  if (word == "perf") return stack_format::perf;
  if (word == "dtrace") return stack_format::dtrace;
  if (word == "cpuprofile") return stack_format::cpuprofile;
  if (word == "folded") return stack_format::folded;
  return {};
}

bool line_reader::next(std::string_view& line) {
  if (rest_.empty()) return false;
  ++number_;
  const auto end = rest_.find('\n');
  line = rest_.substr(0, end);
  rest_.remove_prefix(end == std::string_view::npos ? rest_.size() : end + 1);
  if (line.ends_with('\r')) line.remove_suffix(1);
  if (line.size() > line_bytes_max) line = line.substr(0, line_bytes_max);
  return true;
}

void skip_line(fold_report& report, std::uint64_t number, std::string_view line) {
  ++report.skipped_lines;
  if (report.first_skipped.size() < 5)
    report.first_skipped.push_back(
        fmt::format("line {}: {}", number, clean_name(line.substr(0, 80))));
}

result<stack_format> detect_format(std::string_view head) {
  head = head.substr(0, detect_bytes);
  const auto first = head.find_first_not_of(" \t\r\n");
  if (first != std::string_view::npos && head[first] == '{' &&
      head.find("\"nodes\"") != std::string_view::npos)
    return stack_format::cpuprofile;
  if (first != std::string_view::npos && head[first] == '{' &&
      head.find("\"head\"") != std::string_view::npos)
    return stack_format::cpuprofile;
  line_reader lines{head};
  std::uint64_t non_blank = 0, with_number = 0, backticks = 0;
  for (std::string_view line; lines.next(line);) {
    if (trimmed(line).empty() || line.starts_with('#')) continue;
    ++non_blank;
    if (looks_like_perf(line)) return stack_format::perf;
    const auto t = trimmed(line);
    if (t.starts_with("CPU") && t.find("FUNCTION:NAME") != std::string_view::npos)
      return stack_format::dtrace;
    const bool numbered = ends_in_number(line);
    if (numbered) ++with_number;
    if (!numbered && t.find('`') != std::string_view::npos && t.find(';') == std::string_view::npos)
      ++backticks;
  }
  if (backticks > 0) return stack_format::dtrace;
  if (non_blank > 0 && with_number * 10 >= non_blank * 9) return stack_format::folded;
  return fail(
      ec::not_recognised,
      "the input is neither perf script text, DTrace stacks, a .cpuprofile nor folded stacks; "
      "name it with --from");
}

result<folding> fold(std::string_view input, stack_format format, const fold_options& options) {
  switch (format) {
    case stack_format::perf:
      return fold_perf(input, options);
    case stack_format::dtrace:
      return fold_dtrace(input, options);
    case stack_format::cpuprofile:
      return fold_cpuprofile(input, options);
    case stack_format::folded:
      return fold_folded(input, options);
  }
  return fail(ec::defect, "no such format");
}

result<folding> fold_folded(std::string_view input, const fold_options& options) {
  folding out;
  std::map<std::string, long double, std::less<>> sums;
  line_reader lines{input};
  for (std::string_view line; lines.next(line);) {
    const auto text = trimmed(line);
    if (text.empty() || text.starts_with('#')) continue;
    const auto blank = text.find_last_of(" \t");
    bool is_too_large = false;
    const auto count = blank == std::string_view::npos
                           ? std::nullopt
                           : parse_count(text.substr(blank + 1), is_too_large);
    if (is_too_large)
      return fail(ec::overflow, fmt::format("line {}: the count is above 2^64-1", lines.number()));
    if (!count) {
      skip_line(out.report, lines.number(), line);
      continue;
    }
    ++out.report.samples;
    sums[std::string{trimmed(text.substr(0, blank))}] += *count;
  }
  std::vector<stack_set::frame_id> stack;
  for (const auto& [line, sum] : sums) {
    stack.clear();
    std::string_view rest = line;
    for (;;) {
      const auto end = rest.find(';');
      const auto id = out.stacks.intern(clean_name(rest.substr(0, end)));
      if (!options.merge_recursion || stack.empty() || stack.back() != id) stack.push_back(id);
      if (end == std::string_view::npos) break;
      rest.remove_prefix(end + 1);
    }
    if (sum >= 18446744073709551615.0L)
      return fail(ec::overflow, "the counts' sum is above 2^64-1");
    if (auto added = out.stacks.add(stack, static_cast<std::uint64_t>(std::nearbyint(sum))); !added)
      return fail(added.error());
  }
  return out;
}

result<std::string> unpack_input(std::string input) {
  if (input.starts_with("\x1f\x8b") || input.starts_with("\x28\xb5\x2f\xfd")) {
    auto plain = decompress(input);
    if (!plain) return plain;
    input = std::move(*plain);
  }
  if (input.starts_with("\xef\xbb\xbf")) input.erase(0, 3);
  if (input.starts_with("\xff\xfe")) return from_utf16(std::string_view{input}.substr(2), false);
  if (input.starts_with("\xfe\xff")) return from_utf16(std::string_view{input}.substr(2), true);
  return input;
}

}  // namespace ntrace::profiler
