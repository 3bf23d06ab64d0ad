#include "config/json_fields.hpp"

#include <limits>

#include "config/utf8.hpp"

namespace ntrace {

using nlohmann::json;

tl::unexpected<error> wrong_field(std::string_view field, std::string_view right) {
  const std::string name{field};
  return fail(error{ec::bad_argument, name + " must be " + std::string{right}, {{"field", name}}});
}

json_fields::json_fields(const json& value, std::string_view name) {
  if (value.is_object())
    object_ = &value;
  else
    refuse(name, "an object");
}

const json* json_fields::find(std::string_view field) {
  if (!object_ || fault_) return nullptr;
  const auto at = object_->find(field);
  return at == object_->end() || at->is_null() ? nullptr : &*at;
}

bool json_fields::has(std::string_view field) const {
  if (!object_) return false;
  const auto at = object_->find(field);
  return at != object_->end() && !at->is_null();
}

void json_fields::refuse(std::string_view field, std::string_view right) {
  if (!fault_) fault_ = wrong_field(field, right).value();
}

result<void> json_fields::outcome() const {
  if (fault_) return fail(*fault_);
  return {};
}

std::uint64_t json_fields::count(std::string_view field, std::uint64_t otherwise) {
  const auto* v = find(field);
  if (!v) return otherwise;
  if (v->is_number_unsigned()) return v->get<std::uint64_t>();
  if (v->is_number_integer() && v->get<std::int64_t>() >= 0)
    return static_cast<std::uint64_t>(v->get<std::int64_t>());
  refuse(field, "a whole number from 0 on");
  return otherwise;
}

std::int64_t json_fields::number(std::string_view field, std::int64_t min, std::int64_t max,
                                 std::int64_t otherwise) {
  const auto* v = find(field);
  if (!v) return otherwise;
  const bool fits = v->is_number_integer() &&
                    (!v->is_number_unsigned() ||
                     v->get<std::uint64_t>() <=
                         static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()));
  if (fits && v->get<std::int64_t>() >= min && v->get<std::int64_t>() <= max)
    return v->get<std::int64_t>();
  refuse(field, "a whole number from " + std::to_string(min) + " to " + std::to_string(max));
  return otherwise;
}

bool json_fields::flag(std::string_view field) {
  const auto* v = find(field);
  if (!v) return false;
  if (!v->is_boolean()) refuse(field, "true or false");
  return v->is_boolean() && v->get<bool>();
}

std::string json_fields::text(std::string_view field, std::size_t bytes_max) {
  const auto* v = find(field);
  if (!v) return {};
  if (v->is_string() && v->get_ref<const std::string&>().size() <= bytes_max)
    return v->get<std::string>();
  refuse(field, "a text of at most " + std::to_string(bytes_max) + " bytes");
  return {};
}

std::string json_fields::words(std::string_view field, std::size_t bytes_max) {
  const auto* v = find(field);
  if (!v) return {};
  if (!v->is_string()) {
    refuse(field, "a text");
    return {};
  }
  auto out = v->get<std::string>();
  cut_to_characters(out, bytes_max);
  return out;
}

const json* json_fields::list(std::string_view field, std::size_t items_max) {
  const auto* v = find(field);
  if (!v) return nullptr;
  if (v->is_array() && v->size() <= items_max) return v;
  refuse(field, "a list of at most " + std::to_string(items_max) + " values");
  return nullptr;
}

const json* json_fields::value(std::string_view field) { return find(field); }

}  // namespace ntrace
