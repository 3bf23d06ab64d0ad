// The real dispatcher and a runner whose every word the test chooses.
#include "tests/support/program_parts.hpp"
#include "tests/support/wire.hpp"

using namespace ntrace;
using namespace ntrace::test;

namespace {

/// Keeps the first attempt that it is given for as long as it lives, and gives all others back.
class flaky_runner {
public:
  explicit flaky_runner(const std::string& to) : line_{to} {
    line_.ask("hello",
              json::array({{{"version", 1}, {"name", "flaky"}, {"workers", 20}, {"free", 20}}}),
              next_++);
  }
  /// Works until it was offered so many.
  void work(int offers) {
    while (offered_ < offers) {
      const auto said = line_.reply();
      ASSERT_TRUE(said.is_array()) << "the dispatcher went away or fell silent";
      if (said[0] == "offer") {
        ++offered_;
        accepting_[next_] = said[1][0]["token"];
        line_.ask("accept", json::array({{{"token", said[1][0]["token"]}}}), next_++);
      } else if (const auto at = accepting_.extract(said[1].get<int>())) {
        take(at.mapped());
      }
    }
  }

private:
  void take(std::uint64_t token) {
    if (kept_ == 0) {
      kept_ = token;
      line_.ask("started", json::array({{{"token", token}, {"zone", "z"}}}), next_++);
    } else {
      line_.ask("finish",
                json::array({{{"token", token},
                              {"verdict", "infrastructure"},
                              {"reason", "as the test wants"},
                              {"last_seq", 0}}}),
                next_++);
    }
    line_.ask("heartbeat",
              json::array({{{"attempts", {{{"token", kept_}}}}, {"workers", 20}, {"free", 19}}}),
              next_++);
  }

  wire line_;
  std::map<int, std::uint64_t> accepting_;  ///< Our call → token.
  std::uint64_t kept_ = 0;
  int next_ = 1, offered_ = 0;
};

}  // namespace

TEST(dispatcher_program, has_no_more_timers_the_longer_it_is_busy) {
  const scratch dir;
  server uut{dir, {"dispatcher"}, {"--lease-ms", "500", "--attempts", "100"}};
  for (int n = 0; n < 10; ++n)
    ok(uut.call("push", json::array({"o", "r", sha, {{"source", "dir:/tmp"}}})));
  flaky_runner runner{uut.dispatcher};
  const auto ticks = [&] {
    return ok(uut.call("status", json::array()))["gauges"].value("queue_ticks", 0);
  };
  runner.work(200);
  const int first = ticks();
  runner.work(400);
  const int second = ticks() - first;
  EXPECT_GT(first, 0);
  EXPECT_LT(second, 3 * first) << "after " << first << " in the first half";
}
