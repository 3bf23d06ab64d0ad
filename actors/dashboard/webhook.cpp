#include "actors/dashboard/webhook.hpp"

#include <algorithm>

#include "config/ascii.hpp"
#include "config/digest.hpp"
#include "net/json_rpc.hpp"

namespace ntrace::dashboard {
namespace {

using nlohmann::json;

/// What a deleted branch points to.
bool is_no_commit(const json& sha) {
  return sha.is_string() && !sha.get_ref<const std::string&>().empty() &&
         sha.get_ref<const std::string&>().find_first_not_of('0') == std::string::npos;
}

/// A value of a form (URL standard, "application/x-www-form-urlencoded parsing").
std::string decoded(std::string_view text) {
  std::string out{text};
  std::replace(out.begin(), out.end(), '+', ' ');
  return percent_decoded(out);
}

/// The first `payload` of a form; empty when it has none.
std::string payload_of(std::string_view form) {
  constexpr std::string_view name = "payload=";
  while (!form.empty()) {
    const auto end = std::min(form.find('&'), form.size());
    const auto field = form.substr(0, end);
    if (field.starts_with(name)) return decoded(field.substr(name.size()));
    form.remove_prefix(std::min(end + 1, form.size()));
  }
  return {};
}

tl::unexpected<webhook_answer> invalid(std::string reason) {
  return tl::unexpected<webhook_answer>{webhook_answer{400, "payload:invalid", std::move(reason)}};
}

}  // namespace

tl::expected<json, webhook_answer> read_webhook(const webhook_request& r,
                                                const std::string& secret) {
  if (r.provider != "github")
    return tl::unexpected<webhook_answer>{webhook_answer{
        400, "payload:providernotsupported", "POST /github is all that is served here"}};
  // Any page may have the browser of a user of this machine send a POST here.
  if (r.is_from_page)
    return tl::unexpected<webhook_answer>{
        webhook_answer{403, "origin:refused", "a web page has sent this, and not a forge"}};
  if (!secret.empty()) {
    const auto right = "sha256=" + hmac_sha256(secret, r.body);
    if (!is_same_secret(r.signature, right))
      return tl::unexpected<webhook_answer>{
          webhook_answer{401, "signature:invalid",
                         "X-Hub-Signature-256 is missing or not made with webhook_secret_file's "
                         "secret"}};
  }
  if (r.event != "push")
    return tl::unexpected<webhook_answer>{webhook_answer{200, "OK", "not a push: " + r.event}};
  const bool is_form = r.content_type.starts_with("application/x-www-form-urlencoded");
  auto payload = net::parse_json(is_form ? payload_of(r.body) : r.body);
  if (!payload) return invalid(std::move(payload.error().message));
  if (!payload->is_object()) return invalid("the payload is not a JSON object");
  if (is_no_commit(payload->value("after", json())))
    return tl::unexpected<webhook_answer>{webhook_answer{200, "OK", "a branch was deleted"}};
  auto options = json::object();
  if (!r.delivery.empty()) options["key"] = "github:" + r.delivery;
  return json::array({std::move(*payload), std::move(options)});
}

webhook_answer refused_webhook(const error& why) {
  if (why.code == ec::bad_argument) return {400, "payload:invalid", why.message};
  if (why.code == ec::key_conflict) return {409, to_string(why), to_string(why)};
  return {503, to_string(why), to_string(why)};
}

}  // namespace ntrace::dashboard
