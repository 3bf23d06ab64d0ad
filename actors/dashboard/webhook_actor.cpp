#include "actors/dashboard/webhook_actor.hpp"

#include <httplib.h>
#include <caf/event_based_actor.hpp>
#include <caf/scoped_actor.hpp>

#include <semaphore>
#include <thread>

#include "actors/dashboard/webhook.hpp"
#include "actors/rpc/rpc_server_actor.hpp"
#include "actors/rpc/rpc_types.hpp"
#include "config/file.hpp"
#include "config/gauges.hpp"
#include "config/limits.hpp"
#include "config/log.hpp"
#include "supervision/caf_types.hpp"

namespace ntrace::dashboard {
namespace {

constexpr std::size_t threads = 4;
constexpr std::ptrdiff_t connections_max = 64;  // further ones wait in the kernel's backlog
constexpr int deadline_s = 5;

/// Takes no more than connections_max at a time: the accepting thread waits meanwhile.
class bounded_pool : public httplib::TaskQueue {
public:
  void enqueue(std::function<void()> work) override {
    static auto& taken = gauges::value("webhook_connections");
    free_.acquire();
    ++taken;
    pool_.enqueue([this, work = std::move(work)] {
      work();
      --taken;
      free_.release();
    });
  }
  void shutdown() override { pool_.shutdown(); }

private:
  std::counting_semaphore<connections_max> free_{connections_max};
  httplib::ThreadPool pool_{threads};
};

/// The HTTP server and its thread; ends both when it goes.
class webhook_server {
public:
  webhook_server(caf::actor_system& system, webhook_options options, std::string secret,
                 caf::actor dispatcher)
      : system_{system},
        options_{std::move(options)},
        secret_{std::move(secret)},
        dispatcher_{std::move(dispatcher)} {
    http_.new_task_queue = [] { return new bounded_pool; };  // httplib owns it
    http_.set_payload_max_length(limits::line_bytes_max);
    http_.set_read_timeout(deadline_s);
    http_.set_write_timeout(deadline_s);
    http_.set_keep_alive_timeout(deadline_s);
    http_.set_logger([](const httplib::Request&, const httplib::Response& out) {
      ++gauges::value("webhook_requests");
      if (out.status >= 400) ++gauges::value("webhook_refused");
    });
    http_.Post("/(.*)",
               [this](const httplib::Request& r, httplib::Response& out) { answer(r, out); });
  }
  webhook_server(const webhook_server&) = delete;
  webhook_server& operator=(const webhook_server&) = delete;
  ~webhook_server() {
    http_.stop();
    if (thread_.joinable()) thread_.join();
  }

  /// The port; 0 when the address cannot be bound.
  std::uint16_t listen() {
    const auto& at = options_.listen;
    const int port = at.port == 0                           ? http_.bind_to_any_port(at.host)
                     : http_.bind_to_port(at.host, at.port) ? at.port
                                                            : 0;
    if (port <= 0) return 0;
    thread_ = std::thread{[this] { http_.listen_after_bind(); }};
    return static_cast<std::uint16_t>(port);
  }

private:
  void answer(const httplib::Request& r, httplib::Response& out) {
    const auto said = serve(r);
    if (said.status != 200)
      log::warn("webhook.refused", {{"from", r.remote_addr},
                                    {"delivery", r.get_header_value("X-GitHub-Delivery")},
                                    {"status", said.status},
                                    {"reason", said.reason}});
    out.status = said.status;
    if (!said.reason.empty()) out.set_header("X-Ntrace-Error", said.reason);
    if (!said.run.empty()) out.set_header("X-Ntrace-Run", said.run);
    out.set_content(said.body, "text/plain");
  }

  struct served_push : webhook_answer {
    std::string run{};
  };

  served_push serve(const httplib::Request& r) {
    auto args = read_webhook(
        {r.matches[1],
         r.has_header("X-GitHub-Event") ? r.get_header_value("X-GitHub-Event") : "push",
         r.get_header_value("X-GitHub-Delivery"), r.get_header_value("X-Hub-Signature-256"),
         r.get_header_value("Content-Type"), r.body, r.get_param_value("payload")},
        secret_);
    if (!args) return {std::move(args.error())};
    served_push out;
    caf::scoped_actor self{system_};
    self->request(dispatcher_, options_.answer_max,
                  rpc::call{0, "push", std::move(*args), r.remote_addr})
        .receive([&](const rpc::served& s) { out.run = s.value.value("run", ""); },
                 [&](const caf::error& e) { out = {refused_webhook(supervision::from_caf(e))}; });
    return out;
  }

  caf::actor_system& system_;
  webhook_options options_;
  std::string secret_;
  caf::actor dispatcher_;
  httplib::Server http_;
  std::thread thread_;
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
