// What a git remote over HTTP is asked after git failed, and what its answers mean.
#include "actors/runner/git_remote.hpp"

#include "config/outage.hpp"
#include "tests/support/egress_world.hpp"

using namespace ntrace;
using namespace ntrace::runner;
using namespace ntrace::test;
using namespace std::chrono_literals;

namespace {

/// A web server that answers every request so.
class web_answer {
public:
  explicit web_answer(std::string answer)
      : answer_{std::move(answer)}, server_{[this](int fd) {
          read_some(fd, 4);
          send_all(fd, "HTTP/1.1 " + answer_ + "Content-Length: 0\r\nConnection: close\r\n\r\n",
                   5s);
          ::shutdown(fd, SHUT_WR);
          read_to_end(fd);
        }} {}
  std::string at() const { return "127.0.0.1:" + std::to_string(server_.port()); }

private:
  std::string answer_;
  upstream server_;
};

}  // namespace

TEST(git_remote, follows_a_redirect_without_tls_as_git_does) {
  const web_answer busy{"503 Service Unavailable\r\n"};
  const web_answer moved{"302 Found\r\nLocation: http://" + busy.at() + "/o/r/info/refs\r\n"};
  const auto asked = ask_git_remote("http://" + moved.at() + "/o/r", {}, nullptr);
  ASSERT_FALSE(asked);
  const auto met = outage_of(asked.error());
  ASSERT_TRUE(met) << to_string(asked.error());
  EXPECT_EQ(met->host, busy.at());
  EXPECT_EQ(met->cause, outage_cause::server_error);
}

TEST(git_remote, takes_a_request_that_is_refused_for_a_definite_answer) {
  for (const char* status : {"400 Bad Request\r\n", "405 Method Not Allowed\r\n"}) {
    const web_answer refusing{status};
    EXPECT_EQ(code_of(ask_git_remote("http://" + refusing.at() + "/o/r", {}, nullptr)),
              ec::bad_argument);
  }
}
