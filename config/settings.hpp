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
#include "config/host_port.hpp"
#include "config/result.hpp"
#include "config/setting_table.hpp"

namespace ntrace {

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

  const std::string& text(text_setting key) const { return value(key).text; }
  std::int64_t number(number_setting key) const { return number_at(key); }
  milliseconds duration(duration_setting key) const { return milliseconds{number_at(key)}; }
  bool flag(flag_setting key) const { return value(key).text == "true"; }
  std::vector<std::string> list(list_setting key) const;
  const setting_value& value(setting_key key) const { return values_[key.index()]; }
  /// In the order of setting_table.
  std::span<const setting_value> all() const { return values_; }
  /// A value of higher rank than all others, unchecked.
  void set(setting_key key, std::string text, std::string origin) {
    values_[key.index()] = {std::move(text), std::move(origin)};
  }
  /// Says where a value came from that the program worked out itself.
  void set_origin(setting_key key, std::string origin) {
    values_[key.index()].origin = std::move(origin);
  }

private:
  std::int64_t number_at(setting_key key) const;
  std::array<setting_value, setting_table.size()> values_;
};

std::string setting_flag(std::string_view key);
std::string setting_variable(std::string_view key);

/// A count of bytes: "1048576", "64KiB", "1GiB". Nothing for what is not one.
std::optional<std::int64_t> parse_bytes(std::string_view text);

}  // namespace ntrace
