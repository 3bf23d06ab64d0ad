#pragma once
// Reads the members of a JSON object that a peer or a file gave: each has a type and a bound, and
// the first that is wrong is told by its name.
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "config/result.hpp"

namespace ntrace {

/// ec::bad_argument: `field` must be `right`. The fact "field" names it.
tl::unexpected<error> wrong_field(std::string_view field, std::string_view right);

/// A member that is absent, or null, gives the default. After the first fault all members do.
class json_fields {
public:
  /// `value` must outlive this. It is a fault when it is no object; `name` is how that calls it.
  explicit json_fields(const nlohmann::json& value, std::string_view name = "the argument");

  /// A whole number from 0 on.
  std::uint64_t count(std::string_view field, std::uint64_t otherwise = 0);
  /// A whole number from `min` to `max`.
  std::int64_t number(std::string_view field, std::int64_t min, std::int64_t max,
                      std::int64_t otherwise = 0);
  bool flag(std::string_view field);
  /// A text of at most `bytes_max` bytes.
  std::string text(std::string_view field, std::size_t bytes_max);
  /// A text for people, which is cut to `bytes_max` bytes.
  std::string words(std::string_view field, std::size_t bytes_max);
  /// A list of at most `items_max` values; null when absent.
  const nlohmann::json* list(std::string_view field, std::size_t items_max);
  /// Any value; null when absent.
  const nlohmann::json* value(std::string_view field);
  bool has(std::string_view field) const;

  /// Notes a fault that the caller found.
  void refuse(std::string_view field, std::string_view right);
  bool is_sound() const { return !fault_; }
  /// The first fault, if any.
  result<void> outcome() const;

private:
  const nlohmann::json* find(std::string_view field);

  const nlohmann::json* object_ = nullptr;
  std::optional<error> fault_;
};

}  // namespace ntrace
