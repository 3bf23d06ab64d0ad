#include "net/json_text.hpp"

#include <fmt/core.h>
#include <simdjson.h>

#include <optional>

#include "config/json_parse.hpp"
#include "config/limits.hpp"

namespace ntrace::net {
namespace {

template <class T>
T as(simdjson::dom::element at) {
  T out{};
  [[maybe_unused]] const auto error = at.get(out);  // None: its type was looked at before.
  return out;
}

/// Recursion no deeper than the parser's limit.
json to_value(simdjson::dom::element at) {
  using simdjson::dom::element_type;
  switch (at.type()) {
    case element_type::ARRAY: {
      const auto from = as<simdjson::dom::array>(at);
      json::array_t to;
      to.reserve(from.size());
      for (const auto one : from) to.push_back(to_value(one));
      return to;
    }
    case element_type::OBJECT: {
      const auto from = as<simdjson::dom::object>(at);
      json::object_t to;
      // The last of equal names counts, as with nlohmann.
      for (const auto& field : from)
        to.insert_or_assign(std::string{field.key}, to_value(field.value));
      return to;
    }
    case element_type::STRING:
      return as<std::string_view>(at);
    case element_type::INT64: {
      const auto value = as<std::int64_t>(at);
      return value < 0 ? json(value) : json(static_cast<std::uint64_t>(value));
    }
    case element_type::UINT64:
      return as<std::uint64_t>(at);
    case element_type::DOUBLE:
      return as<double>(at);
    case element_type::BOOL:
      return as<bool>(at);
    default:
      return nullptr;
  }
}

constexpr std::size_t kept_bytes_max = 64u << 10;

/// Nothing for what simdjson refuses, and for what is nested too deep.
std::optional<json> parse_fast(std::string_view text) {
  // Of each thread; it keeps some 14 times the longest text.
  static thread_local std::optional<simdjson::dom::parser> parser;
  if (!parser) {
    parser.emplace();
    if (parser->allocate(kept_bytes_max, limits::json_depth_max) != simdjson::SUCCESS) return {};
  }
  std::optional<json> out;
  simdjson::dom::element root;
  if (parser->parse(text.data(), text.size()).get(root) == simdjson::SUCCESS) out = to_value(root);
  if (parser->capacity() > kept_bytes_max) parser.reset();
  return out;
}

}  // namespace

result<json> parse_json(std::string_view text) {
  if (auto value = parse_fast(text)) return std::move(*value);
  if (const auto depth = json_depth(text); depth > limits::json_depth_max)
    return fail(ec::bad_argument,
                fmt::format("nesting of {} is deeper than {}", depth, limits::json_depth_max));
  try {
    return json::parse(text);
  } catch (const json::parse_error& e) {
    return fail(ec::bad_argument, fmt::format("not JSON: column {} is wrong", e.byte));
  } catch (const json::exception& e) {
    return fail(ec::bad_argument, std::string{"not JSON: "} + e.what());
  }
}

}  // namespace ntrace::net
