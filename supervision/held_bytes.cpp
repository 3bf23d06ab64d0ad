#include "supervision/held_bytes.hpp"

#include <algorithm>
#include <caf/detail/serialized_size.hpp>
#include <typeindex>
#include <unordered_map>

#include "config/gauges.hpp"

namespace ntrace::supervision {
namespace {

using measure = std::size_t (*)(const void*);

/// Written before main only.
std::unordered_map<std::type_index, measure>& measures() {
  static std::unordered_map<std::type_index, measure> all;
  return all;
}

constexpr std::size_t word = 8;  // What an element takes at least.

/// A type that CAF can write elsewhere: as many bytes as it would write.
std::size_t written_bytes(const caf::message& content, std::size_t at) {
  caf::detail::serialized_size_inspector sink{nullptr};
  if (!content.save(at, sink)) return sink.result();
  static auto& unknown = gauges::value("facade_types_unmeasured");
  ++unknown;
  return 0;
}

std::size_t element_bytes(const caf::message& content, std::size_t at) {
  if (content.match_element<caf::atom_value>(at)) return word;
  if (content.match_element<std::string>(at)) return content.get_as<std::string>(at).size();
  if (content.match_element<caf::message>(at)) return bytes_of(content.get_as<caf::message>(at));
  if (const auto* type = content.type(at).second)
    if (const auto known = measures().find(*type); known != measures().end())
      return known->second(content.get(at));
  return written_bytes(content, at);
}

}  // namespace

bool measure_by(const std::type_info& type, std::size_t (*measure)(const void*)) {
  return measures().emplace(type, measure).second;
}

std::size_t bytes_beyond(const caf::message& value) {
  std::size_t out = 0;
  for (std::size_t i = 0; i < value.size(); ++i) out += std::max(word, element_bytes(value, i));
  return out;
}

std::size_t bytes_beyond(const nlohmann::json& value) {
  std::size_t out = 0;
  switch (value.type()) {
    case nlohmann::json::value_t::string:
      return sizeof(std::string) + value.get_ref<const std::string&>().size();
    case nlohmann::json::value_t::binary:
      return value.get_binary().size();
    case nlohmann::json::value_t::array:
      for (const auto& one : value) out += sizeof one + bytes_beyond(one);
      return out;
    case nlohmann::json::value_t::object:
      for (const auto& [name, one] : value.get_ref<const nlohmann::json::object_t&>())
        out += sizeof name + name.size() + sizeof one + bytes_beyond(one);
      return out;
    default:
      return 0;
  }
}

}  // namespace ntrace::supervision
