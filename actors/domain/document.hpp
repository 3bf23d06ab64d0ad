#pragma once
// A JSON value that we carry from one end to the other and decide nothing by.
#include <memory>
#include <nlohmann/json_fwd.hpp>

namespace ntrace::domain {

/// Cheap to copy; the value is never changed.
class document {
public:
  document() = default;
  /// Null gives the empty document.
  explicit document(nlohmann::json value);

  // As of a pointer: so messages are measured that hold one (supervision/held_bytes.hpp).
  explicit operator bool() const { return value_ != nullptr; }
  /// Null for the empty one.
  const nlohmann::json& operator*() const;

private:
  std::shared_ptr<const nlohmann::json> value_;
};

/// {}
document empty_object();

}  // namespace ntrace::domain
