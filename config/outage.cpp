#include "config/outage.hpp"

#include <algorithm>
#include <array>
#include <charconv>

#include "config/utf8.hpp"

namespace ntrace {
namespace {

struct row {
  std::string_view word, phrase;
};
constexpr std::array rows{
    row{"name_unknown", "name not known"},
    row{"no_resolver", "no answer from a resolver"},
    row{"no_route", "no route"},
    row{"refused", "connection refused"},
    row{"silent", "no answer"},
    row{"connection_lost", "connection lost"},
    row{"untrusted", "certificate not trusted"},
    row{"server_error", "server error"},
    row{"busy", "too many requests"},
    row{"absent", "not there"},
};
static_assert(rows.size() == static_cast<std::size_t>(outage_cause::last) + 1);

const row& row_of(outage_cause c) {
  return rows[std::min(static_cast<std::size_t>(c), rows.size() - 1)];
}

const std::string* fact(const error& e, std::string_view name) {
  const auto at =
      std::find_if(e.facts.begin(), e.facts.end(), [&](const auto& f) { return f.first == name; });
  return at == e.facts.end() ? nullptr : &at->second;
}

constexpr std::size_t host_bytes_max = 256, message_bytes_max = 1024;
constexpr std::int64_t retry_after_max_ms = 86'400'000;

/// Never cut inside of a character.
std::string text_of(const nlohmann::json& value, const char* name, std::size_t bytes_max) {
  const auto at = value.find(name);
  if (at == value.end() || !at->is_string()) return {};
  auto text = at->get<std::string>();
  cut_to_characters(text, bytes_max);
  return text;
}

}  // namespace

std::string_view to_string(outage_cause c) noexcept { return row_of(c).word; }
std::string_view phrase_of(outage_cause c) noexcept { return row_of(c).phrase; }

std::optional<outage_cause> outage_cause_from(std::string_view word) noexcept {
  for (std::size_t i = 0; i < rows.size(); ++i)
    if (rows[i].word == word) return static_cast<outage_cause>(i);
  return {};
}

error to_error(const outage& o) {
  error out{
      ec::unreachable, o.message, {{"host", o.host}, {"outage", std::string{to_string(o.cause)}}}};
  if (o.retry_after.count() > 0)
    out.facts.emplace_back("retry_after_ms", std::to_string(o.retry_after.count()));
  return out;
}

std::optional<outage> outage_of(const error& e) {
  const auto* host = fact(e, "host");
  const auto* word = fact(e, "outage");
  if (e.code != ec::unreachable || !host || !word) return {};
  const auto cause = outage_cause_from(*word);
  if (!cause) return {};
  outage out{*host, *cause, e.message};
  if (const auto* after = fact(e, "retry_after_ms")) {
    std::int64_t ms = 0;
    std::from_chars(after->data(), after->data() + after->size(), ms);
    out.retry_after = milliseconds{std::max<std::int64_t>(ms, 0)};
  }
  return out;
}

nlohmann::json outage_json(const outage& o) {
  nlohmann::json out{{"host", o.host}, {"cause", to_string(o.cause)}, {"message", o.message}};
  if (o.retry_after.count() > 0) out["retry_after_ms"] = o.retry_after.count();
  return out;
}

std::optional<outage> outage_from(const nlohmann::json& value) {
  if (!value.is_object()) return {};
  outage out{text_of(value, "host", host_bytes_max), outage_cause::silent,
             text_of(value, "message", message_bytes_max)};
  if (out.host.empty()) return {};
  out.cause = outage_cause_from(text_of(value, "cause", 64)).value_or(outage_cause::silent);
  const auto after = value.find("retry_after_ms");
  if (after != value.end() && after->is_number_integer())
    out.retry_after =
        milliseconds{std::clamp<std::int64_t>(after->get<std::int64_t>(), 0, retry_after_max_ms)};
  return out;
}

}  // namespace ntrace
