#pragma once
// Why an actor ended.
#include <string>

namespace ntrace::supervision {

/// normal and shutdown (with or without a text) are normal ends; all else is abnormal.
enum class exit_kind { normal, shutdown, killed, failed };

struct exit_reason {
  exit_kind kind = exit_kind::normal;
  std::string text;  ///< Of an exception, error or shutdown: what people need to see.
  bool is_normal() const { return kind == exit_kind::normal || kind == exit_kind::shutdown; }
  bool operator==(const exit_reason&) const = default;
};

/// The text, or the kind's own word where there is none: "normal", "shutdown", "killed", "failed".
inline std::string to_string(const exit_reason& r) {
  if (!r.text.empty()) return r.text;
  switch (r.kind) {
    case exit_kind::normal:
      return "normal";
    case exit_kind::shutdown:
      return "shutdown";
    case exit_kind::killed:
      return "killed";
    case exit_kind::failed:
      return "failed";
  }
  return "failed";
}

}  // namespace ntrace::supervision
