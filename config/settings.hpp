#pragma once
// Settings: every key has a default, a line in the TOML file, an environment variable and a flag,
// in rising order of rank, and the value in force knows where it came from.
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "config/clock.hpp"
#include "config/result.hpp"

namespace ntrace {

enum class setting_type { text, count, bytes, duration_ms, list, flag };

/// One key. Its flag is `--key-with-dashes`, its variable `NTRACE_KEY_IN_CAPITALS`.
struct setting_spec {
  std::string_view key;
  setting_type type;
  std::string_view fallback;
  std::string_view help;
  std::int64_t min = 0;  ///< For numbers.
  std::int64_t max = INT64_MAX / 2;
};

/// The table of all keys, in the order in which `ntrace config` prints them.
std::span<const setting_spec> setting_table();

struct setting_value {
  std::string text;
  std::string origin;  ///< "default", "file PATH:LINE", "env NTRACE_X" or "flag --x".
};

/// The settings in force. Immutable once loaded.
class settings {
public:
  /// `file`: TOML text's path, empty for none. `env`: looks a variable up. `flags`: by key.
  /// ec::bad_config names the key, its origin and what would be right.
  static result<settings> load(
      const std::string& file,
      const std::function<std::optional<std::string>(const std::string&)>& env,
      const std::map<std::string, std::string>& flags);

  std::string text(std::string_view key) const;
  std::int64_t number(std::string_view key) const;
  milliseconds duration(std::string_view key) const { return milliseconds{number(key)}; }
  bool flag(std::string_view key) const { return text(key) == "true"; }
  std::vector<std::string> list(std::string_view key) const;
  const setting_value& value(std::string_view key) const;
  /// A value of higher rank than all others, unchecked.
  void set(const std::string& key, std::string text, std::string origin) {
    values_[key] = {std::move(text), std::move(origin)};
  }
  /// Says where a value came from that the program worked out itself.
  void set_origin(const std::string& key, std::string origin) {
    values_[key].origin = std::move(origin);
  }

private:
  std::map<std::string, setting_value, std::less<>> values_;
};

std::string setting_flag(std::string_view key);
std::string setting_variable(std::string_view key);

/// A count of bytes: "1048576", "64KiB", "1GiB". Nothing for what is not one.
std::optional<std::int64_t> parse_bytes(std::string_view text);

struct host_port {
  std::string host;
  std::uint16_t port = 0;
  std::string text() const { return host + ":" + std::to_string(port); }
};
/// "HOST:PORT", "[::1]:PORT" or "PORT" (then 127.0.0.1).
result<host_port> parse_host_port(std::string_view text);

}  // namespace ntrace
