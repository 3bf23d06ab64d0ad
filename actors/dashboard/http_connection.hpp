#pragma once
// One connection of the webhook's port: it reads one request, has it worked on, writes the answer
// and closes. All of it on the port's thread.
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <memory>
#include <string>

#include "actors/dashboard/http_port.hpp"

namespace ntrace::dashboard {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using tcp = asio::ip::tcp;

/// A body in a string that grows with what was received: Beast's own one takes memory for the
/// whole length that the peer only announces.
struct received_body {
  using value_type = std::string;
  class reader {
  public:
    template <bool IsRequest, class Fields>
    reader(http::header<IsRequest, Fields>&, value_type& body) : body_{body} {}
    void init(const boost::optional<std::uint64_t>&, boost::system::error_code& e) { e = {}; }
    template <class Buffers>
    std::size_t put(const Buffers& buffers, boost::system::error_code& e) {
      e = {};
      const auto before = body_.size();
      for (const auto one : boost::beast::buffers_range_ref(buffers))
        body_.append(static_cast<const char*>(one.data()), one.size());
      return body_.size() - before;
    }
    void finish(boost::system::error_code& e) { e = {}; }

  private:
    value_type& body_;
  };
};

class http_connection : public std::enable_shared_from_this<http_connection> {
public:
  /// The port, as its connections see it.
  class owner {
  public:
    virtual ~owner() = default;
    /// So many more (or fewer) bytes are held. False when the port holds too many.
    virtual bool on_bytes(std::ptrdiff_t more) = 0;
    /// Is answered by answer().
    virtual void on_request(std::uint64_t id, http_request request) = 0;
    virtual void on_end(std::uint64_t id) = 0;
    /// No peer's close is waited for any more.
    virtual bool is_ending() const = 0;
  };

  http_connection(tcp::socket socket, std::uint64_t id, const http_limits& limits, owner& to);
  void start();
  void answer(const http_response& response);
  /// Closes it as it is.
  void drop();

  bool is_reading() const { return state_ == state::reading; }
  bool is_worked_on() const { return state_ == state::worked_on; }
  /// The answer is written, and only the peer's own close is waited for.
  bool is_answered() const { return state_ == state::answered; }
  std::size_t bytes() const { return bytes_; }

private:
  enum class state { reading, worked_on, answering, answered, closed };
  void read();
  void on_read(boost::system::error_code e);
  void on_wrong(boost::system::error_code e);
  void say_continue();
  void have_it_worked_on();
  void hold(std::size_t bytes);
  void read_to_the_end();
  template <class Act>
  void at_deadline(milliseconds after, Act act);

  tcp::socket socket_;
  std::uint64_t id_;
  const http_limits& limits_;
  owner& owner_;
  asio::steady_timer deadline_;
  boost::beast::flat_buffer buffer_;
  http::request_parser<received_body> parser_;
  std::string out_;
  std::size_t bytes_ = 0, dropped_bytes_ = 0;
  bool has_continued_ = false;
  state state_ = state::reading;
};

}  // namespace ntrace::dashboard
