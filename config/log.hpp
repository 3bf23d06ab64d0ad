#pragma once
// Log lines: `component.event key=value …`, one fact, one line, on stderr.
#include <initializer_list>
#include <string>
#include <string_view>

namespace ntrace::log {

enum class level { debug, info, warn, error, off };

/// One key and its value, made from text or from any integer.
struct field {
  std::string_view key;
  std::string value;
  field(std::string_view k, std::string_view v) : key{k}, value{v} {}
  field(std::string_view k, const char* v) : key{k}, value{v} {}
  field(std::string_view k, const std::string& v) : key{k}, value{v} {}
  template <class Int>
  requires std::is_integral_v<Int> field(std::string_view k, Int v)
      : key{k}, value{std::to_string(v)} {}
};

/// The least level that is written; `name` is debug, info, warn, error or off. False if unknown.
bool set_level(std::string_view name);
/// The same for events COMPONENT.* only; "default" takes that back. At most 64 components: false
/// beyond them.
bool set_level(std::string_view component, std::string_view name);

/// Writes one line. Values with blanks, quotes or control bytes are quoted and escaped, and every
/// value is cut at 256 bytes, because most of them come from peers.
void write(level l, std::string_view event, std::initializer_list<field> fields = {});

inline void debug(std::string_view e, std::initializer_list<field> f = {}) {
  write(level::debug, e, f);
}
inline void info(std::string_view e, std::initializer_list<field> f = {}) {
  write(level::info, e, f);
}
inline void warn(std::string_view e, std::initializer_list<field> f = {}) {
  write(level::warn, e, f);
}
inline void error(std::string_view e, std::initializer_list<field> f = {}) {
  write(level::error, e, f);
}

/// The text of a line without its time and level; what write() prints.
std::string format(std::string_view event, std::initializer_list<field> fields);

}  // namespace ntrace::log
