// docs/architecture.md draws the supervision tree: held against the one that runs.
#include <gtest/gtest.h>

#include "tests/support/program_parts.hpp"

using namespace ntrace;
using namespace ntrace::test;
using namespace std::chrono_literals;

namespace {

/// "depth name strategy" of each actor: of the drawing in docs/architecture.md (workers have no
/// strategy), and of the tree as it runs.
std::vector<std::string> drawn_tree() {
  std::vector<std::string> out;
  std::istringstream in{read_file(std::string{NTRACE_TESTS} + "/../docs/architecture.md").value()};
  for (std::string line; std::getline(in, line);) {
    const auto tee = line.find("├─ "), corner = line.find("└─ ");
    const auto mark = std::min(tee, corner);
    if (mark == std::string::npos || line.find("actors/") != std::string::npos) continue;
    std::size_t depth = 1;
    for (std::size_t i = 0; i < mark;) {  // "│  " and "   " are one level each.
      i += line.compare(i, 3, "│") == 0 ? 5 : 3;
      ++depth;
    }
    std::istringstream words{line.substr(mark + std::string{"├─ "}.size())};
    std::string name, what;
    words >> name >> what;
    out.push_back(std::to_string(depth) + " " + name +
                  (what.ends_with("for_one") || what.ends_with("for_all") ? " " + what : ""));
  }
  return out;
}

void running_tree(const json& tree, int depth, std::vector<std::string>& out) {
  if (tree["strategy"] == "simple_one_for_one") return;  // Its children come and go.
  for (const auto& c : tree["children"]) {
    out.push_back(std::to_string(depth) + " " + c["id"].get<std::string>() +
                  (c.contains("tree") ? " " + c["tree"]["strategy"].get<std::string>() : ""));
    if (c.contains("tree")) running_tree(c["tree"], depth + 1, out);
  }
}

}  // namespace

TEST(architecture, draws_the_supervision_tree_as_it_runs) {
  NTRACE_NEEDS_ZONES();
  const test::scratch dir;
  test::server uut{dir, {"up"}, {"--workers", "1"}};
  const auto tree = ok(uut.call("tree", json::array()));
  std::vector<std::string> running;
  running_tree(tree, 1, running);
  EXPECT_EQ(drawn_tree(), running);
  EXPECT_EQ(ok(uut.call("tree", json::array(), true))["strategy"], "one_for_one");
  const auto shown = test::run_ntrace({"tree", "--dispatcher", uut.dispatcher});
  EXPECT_NE(shown.out.find("zone_sup"), std::string::npos) << shown.out << shown.err;
  EXPECT_EQ(uut.stop(), 0);
}

/// A half-closed connection's descriptor is closed early, and its number soon another connection's.
