#include "actors/dashboard/webhook_actor.hpp"

#include <algorithm>
#include <caf/event_based_actor.hpp>
#include <caf/scoped_actor.hpp>

#include "actors/dashboard/http_port.hpp"
#include "actors/dashboard/webhook.hpp"
#include "actors/rpc/rpc_server_actor.hpp"
#include "actors/rpc/rpc_types.hpp"
#include "config/file.hpp"
#include "config/limits.hpp"
#include "config/log.hpp"
#include "supervision/caf_types.hpp"

namespace ntrace::dashboard {
namespace {

/// Turns a forge's requests into pushes.
class webhook_server {
public:
  webhook_server(caf::actor_system& system, webhook_options options, std::string secret,
                 caf::actor dispatcher)
      : system_{system},
        options_{std::move(options)},
        secret_{std::move(secret)},
        dispatcher_{std::move(dispatcher)},
        http_{{options_.request_max, limits::line_bytes_max},
              [this](const http_request& r) { return answer(r); }} {}

  /// The port; 0 when the address cannot be bound.
  std::uint16_t listen() { return http_.listen(options_.listen); }

private:
  http_response answer(const http_request& r) {
    const auto said = serve(r);
    if (said.status != 200)
      log::warn("webhook.refused", {{"from", r.from},
                                    {"delivery", r.header("x-github-delivery")},
                                    {"status", said.status},
                                    {"reason", said.reason}});
    http_response out{said.status, said.body};
    if (!said.reason.empty()) out.headers["X-Ntrace-Error"] = said.reason;
    if (!said.run.empty()) out.headers["X-Ntrace-Run"] = said.run;
    return out;
  }

  struct served_push : webhook_answer {
    std::string run{};
  };

  served_push serve(const http_request& r) {
    const auto event = r.headers.find("x-github-event");
    auto args = read_webhook(
        {r.path.substr(std::min<std::size_t>(1, r.path.size())),
         event == r.headers.end() ? "push" : event->second, r.header("x-github-delivery"),
         r.header("x-hub-signature-256"), r.header("content-type"), r.body,
         r.headers.contains("origin") || r.headers.contains("sec-fetch-site")},
        secret_);
    if (!args) return {std::move(args.error())};
    served_push out;
    caf::scoped_actor self{system_};
    self->request(dispatcher_, options_.answer_max, rpc::call{0, "push", std::move(*args), r.from})
        .receive([&](const rpc::served& s) { out.run = s.value.value("run", ""); },
                 [&](const caf::error& e) { out = {refused_webhook(supervision::from_caf(e))}; });
    return out;
  }

  caf::actor_system& system_;
  webhook_options options_;
  std::string secret_;
  caf::actor dispatcher_;
  http_port http_;
};

}  // namespace

result<caf::actor> spawn_webhook(caf::actor_system& system, const webhook_options& options,
                                 const caf::actor& dispatcher) {
  std::string secret;
  if (!options.secret_file.empty()) {
    auto text = read_secret(options.secret_file);
    if (!text) return fail(text.error());
    secret = text->substr(0, text->find_last_not_of(" \r\n") + 1);
    if (secret.empty())
      return fail(ec::bad_config, options.secret_file + " is empty: write the webhook's secret in");
  } else if (options.listen.host != "127.0.0.1" && options.listen.host != "::1") {
    return fail(ec::bad_config, "webhook " + options.listen.text() +
                                    " can be reached from outside: give --webhook-secret-file, or "
                                    "listen on 127.0.0.1 behind a proxy");
  }
  auto http = std::make_shared<webhook_server>(system, options, std::move(secret), dispatcher);
  const auto port = http->listen();
  if (port == 0)
    return fail(ec::unreachable, "webhook: cannot listen on " + options.listen.text() +
                                     "; another program may, see `ss -ltnp`");
  log::info("webhook.listening", {{"address", options.listen.host}, {"port", port}});
  // Detached: ending the server waits for its threads.
  return system.spawn<caf::detached>(
      [http, port](caf::event_based_actor* self) mutable -> caf::behavior {
        supervision::guard(self, "webhook");
        self->attach_functor([http = std::exchange(http, nullptr)]() mutable { http.reset(); });
        return {[port](rpc::port_atom) { return port; }};
      });
}

}  // namespace ntrace::dashboard
