#pragma once
// The line protocol by hand.
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <nlohmann/json.hpp>
#include <string>

#include "net/socket.hpp"
#include "tests/support/ok.hpp"

namespace ntrace::test {

using namespace std::chrono_literals;
using nlohmann::json;

/// A connection that sends lines and reads replies, as a consumer's does.
class wire {
public:
  explicit wire(const std::string& to) : fd_{ok(net::connect_tcp(ok(parse_host_port(to)), 5s))} {}
  void ask(const std::string& name, const json& args, int id) {
    ASSERT_TRUE(net::send_all(fd_.get(), json::array({name, args, id}).dump() + "\n", 5s));
  }
  void half_close() { ::shutdown(fd_.get(), SHUT_WR); }
  /// The next reply: [[err, result…], id]; null when none comes in time or the peer closed.
  json reply(milliseconds wait = 10s) {
    for (;;) {
      if (const auto end = text_.find('\n'); end != std::string::npos) {
        const auto line = text_.substr(0, end);
        text_.erase(0, end + 1);
        return json::parse(line);
      }
      char block[65536];
      if (!net::wait_ready(fd_.get(), false, wait)) return {};
      const auto n = ::recv(fd_.get(), block, sizeof block, 0);
      if (n <= 0) return {};
      text_.append(block, static_cast<std::size_t>(n));
    }
  }

private:
  unique_fd fd_;
  std::string text_;
};

}  // namespace ntrace::test
