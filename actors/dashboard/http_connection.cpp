#include "actors/dashboard/http_connection.hpp"

#include <fmt/core.h>
#include <algorithm>
#include <boost/asio/write.hpp>

#include "config/ascii.hpp"
#include "config/gauges.hpp"

namespace ntrace::dashboard {
namespace {

constexpr milliseconds answer_max{5000};  // from its first byte to the peer's close
constexpr std::uint32_t head_bytes_max = 64u << 10;
constexpr std::size_t read_bytes_max = 64u << 10;
constexpr std::size_t dropped_bytes_max = 16u << 20;  // behind a request that was refused

/// What a peer said must not end a line of the answer.
std::string as_header_value(std::string text) {
  std::replace_if(
      text.begin(), text.end(),
      [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }, ' ');
  return text;
}

std::string to_text(const http_response& r) {
  std::string out = fmt::format("HTTP/1.1 {} ", r.status);
  out.append(std::string_view{
      http::obsolete_reason(http::int_to_status(static_cast<unsigned>(r.status)))});
  out.append("\r\n");
  for (const auto& [name, value] : r.headers)
    out.append(name).append(": ").append(as_header_value(value)).append("\r\n");
  out.append("Content-Type: text/plain\r\nConnection: close\r\nContent-Length: ")
      .append(std::to_string(r.body.size()))
      .append("\r\n\r\n")
      .append(r.body);
  return out;
}

}  // namespace

http_connection::http_connection(tcp::socket socket, std::uint64_t id, const http_limits& limits,
                                 owner& to)
    : socket_{std::move(socket)},
      id_{id},
      limits_{limits},
      owner_{to},
      deadline_{socket_.get_executor()},
      buffer_{read_bytes_max} {
  parser_.header_limit(head_bytes_max);
  parser_.body_limit(limits_.body_bytes);
}

template <class Act>
void http_connection::at_deadline(milliseconds after, Act act) {
  deadline_.expires_after(after);
  deadline_.async_wait([self = shared_from_this(), act](boost::system::error_code e) {
    // A wait that was over when it was cancelled comes without an error.
    if (!e && self->deadline_.expiry() <= asio::steady_timer::clock_type::now()) act(*self);
  });
}

void http_connection::start() {
  at_deadline(limits_.request, [](http_connection& c) {
    if (c.state_ != state::reading) return;
    ++gauges::value("webhook_late");
    if (c.parser_.got_some()) return c.answer({400, "the request was not whole in time"});
    c.drop();
  });
  read();
}

void http_connection::read() {
  http::async_read_some(
      socket_, buffer_, parser_,
      [self = shared_from_this()](boost::system::error_code e, std::size_t) { self->on_read(e); });
}

void http_connection::hold(std::size_t bytes) {
  const auto more = static_cast<std::ptrdiff_t>(bytes) - static_cast<std::ptrdiff_t>(bytes_);
  bytes_ = bytes;
  const bool fits = owner_.on_bytes(more);
  if (!fits && state_ == state::worked_on) answer({503, "too much is being received; try again"});
}

void http_connection::on_read(boost::system::error_code e) {
  if (state_ != state::reading) return;
  if (e) return on_wrong(e);
  if (parser_.is_done()) return have_it_worked_on();
  hold(buffer_.capacity() + parser_.get().body().capacity());
  if (state_ != state::reading) return;  // It was the largest of all.
  if (parser_.is_header_done() && !std::exchange(has_continued_, true) &&
      boost::beast::iequals(parser_.get()[http::field::expect], "100-continue"))
    return say_continue();
  read();
}

void http_connection::say_continue() {
  out_ = "HTTP/1.1 100 Continue\r\n\r\n";
  asio::async_write(socket_, asio::buffer(out_),
                    [self = shared_from_this()](boost::system::error_code e, std::size_t) {
                      if (self->state_ == state::reading) e ? self->drop() : self->read();
                    });
}

void http_connection::on_wrong(boost::system::error_code e) {
  if (e == http::error::body_limit)
    return answer({413, fmt::format("a body may have {} bytes", limits_.body_bytes)});
  if (e == http::error::header_limit || e == http::error::buffer_overflow)
    return answer({431, "a head may have 64 KiB"});
  // The peer said nothing, or went away.
  const bool is_of_http = e.category() == make_error_code(http::error::bad_method).category();
  if (e == http::error::end_of_stream || !is_of_http) return drop();
  answer({400, "not a request: " + e.message()});
}

void http_connection::have_it_worked_on() {
  state_ = state::worked_on;
  deadline_.cancel();
  hold(buffer_.capacity() + parser_.get().body().capacity());
  if (state_ != state::worked_on) return;
  auto message = parser_.release();
  if (message.method() != http::verb::post)
    return answer({405, "POST is all that is served here", {{"Allow", "POST"}}});
  const std::string target{std::string_view{message.target()}};
  boost::system::error_code ignored;
  http_request request{target.substr(0, target.find('?')),
                       socket_.remote_endpoint(ignored).address().to_string()};
  for (const auto& field : message)
    request.headers.emplace(lowered(std::string{std::string_view{field.name_string()}}),
                            std::string{std::string_view{field.value()}});
  request.body = std::move(message.body());
  owner_.on_request(id_, std::move(request));
}

void http_connection::answer(const http_response& response) {
  if (state_ != state::reading && state_ != state::worked_on) return;
  static auto &requests = gauges::value("webhook_requests"),
              &refused = gauges::value("webhook_refused");
  ++requests;
  if (response.status >= 400) ++refused;
  state_ = state::answering;
  hold(0);
  boost::system::error_code ignored;
  socket_.cancel(ignored);  // A read that still waits.
  out_ = to_text(response);
  at_deadline(answer_max, [](http_connection& c) { c.drop(); });
  asio::async_write(socket_, asio::buffer(out_),
                    [self = shared_from_this()](boost::system::error_code e, std::size_t) {
                      if (self->state_ != state::answering) return;
                      if (e || self->owner_.is_ending()) return self->drop();
                      self->state_ = state::answered;
                      boost::system::error_code gone;
                      self->socket_.shutdown(tcp::socket::shutdown_send, gone);
                      self->read_to_the_end();
                    });
}

/// A close with bytes unread would take the answer back that is under way.
void http_connection::read_to_the_end() {
  buffer_.clear();
  socket_.async_read_some(buffer_.prepare(4096),
                          [self = shared_from_this()](boost::system::error_code e, std::size_t n) {
                            if (self->state_ != state::answered) return;
                            self->dropped_bytes_ += n;
                            const bool is_over = e || self->dropped_bytes_ > dropped_bytes_max;
                            is_over ? self->drop() : self->read_to_the_end();
                          });
}

void http_connection::drop() {
  if (std::exchange(state_, state::closed) == state::closed) return;
  hold(0);
  deadline_.cancel();
  boost::system::error_code ignored;
  socket_.close(ignored);
  owner_.on_end(id_);
}

}  // namespace ntrace::dashboard
