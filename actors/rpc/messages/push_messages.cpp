#include "actors/rpc/messages/push_messages.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "config/json_fields.hpp"

namespace ntrace::rpc {
namespace {

using domain::push_request;
using nlohmann::json;

constexpr std::size_t name_max = 100;
constexpr std::size_t key_max = 200;
constexpr std::size_t source_max = 4096;
constexpr std::int64_t deadline_max_ms = 365ll * 24 * 3600 * 1000;

bool is_name(const std::string& s) {
  return !s.empty() && s.size() <= name_max && s != "." && s != ".." &&
         std::all_of(s.begin(), s.end(), [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                  c == '_' || c == '.' || c == '-';
         });
}

bool is_plain_text(const std::string& s, std::size_t max) {
  return s.size() <= max && std::all_of(s.begin(), s.end(), [](char c) {
           return static_cast<unsigned char>(c) >= 0x20 && c != 0x7f;
         });
}

result<void> take_sha(const json& value, std::string_view field, std::string& out) {
  constexpr std::string_view right = "40 or 64 hexadecimal digits";
  if (!value.is_string()) return wrong_field(field, right);
  out = value.get_ref<const std::string&>();
  bool is_hex = out.size() == 40 || out.size() == 64;
  for (auto& c : out) {
    if (c >= 'A' && c <= 'F') c = static_cast<char>(c - 'A' + 'a');
    is_hex = is_hex && ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'));
  }
  if (!is_hex) return wrong_field(field, right);
  return {};
}

result<void> take_name(const json& value, std::string_view field, std::string& out) {
  if (!value.is_string() || !is_name(value.get_ref<const std::string&>()))
    return wrong_field(field, "1 to 100 characters of A-Z a-z 0-9 _ . - and neither . nor ..");
  out = value.get<std::string>();
  return {};
}

result<void> take_options(const json& options, push_request& out) {
  for (const auto& [name, value] : options.items()) {
    if (name == "key" || name == "source") {
      auto& to = name == "key" ? out.key : out.source;
      if (!value.is_string() || value.get_ref<const std::string&>().empty() ||
          !is_plain_text(value.get_ref<const std::string&>(), name == "key" ? key_max : source_max))
        return wrong_field(name, "a text without control characters, at most " +
                                     std::to_string(name == "key" ? key_max : source_max) +
                                     " bytes");
      to = value.get<std::string>();
    } else if (name == "priority") {
      if (!value.is_number_integer() || value.get<std::int64_t>() < -100 ||
          value.get<std::int64_t>() > 100)
        return wrong_field(name, "a whole number from -100 to 100");
      out.priority = value.get<std::int64_t>();
    } else if (name == "deadline_ms") {
      if (!value.is_number_integer() || value.get<std::int64_t>() < 1 ||
          value.get<std::int64_t>() > deadline_max_ms)
        return wrong_field(name, "a whole number from 1 to " + std::to_string(deadline_max_ms));
      out.deadline_ms = value.get<std::int64_t>();
    } else {
      return wrong_field("option " + name, "one of key, source, priority, deadline_ms");
    }
  }
  return {};
}

result<push_request> parse_payload(const json& payload) {
  push_request out;
  const auto repository = payload.find("repository");
  if (repository == payload.end() || !repository->is_object())
    return wrong_field("repository", "an object with name and owner");
  if (auto taken = take_sha(payload.value("after", json()), "after", out.sha); !taken)
    return fail(taken.error());
  if (auto taken = take_name(repository->value("name", json()), "repository.name", out.repo);
      !taken)
    return fail(taken.error());
  const auto owner = repository->value("owner", json());
  if (!owner.is_object()) return wrong_field("repository.owner", "an object with name or login");
  const bool has_name = owner.contains("name") && !owner["name"].is_null();
  if (auto taken =
          take_name(owner.value(has_name ? "name" : "login", json()),
                    has_name ? "repository.owner.name" : "repository.owner.login", out.owner);
      !taken)
    return fail(taken.error());
  if (const auto uuid = payload.find("uuid"); uuid != payload.end()) {
    if (!uuid->is_string() || uuid->get_ref<const std::string&>().empty() ||
        !is_plain_text(uuid->get_ref<const std::string&>(), key_max))
      return wrong_field("uuid", "a text of at most 200 bytes");
    out.key = uuid->get<std::string>();
  }
  out.payload = payload.dump(-1, ' ', false, json::error_handler_t::replace);
  return out;
}

}  // namespace

result<domain::push_request> parse_push(const json& args) {
  if (args.size() == 2 && args[0].is_object() && args[1].is_object()) {
    auto out = parse_payload(args[0]);
    if (!out) return out;
    if (auto taken = take_options(args[1], *out); !taken) return fail(taken.error());
    return out;
  }
  if (args.size() == 1 && args[0].is_object()) return parse_payload(args[0]);
  const bool with_options = args.size() == 4 && args[3].is_object();
  if (args.size() != 3 && !with_options)
    return wrong_field("arguments",
                       "[owner, repo, sha], [payload], or either with {options} behind");
  push_request out;
  if (auto taken = take_name(args[0], "owner", out.owner); !taken) return fail(taken.error());
  if (auto taken = take_name(args[1], "repo", out.repo); !taken) return fail(taken.error());
  if (auto taken = take_sha(args[2], "sha", out.sha); !taken) return fail(taken.error());
  if (with_options)
    if (auto taken = take_options(args[3], out); !taken) return fail(taken.error());
  return out;
}

/// Of all that a push costs on its thread, to build and write a JSON value was a third. Neither an
/// id nor a state has a character that JSON escapes.
std::string to_text(const domain::receipt& r) {
  std::string out = R"({"duplicate":)";
  out.reserve(128);
  out.append(r.duplicate ? "true" : "false").append(R"(,"journal_seq":)");
  out.append(std::to_string(r.journal_seq)).append(R"(,"run":")").append(r.run);
  out.append(R"(","state":")").append(to_string(r.state)).append("\"}");
  return out;
}

}  // namespace ntrace::rpc
