#include "actors/dashboard/http_port.hpp"

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>
#include <thread>

#include "actors/dashboard/http_connection.hpp"
#include "config/gauges.hpp"
#include "config/log.hpp"

namespace ntrace::dashboard {
namespace {

constexpr int backlog = 512;
constexpr std::size_t working_threads = 16;
constexpr milliseconds accept_pause{100};

}  // namespace

std::string http_request::header(const std::string& name) const {
  const auto at = headers.find(name);
  return at == headers.end() ? std::string{} : at->second;
}

/// The acceptor, the connections and their common bounds. All of it is on one thread, but for
/// work_on.
class http_port::engine final : public http_connection::owner {
public:
  engine(const http_limits& limits, handler post) : limits_{limits}, post_{std::move(post)} {}

  ~engine() override {
    if (!thread_.joinable()) return;
    asio::post(context_, [this] { end(); });
    workers_.join();
    asio::post(context_, [this] {
      drop_if([](const http_connection& c) { return c.is_worked_on(); });
      keeps_running_.reset();
    });
    thread_.join();  // Once the last answer is written.
  }

  std::uint16_t listen(const host_port& at) {
    boost::system::error_code e;
    tcp::resolver resolver{context_};
    const auto found =
        resolver.resolve(at.host, std::to_string(at.port), tcp::resolver::passive, e);
    if (e || found.empty()) return 0;
    const auto endpoint = found.begin()->endpoint();
    door_.open(endpoint.protocol(), e);
    if (!e) door_.set_option(tcp::acceptor::reuse_address{true}, e);
    if (!e) door_.bind(endpoint, e);
    if (!e) door_.listen(backlog, e);
    if (e) return 0;
    const auto port = door_.local_endpoint(e).port();
    accept();
    thread_ = std::thread{[this] { run(); }};
    return port;
  }

private:
  void run() {
    ::pthread_setname_np(::pthread_self(), "webhook");
    for (;;) try {
        context_.run();
        return;
      } catch (const std::exception& e) {
        // Of memory that ran out within one connection: the others go on.
        log::error("webhook.connection_failed", {{"reason", e.what()}});
      }
  }

  void accept() {
    door_.async_accept([this](boost::system::error_code e, tcp::socket socket) {
      if (is_ending_) return;
      if (e) return pause(e);
      take(std::move(socket));
      accept();
    });
  }

  /// Without descriptors or memory the peer waits in the backlog: asking at once would turn in a
  /// circle.
  void pause(boost::system::error_code why) {
    ++gauges::value("webhook_accept_failures");
    log::error("webhook.accept_failed", {{"reason", why.message()}});
    again_.expires_after(accept_pause);
    again_.async_wait([this](boost::system::error_code) {
      if (!is_ending_) accept();
    });
  }

  void take(tcp::socket socket) {
    if (connections_.size() >= limits_.connections_max) {
      ++gauges::value("webhook_dropped");
      const auto oldest = std::find_if(connections_.begin(), connections_.end(),
                                       [](const auto& c) { return c.second->is_reading(); });
      if (oldest == connections_.end()) return;
      oldest->second->drop();
    }
    const auto id = next_++;
    auto made = std::make_shared<http_connection>(std::move(socket), id, limits_, *this);
    connections_.emplace(id, made);
    ++gauges::value("webhook_connections");
    made->start();
  }

  // What a connection tells of itself.
  bool on_bytes(std::ptrdiff_t more) override {
    bytes_ += more;
    gauges::value("webhook_bytes") = bytes_;
    const auto most = static_cast<std::ptrdiff_t>(limits_.bytes_max);
    while (bytes_ > most) {
      std::shared_ptr<http_connection> largest;
      for (const auto& [id, c] : connections_)
        if (c->is_reading() && c->bytes() > (largest ? largest->bytes() : 0)) largest = c;
      if (!largest) return false;
      ++gauges::value("webhook_dropped");
      largest->drop();
    }
    return true;
  }
  void on_request(std::uint64_t id, http_request request) override {
    asio::post(workers_, [this, id, request = std::move(request)] { work_on(id, request); });
  }
  bool is_ending() const override { return is_ending_; }
  void on_end(std::uint64_t id) override {
    if (connections_.erase(id) != 0) --gauges::value("webhook_connections");
  }

  /// On a thread of workers_.
  void work_on(std::uint64_t id, const http_request& request) {
    if (is_ending_) return;
    http_response out;
    try {
      out = post_(request);
    } catch (const std::exception& e) {
      log::error("webhook.request_failed", {{"from", request.from}, {"reason", e.what()}});
      out = {500, "failed"};
    }
    asio::post(context_, [this, id, out = std::move(out)] {
      if (const auto at = connections_.find(id); at != connections_.end()) {
        const auto kept = at->second;
        kept->answer(out);
      }
    });
  }

  void end() {
    is_ending_ = true;
    boost::system::error_code ignored;
    door_.close(ignored);
    again_.cancel();
    drop_if([](const http_connection& c) { return c.is_reading() || c.is_answered(); });
  }

  template <class Predicate>
  void drop_if(Predicate wanted) {
    const auto all = connections_;
    for (const auto& [id, c] : all)
      if (wanted(*c)) c->drop();
  }

  http_limits limits_;
  handler post_;
  asio::io_context context_;
  asio::executor_work_guard<asio::io_context::executor_type> keeps_running_{
      context_.get_executor()};
  tcp::acceptor door_{context_};
  asio::steady_timer again_{context_};
  std::map<std::uint64_t, std::shared_ptr<http_connection>> connections_;  ///< Oldest first.
  std::uint64_t next_ = 0;
  std::ptrdiff_t bytes_ = 0;
  std::atomic<bool> is_ending_ = false;
  asio::thread_pool workers_{working_threads};
  std::thread thread_;
};

http_port::http_port(const http_limits& limits, handler post)
    : engine_{std::make_unique<engine>(limits, std::move(post))} {}

http_port::~http_port() = default;

std::uint16_t http_port::listen(const host_port& at) { return engine_->listen(at); }

}  // namespace ntrace::dashboard
