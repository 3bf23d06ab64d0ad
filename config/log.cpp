#include "config/log.hpp"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <atomic>
#include <map>
#include <mutex>
#include <optional>

#include "config/ascii.hpp"
#include "config/terminal_text.hpp"
#include "config/utf8.hpp"

namespace ntrace::log {
namespace {

constexpr std::size_t components_max = 64;
constexpr std::size_t value_bytes_max = 256;  // A peer's text must not fill the log.

spdlog::logger& logger() {
  static const auto instance = [] {
    auto made = std::make_shared<spdlog::logger>("ntrace",
                                                 std::make_shared<spdlog::sinks::stderr_sink_mt>());
    made->set_pattern("%Y-%m-%dT%H:%M:%S.%e%z %l %v");
    made->set_level(spdlog::level::info);
    return made;
  }();
  return *instance;
}

spdlog::level::level_enum to_spdlog(level l) {
  switch (l) {
    case level::debug:
      return spdlog::level::debug;
    case level::info:
      return spdlog::level::info;
    case level::warn:
      return spdlog::level::warn;
    case level::error:
      return spdlog::level::err;
    case level::off:
      return spdlog::level::off;
  }
  return spdlog::level::off;
}

void append_value(std::string& out, std::string_view value) {
  const bool cut = value.size() > value_bytes_max;
  value = value.substr(0, value_bytes_max);
  const bool plain =
      !value.empty() && value.find_first_of(" =\"\\") == std::string_view::npos &&
      std::all_of(value.begin(), value.end(),
                  [](char c) { return static_cast<unsigned char>(c) > 0x20 && c != 0x7f; }) &&
      one_line(value) == value;
  if (plain) {
    out.append(value);
  } else {
    out.push_back('"');
    for (std::size_t i = 0, size = 1; i < value.size(); i += size) {
      const char c = value[i];
      const auto byte = static_cast<unsigned char>(c);
      std::size_t bad = 1;
      size = std::max<std::size_t>(utf8_length(value.substr(i), bad), 1);
      if (byte >= 0x80) {
        out.append(one_line(value.substr(i, size)));
      } else if (c == '"' || c == '\\') {
        out.push_back('\\');
        out.push_back(c);
      } else if (byte < 0x20 || byte == 0x7f) {
        out.append("\\x").append(hex_text(byte, 2));
      } else {
        out.push_back(c);
      }
    }
    out.push_back('"');
  }
  if (cut) out.append("…");
}

std::optional<spdlog::level::level_enum> level_of(std::string_view name) {
  constexpr std::pair<std::string_view, level> names[] = {{"debug", level::debug},
                                                          {"info", level::info},
                                                          {"warn", level::warn},
                                                          {"error", level::error},
                                                          {"off", level::off}};
  for (const auto& [word, value] : names)
    if (word == name) return to_spdlog(value);
  return std::nullopt;
}

/// Levels of components that differ from the others.
struct component_levels {
  std::mutex mutex;
  std::map<std::string, spdlog::level::level_enum, std::less<>> by_component;
  std::atomic<std::size_t> count{0};  ///< So that the usual case, none, takes no lock.
};
component_levels& own_levels() {
  static component_levels all;
  return all;
}

bool is_written(spdlog::level::level_enum at, std::string_view event) {
  auto& own = own_levels();
  if (own.count == 0) return logger().should_log(at);
  const std::lock_guard held{own.mutex};
  const auto one = own.by_component.find(event.substr(0, event.find('.')));
  return one == own.by_component.end() ? logger().should_log(at) : at >= one->second;
}

}  // namespace

bool set_level(std::string_view name) {
  const auto found = level_of(name);
  if (found) logger().set_level(*found);
  return found.has_value();
}

bool set_level(std::string_view component, std::string_view name) {
  const auto found = level_of(name);
  auto& own = own_levels();
  const std::lock_guard held{own.mutex};
  if (name == "default") {
    own.by_component.erase(std::string{component});
  } else {
    const bool has_room =
        own.by_component.size() < components_max || own.by_component.contains(component);
    if (!found || !has_room) return false;
    own.by_component.insert_or_assign(std::string{component}, *found);
  }
  own.count = own.by_component.size();
  return true;
}

std::string format(std::string_view event, std::initializer_list<field> fields) {
  std::string line{event};
  for (const auto& f : fields) {
    line.append(" ").append(f.key).append("=");
    append_value(line, f.value);
  }
  return line;
}

void write(level l, std::string_view event, std::initializer_list<field> fields) {
  const auto at = to_spdlog(l);
  if (!is_written(at, event)) return;
  // Past the logger's own level, which has been asked already.
  const auto text = format(event, fields);
  logger().sinks().front()->log(
      spdlog::details::log_msg{logger().name(), at, spdlog::string_view_t{text}});
}

}  // namespace ntrace::log
