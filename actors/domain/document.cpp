#include "actors/domain/document.hpp"

#include <nlohmann/json.hpp>

namespace ntrace::domain {

document::document(nlohmann::json value) {
  if (!value.is_null()) value_ = std::make_shared<const nlohmann::json>(std::move(value));
}

const nlohmann::json& document::operator*() const {
  static const nlohmann::json null;
  return value_ ? *value_ : null;
}

document empty_object() { return document{nlohmann::json::object()}; }

}  // namespace ntrace::domain
