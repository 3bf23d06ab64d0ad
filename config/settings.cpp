#include "config/settings.hpp"

#include <fmt/core.h>
#include <toml++/toml.h>

#include <algorithm>
#include <sstream>

#include "config/ascii.hpp"
#include "config/file.hpp"
#include "config/limits.hpp"

namespace ntrace {
namespace {

constexpr std::size_t file_bytes_max = 1u << 20;
constexpr std::ptrdiff_t file_dots_max = 4096;  // Some 300 bytes of stack each.

std::optional<std::size_t> find_row(std::string_view key) {
  const auto at = std::find_if(setting_table.begin(), setting_table.end(),
                               [&](const setting_spec& s) { return s.key == key; });
  if (at == setting_table.end()) return {};
  return static_cast<std::size_t>(at - setting_table.begin());
}

/// The canonical text of a value, or what would have been right.
result<std::string> check(const setting_spec& spec, const setting_value& value) {
  const auto wrong = [&](const std::string& right) {
    return fail(ec::bad_config, fmt::format("setting {} is \"{}\" ({}): {}", spec.key, value.text,
                                            value.origin, right));
  };
  using enum setting_type;
  std::optional<std::int64_t> number;
  switch (spec.type) {
    case text:
    case list:
      return value.text;
    case flag:
      if (value.text != "true" && value.text != "false") return wrong("use true or false");
      return value.text;
    case count:
    case duration_ms:
      number = whole_number(value.text);
      break;
    case bytes:
      number = parse_bytes(value.text);
      break;
  }
  if (!number)
    return wrong(spec.type == bytes         ? "use a number of bytes such as 64MiB"
                 : spec.type == duration_ms ? "use a whole number of milliseconds"
                                            : "use a whole number");
  if (*number < spec.min || *number > spec.max)
    return wrong(fmt::format("use a value from {} to {}", spec.min, spec.max));
  return std::to_string(*number);
}

result<std::string> toml_text(const std::string& key, const toml::node& node) {
  if (const auto* s = node.as_string()) return s->get();
  if (const auto* i = node.as_integer()) return std::to_string(i->get());
  if (const auto* b = node.as_boolean()) return std::string{b->get() ? "true" : "false"};
  if (const auto* a = node.as_array()) {
    std::string joined;
    for (const auto& item : *a) {
      const auto* s = item.as_string();
      if (!s) return fail(ec::bad_config, "setting " + key + ": a list holds texts only");
      joined += (joined.empty() ? "" : ",") + s->get();
    }
    return joined;
  }
  return fail(ec::bad_config, "setting " + key + ": use a text, a number, true/false or a list");
}

result<void> read_toml(const std::string& file, std::span<setting_value> values) {
  const auto text = read_file(file, file_bytes_max);
  if (!text) return fail(ec::bad_config, "the configuration: " + text.error().message);
  // Each dot of a key is a table in a table, and to take those apart recurses.
  if (std::count(text->begin(), text->end(), '.') > file_dots_max)
    return fail(ec::bad_config,
                fmt::format("{}: more than {} dots; is this a configuration of ntrace?", file,
                            file_dots_max));
  try {
    const auto parsed = toml::parse(*text, file);
    for (const auto& [key, node] : parsed) {
      const std::string name{key.str()};
      const auto where = fmt::format("file {}:{}", file, node.source().begin.line);
      const auto row = find_row(name);
      if (!row)
        return fail(
            ec::bad_config,
            fmt::format("unknown setting {} ({}); `ntrace config` lists the settings there are",
                        name, where));
      const auto text_of = toml_text(name, node);
      if (!text_of) return fail(text_of.error());
      values[*row] = {*text_of, where};
    }
  } catch (const toml::parse_error& e) {
    return fail(ec::bad_config,
                fmt::format("{}:{}: {}", file, e.source().begin.line, e.description()));
  } catch (const std::exception& e) {
    return fail(ec::bad_config, file + " cannot be read: " + e.what());
  }
  return {};
}

}  // namespace

std::string setting_flag(std::string_view key) {
  std::string out = "--" + std::string{key};
  std::replace(out.begin(), out.end(), '_', '-');
  return out;
}

std::string setting_variable(std::string_view key) { return "NTRACE_" + uppered(key); }

std::optional<std::int64_t> parse_bytes(std::string_view text) {
  constexpr std::pair<std::string_view, int> units[] = {{"KiB", 10}, {"MiB", 20}, {"GiB", 30}};
  int shift = 0;
  for (const auto& [suffix, bits] : units) {
    if (text.ends_with(suffix)) {
      shift = bits;
      text.remove_suffix(suffix.size());
      break;
    }
  }
  const auto number = whole_number(text);
  if (!number || *number < 0 || *number > (INT64_MAX >> shift)) return {};
  return *number << shift;
}

result<settings> settings::load(
    const std::string& file,
    const std::function<std::optional<std::string>(const std::string&)>& env,
    const std::map<std::string, std::string>& flags) {
  settings out;
  for (std::size_t i = 0; i < setting_table.size(); ++i)
    out.values_[i] = {std::string{setting_table[i].fallback}, "default"};
  if (!file.empty())
    if (auto read = read_toml(file, out.values_); !read) return fail(read.error());
  for (std::size_t i = 0; i < setting_table.size(); ++i)
    if (const auto value = env(setting_variable(setting_table[i].key)))
      out.values_[i] = {*value, "env " + setting_variable(setting_table[i].key)};
  for (const auto& [key, value] : flags) {
    const auto row = find_row(key);
    if (!row) return fail(ec::bad_config, "unknown setting " + key);
    out.values_[*row] = {value, "flag " + setting_flag(key)};
  }
  for (std::size_t i = 0; i < setting_table.size(); ++i) {
    const auto checked = check(setting_table[i], out.values_[i]);
    if (!checked) return fail(checked.error());
    out.values_[i].text = *checked;
  }
  return out;
}

std::int64_t settings::number_at(setting_key key) const {
  return whole_number(value(key).text).value_or(0);
}

std::vector<std::string> settings::list(list_setting key) const {
  std::vector<std::string> out;
  std::istringstream in{value(key).text};
  for (std::string item; std::getline(in, item, ',');) {
    if (const auto one = trimmed(item, " "); !one.empty()) out.emplace_back(one);
  }
  return out;
}

}  // namespace ntrace
