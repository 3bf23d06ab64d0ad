// What an operator does about the journal, with the program itself.
#include <gtest/gtest.h>

#include <fstream>

#include "tests/support/program_parts.hpp"

using namespace ntrace;
using namespace ntrace::test;
using namespace std::chrono_literals;

namespace {

/// A push without a worker, so that it waits.
std::string push(server& to, int n) {
  const json options{{"source", "dir:/tmp"}, {"key", "k" + std::to_string(n)}};
  return ok(to.call("push", json::array({"o", "r", sha, options})))["run"];
}

}  // namespace

TEST(journal, is_checked_and_copied_while_the_dispatcher_works) {
  const scratch dir;
  server uut{dir, {"dispatcher"}};
  for (int n = 0; n < 20; ++n) push(uut, n);
  const auto checked = run_ntrace({"journal", "check", "--data", dir / "data"});
  EXPECT_EQ(checked.exit_code, 0) << checked.out << checked.err;
  EXPECT_NE(checked.out.find("is whole"), std::string::npos);
  const auto copied =
      run_ntrace({"journal", "backup", dir / "copy", "--data", dir / "data", "--json"});
  EXPECT_EQ(copied.exit_code, 0) << copied.out << copied.err;
  const auto again = run_ntrace({"journal", "check", dir / "copy", "--json"});
  EXPECT_TRUE(json::parse(again.out)["whole"]) << again.out;
  EXPECT_EQ(run_ntrace({"journal", "backup", dir / "copy", "--data", dir / "data"}).exit_code, 4)
      << "it overwrites nothing";
}

TEST(journal, is_refused_when_damaged_and_goes_on_once_it_was_salvaged) {
  const scratch dir;
  const auto file = dir / "data/journal.sqlite";
  std::vector<std::string> runs;
  {
    server uut{dir, {"dispatcher"}};
    for (int n = 0; n < 200; ++n) runs.push_back(push(uut, n));
    EXPECT_EQ(uut.stop(), 0);
  }
  // Every sixth page but the first: some of them belong to what recovery reads.
  {
    std::fstream out{file, std::ios::in | std::ios::out | std::ios::binary};
    const auto pages = std::filesystem::file_size(file) / 4096;
    for (std::uint64_t page = 1; page < pages; page += 6) {
      out.seekp(static_cast<std::streamoff>(page * 4096));
      out << std::string(4096, '\x5a');
    }
  }
  const auto refused =
      run_ntrace({"dispatcher", "--data", dir / "data", "--dispatcher", "127.0.0.1:0"});
  EXPECT_EQ(refused.exit_code, 2) << refused.err;
  EXPECT_NE(refused.err.find("ntrace journal salvage " + file), std::string::npos) << refused.err;
  EXPECT_EQ(run_ntrace({"journal", "check", file}).exit_code, 5);
  const auto saved = run_ntrace({"journal", "salvage", file, dir / "new", "--json"});
  ASSERT_EQ(saved.exit_code, 0) << saved.out << saved.err;
  const auto told = json::parse(saved.out);
  EXPECT_GT(told["unreadable"], 0);
  EXPECT_EQ(told["runs"].get<std::size_t>() + told["lost_runs"].size(), runs.size());
  for (const auto* side : {"", "-wal", "-shm"}) std::filesystem::remove(file + side);
  std::filesystem::rename(dir / "new", file);
  server uut{dir, {"dispatcher"}};
  const auto status = ok(uut.call("status", json::array()));
  EXPECT_EQ(status["open"], told["runs"]);
}
