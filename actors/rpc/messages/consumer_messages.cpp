#include "actors/rpc/messages/consumer_messages.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "actors/rpc/messages/push_messages.hpp"
#include "config/json_fields.hpp"
#include "config/json_parse.hpp"
#include "config/mutation.hpp"
#include "config/utf8.hpp"

namespace ntrace::rpc {
namespace {

using nlohmann::json;

constexpr std::size_t id_max = 200;
constexpr std::size_t failure_max = 2000;  // of a reason; the whole stands in the stream `events`

result<std::string> text_of(const json& doc, const char* field) {
  const auto at = doc.find(field);
  if (at == doc.end() || !at->is_string() || at->get_ref<const std::string&>().empty() ||
      at->get_ref<const std::string&>().size() > id_max)
    return wrong_field(field, "a text of 1 to " + std::to_string(id_max) + " bytes");
  return at->get<std::string>();
}

result<void> take_commit(const json& doc, result_doc& out) {
  const auto repo = text_of(doc, "repo");
  if (!repo) return fail(repo.error());
  const auto slash = repo->find('/');
  if (slash == std::string::npos) return wrong_field("repo", "owner/name");
  // A commit is named here as in a push, and held against the same rules.
  const auto push = parse_push(
      json::array({repo->substr(0, slash), repo->substr(slash + 1), doc.value("commit", json())}));
  if (!push) {
    const auto& facts = push.error().facts;
    const bool is_sha =
        std::any_of(facts.begin(), facts.end(), [](const auto& f) { return f.second == "sha"; });
    return is_sha ? wrong_field("commit", "40 or 64 hexadecimal digits")
                  : wrong_field("repo", "owner/name");
  }
  out.owner = push->owner;
  out.repo = push->repo;
  out.sha = push->sha;
  return {};
}

result<void> take_data(const json& data, result_doc& out) {
  if (!out.stream) {
    const bool is_end = data.is_object() && data.value("event", json()) == "end" &&
                        data.value("stream", json()).is_string();
    if (is_end) out.ended = domain::stream_from(data["stream"].get_ref<const std::string&>());
    if (!out.ended)
      return wrong_field("data",
                         "{event: \"end\", stream} for control, the stream one of stdout, stderr, "
                         "events, result");
    return {};
  }
  if (data.is_null() || (data.is_string() && data.get_ref<const std::string&>().empty()))
    return wrong_field("data", "there, and not empty");
  if (out.stream == domain::stream::events) {
    if (!data.is_object()) return wrong_field("data", "an object {level, message} for events");
    out.event = domain::document{data};
    if (data.value("level", json()) == "error") {
      const auto message = data.value("message", json());
      out.failure = message.is_string() ? message.get<std::string>() : "the consumer met an error";
      if (out.failure.empty()) out.failure = "the consumer met an error";
      cut_to_characters(out.failure, failure_max);
    }
  }
  out.data = data.is_string() ? data.get<std::string>()
                              : data.dump(-1, ' ', false, json::error_handler_t::replace);
  return {};
}

}  // namespace

json to_json(const job& m) {
  const json plain{{"after", m.sha},
                   {"repository", {{"name", m.repo}, {"owner", {{"name", m.owner}}}}}};
  return {{"commit", m.sha}, {"owner", m.owner},
          {"repo", m.repo},  {"uuid", m.run},
          {"id", m.run},     {"payload", m.payload.empty() ? plain : parse_or_discard(m.payload)}};
}

json to_json(const stored& m) { return {{"stored", true}, {"duplicate", m.is_duplicate}}; }

result<result_doc> parse_result_doc(const json& args) {
  if (args.size() != 1 || !args[0].is_object()) return wrong_field("arguments", "[document]");
  const auto& doc = args[0];
  result_doc out;
  if (mutated(mutation::malformed_result_throws)) out.id = doc.at("id").get<std::string>();
  for (const auto& [field, to] : {std::pair{"id", &out.id}, std::pair{"run_id", &out.run_id}}) {
    auto text = text_of(doc, field);
    if (!text) return fail(text.error());
    *to = std::move(*text);
  }
  const auto when = doc.find("when");
  if (when == doc.end() || !when->is_number() || when->get<double>() <= 0)
    return wrong_field("when", "milliseconds since 1970");
  if (auto taken = take_commit(doc, out); !taken) return fail(taken.error());
  const auto stream = text_of(doc, "stream");
  if (stream) out.stream = domain::stream_from(*stream);
  if (!stream || (!out.stream && *stream != "control"))
    return wrong_field("stream", "stdout, stderr, events, control or result");
  if (auto taken = take_data(doc.value("data", json()), out); !taken) return fail(taken.error());
  return out;
}

}  // namespace ntrace::rpc
