// The runner's actors as they are supervised, on a real zone, with a dispatcher played by the test:
// what becomes of an attempt when an actor beside it dies.
#include <gtest/gtest.h>
#include <caf/actor_system.hpp>
#include <caf/event_based_actor.hpp>
#include <caf/scoped_actor.hpp>
#include <caf/send.hpp>

#include <algorithm>
#include <map>
#include <mutex>

#include "actors/rpc/rpc_link_actor.hpp"
#include "actors/runner/outbox_actor.hpp"
#include "actors/runner/runner_actor.hpp"
#include "supervision/caf_config.hpp"
#include "supervision/caf_types.hpp"
#include "supervision/supervisor_actor.hpp"
#include "tests/support/eventually.hpp"
#include "tests/support/program.hpp"

using namespace ntrace;
using namespace ntrace::supervision;
using namespace std::chrono_literals;
using nlohmann::json;
using test::eventually;
using test::ok;

namespace {

/// What the runner has called, and yes to all of it.
class calls {
public:
  void add(const rpc::call& c) {
    const std::lock_guard lock{guard_};
    all_.emplace_back(c.method, c.args.at(0));
  }
  std::vector<json> of(const std::string& method) const {
    const std::lock_guard lock{guard_};
    std::vector<json> out;
    for (const auto& [name, args] : all_)
      if (name == method) out.push_back(args);
    return out;
  }
  std::ptrdiff_t words(std::uint64_t token, const std::string& stream) const {
    const auto said = of("append");
    return std::count_if(said.begin(), said.end(), [&](const json& c) {
      return c["token"] == token && c["stream"] == stream;
    });
  }
  /// The verdict of that token; null before.
  json verdict(std::uint64_t token) const {
    for (const auto& v : of("finish"))
      if (v["token"] == token) return v;
    return nullptr;
  }

private:
  mutable std::mutex guard_;
  std::vector<std::pair<std::string, json>> all_;
};

caf::behavior dispatcher(caf::event_based_actor*, const std::shared_ptr<calls>& heard) {
  return {[heard](const rpc::call& c) {
    heard->add(c);
    return rpc::served{json{{"lease_ms", 30'000},
                            {"ack", c.args.at(0).value("seq", std::uint64_t{0})},
                            {"stale", json::array()}}};
  }};
}

/// runner_sup of tools/wire.cpp, with the test at the other end of its link.
class world {
public:
  world(const test::scratch& dir, std::shared_ptr<zone::privileged_helper> helper)
      : system_{config()}, self_{system_} {
    runner::runner_parts parts;
    parts.name = "r";
    parts.data = dir / "data";
    parts.workers = 1;
    parts.helper = std::move(helper);
    parts.options.scratch = parts.options.source.scratch = dir / "scratch";
    parts.link = front();
    parts.outbox = front();
    parts.zone_sup = front();
    parts.attempt_sup = front();
    parts.self = runner = front();
    parts.root = front();
    const auto worker = [](const char* id) {
      child_spec out{id};
      out.backoff = {1ms, 10ms, 2, 0, 1000ms};
      return out;
    };
    const auto supervisor = [](const char* id) {
      return child_spec{id, restart_type::permanent, shutdown_policy::infinity(),
                        child_kind::supervisor};
    };
    const supervisor_flags dynamic{strategy::simple_one_for_one, 20, 60s};
    root_ = spawn_supervisor(
        system_, "runner_sup", {strategy::rest_for_one, 20, 60s},
        {{worker("outbox"),
          [parts](caf::local_actor* by) {
            return runner::spawn_outbox(by->system(), {parts.data + "/outbox.sqlite", {}},
                                        parts.link, parts.self);
          },
          parts.outbox},
         {supervisor("zone_sup"),
          supervisor_start("zone_sup", dynamic, {}, runner::zone_template()), parts.zone_sup},
         {worker("runner"),
          [parts](caf::local_actor* by) { return runner::spawn_runner(by->system(), parts); },
          parts.self},
         {supervisor("attempt_sup"),
          supervisor_start("attempt_sup", dynamic, {}, runner::attempt_template()),
          parts.attempt_sup}});
    point_facade(parts.root, root_);
    point_facade(parts.link, system_.spawn(dispatcher, heard));
    ready();
    link_up();
  }
  ~world() {
    self_->send_exit(root_, caf::exit_reason::user_shutdown);
    self_->wait_for(root_);
    for (const auto& f : fronts_) end_facade(f);
  }

  void ready() {
    self_->request(runner, 30s, runner::ready_atom::value).receive([] {}, failed());
    EXPECT_TRUE(eventually(30s, [&] { return has_free_worker(); }));
  }
  void link_up() { self_->send(runner, rpc::link_up{{1, 30s, 10s, 1}}); }
  void offer(std::uint64_t token, const std::string& source) {
    const json run{{"run", "R"}, {"attempt", token}, {"token", token}, {"source", source}};
    self_->request(runner, 30s, rpc::call{0, "offer", json::array({run})})
        .receive([](const rpc::served&) {}, failed());
  }
  void kill(const std::string& path) {
    self_->request(root_, 5s, act_atom::value, "kill", path)
        .receive([](const std::string&) {}, failed());
  }

  /// The child runs again after `times`: what is sent from here on reaches that incarnation.
  bool is_restarted(const std::string& child, std::uint64_t times = 1) {
    bool out = false;
    self_->request(root_, 5s, tree_atom::value)
        .receive(
            [&](const std::string& text) {
              const auto tree = json::parse(text);
              for (const auto& c : tree["children"])
                out |= c["id"] == child && c["incarnation"] > times && c["state"] == "running";
            },
            failed());
    return out;
  }

  /// It was proved clean.
  bool has_free_worker() {
    bool out = false;
    self_->request(runner, 30s, rpc::call{0, "workers", json::array()})
        .receive([&](const rpc::served& a) { out = a.value.at(0).value("state", "") == "free"; },
                 failed());
    return out;
  }

  caf::actor runner;
  std::shared_ptr<calls> heard = std::make_shared<calls>();

private:
  static caf::actor_system_config& config() {
    static caf_config out;
    return out;
  }
  std::function<void(const caf::error&)> failed() {
    return [](const caf::error& e) { ADD_FAILURE() << to_string(from_caf(e)); };
  }
  caf::actor front() { return fronts_.emplace_back(spawn_facade(system_)); }

  caf::actor_system system_;
  caf::scoped_actor self_;
  std::vector<caf::actor> fronts_;
  caf::actor root_;
};

}  // namespace

TEST(runner_restart, gives_a_verdict_of_infrastructure_and_works_on_when_its_actor_dies) {
  NTRACE_NEEDS_ZONES();
  const test::scratch dir;
  const auto slow = test::make_package(dir, "slow", 60'000);
  const auto quick = test::make_package(dir, "quick", 50);
  std::filesystem::create_directories(dir / "scratch");
  auto helper = ok(zone::privileged_helper::start({dir / "data", "", ::geteuid() != 0}));
  {
    world uut{dir, helper};
    uut.offer(1, slow);
    const auto words = [&] { return json(uut.heard->of("finish")).dump(); };
    ASSERT_TRUE(eventually(
        30s,
        [&] {
          for (const auto& chunk : uut.heard->of("append"))
            if (chunk.value("data", "").find("run started") != std::string::npos) return true;
          return false;
        },
        words));
    uut.kill("runner");
    ASSERT_TRUE(eventually(
        30s, [&] { return !uut.heard->verdict(1).is_null(); }, words));
    const auto lost = uut.heard->verdict(1);
    EXPECT_EQ(lost["verdict"], "infrastructure");
    EXPECT_EQ(lost["reason"], "the runner's actor was restarted");
    EXPECT_EQ(lost["last_seq"], uut.heard->of("append").size()) << "it keeps what was said before";
    ASSERT_TRUE(eventually(30s, [&] { return uut.is_restarted("attempt_sup"); }));
    uut.ready();
    uut.link_up();
    uut.offer(2, quick);
    ASSERT_TRUE(eventually(
        60s, [&] { return !uut.heard->verdict(2).is_null(); }, words));
    EXPECT_EQ(uut.heard->verdict(2)["verdict"], "passed") << uut.heard->verdict(2);
  }
  helper.reset();
  EXPECT_EQ(test::leftovers(dir / "data"), "");
}

TEST(runner_restart, keeps_the_numbers_of_an_attempts_words_when_its_outbox_dies) {
  NTRACE_NEEDS_ZONES();
  const test::scratch dir;
  // It always says something, so that words are under way when the outbox dies.
  const auto loud = test::make_package(dir, "loud", 0);
  dir.file("loud/spin.js",
           "const go = () => { console.log('still here'); setImmediate(go); };\ngo();\n");
  std::filesystem::create_directories(dir / "scratch");
  auto helper = ok(zone::privileged_helper::start({dir / "data", "", ::geteuid() != 0}));
  {
    world uut{dir, helper};
    // Often: which words the death meets is a matter of moments.
    for (std::uint64_t token = 1; token <= 5; ++token) {
      uut.offer(token, loud);
      ASSERT_TRUE(eventually(30s, [&] { return uut.heard->words(token, "stdout") > 20; }));
      uut.kill("outbox");
      ASSERT_TRUE(eventually(30s, [&] { return uut.is_restarted("attempt_sup", token); }));
      uut.ready();
      uut.link_up();
    }
    uut.offer(6, test::make_package(dir, "quick", 50));
    ASSERT_TRUE(eventually(60s, [&] { return !uut.heard->verdict(6).is_null(); }));
    EXPECT_EQ(uut.heard->verdict(6)["verdict"], "passed") << uut.heard->verdict(6);
    // What was not acknowledged is said again: under the same number, and the same words.
    std::map<std::uint64_t, std::vector<json>> said;
    for (const auto& chunk : uut.heard->of("append")) {
      auto& of_token = said[chunk["token"].get<std::uint64_t>()];
      const auto seq = chunk["seq"].get<std::size_t>();
      ASSERT_LE(seq, of_token.size() + 1) << "of token " << chunk["token"];
      if (seq > of_token.size())
        of_token.push_back(chunk);
      else
        ASSERT_EQ(chunk, of_token[seq - 1]);
    }
  }
  helper.reset();
  EXPECT_EQ(test::leftovers(dir / "data"), "");
}
