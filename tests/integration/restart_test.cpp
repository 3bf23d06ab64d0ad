// Actors that throw in the middle of real work: the run is retried from `clean` and finishes.
#include <gtest/gtest.h>
#include <caf/actor_system.hpp>
#include <caf/scoped_actor.hpp>

#include "actors/runner/solo_actor.hpp"
#include "actors/zone/zone_linux.hpp"
#include "config/ids.hpp"
#include "supervision/caf_config.hpp"
#include "supervision/caf_types.hpp"
#include "supervision/supervisor_actor.hpp"
#include "tests/support/program.hpp"

using namespace ntrace;
using namespace ntrace::supervision;
using namespace std::chrono_literals;
using test::ok;

namespace {

/// A real zone that throws when the script is run for the first time.
class flaky_zone final : public zone::zone {
public:
  flaky_zone(std::shared_ptr<ntrace::zone::privileged_helper> helper, std::string uuid,
             std::shared_ptr<std::atomic<int>> failures)
      : real_{std::move(helper), std::move(uuid)}, failures_{std::move(failures)} {}
  const std::string& uuid() const override { return real_.uuid(); }
  result<ntrace::zone::clean_receipt> boot(const ntrace::zone::boot_spec& spec) override {
    return real_.boot(spec);
  }
  result<ntrace::zone::exec_end> exec(const ntrace::zone::exec_spec& spec,
                                      const ntrace::zone::output_limits& limits,
                                      const ntrace::zone::output_sink& sink,
                                      const cancellation* stop, int in) override {
    if (spec.argv.front() == "npm" && failures_->fetch_sub(1) > 0)
      throw std::runtime_error("the zone's actor throws as told");
    return real_.exec(spec, limits, sink, stop, in);
  }
  result<void> unpack(const std::string& folder, int fd, milliseconds deadline,
                      const cancellation* stop) override {
    return real_.unpack(folder, fd, deadline, stop);
  }
  result<ntrace::zone::collected> collect(const std::string& folder,
                                          const std::string& prefix) override {
    return real_.collect(folder, prefix);
  }
  unique_fd take_listener() override { return real_.take_listener(); }
  std::string cgroup_path() const override { return real_.cgroup_path(); }
  int init_pid() const override { return real_.init_pid(); }
  result<void> end() override { return real_.end(); }
  result<ntrace::zone::zone_facts> facts() override { return real_.facts(); }
  result<void> snapshot(const std::string& name) override { return real_.snapshot(name); }
  result<std::vector<std::string>> rollback(const std::string& name) override {
    return real_.rollback(name);
  }
  result<void> delete_snapshot(const std::string& name) override {
    return real_.delete_snapshot(name);
  }
  result<void> destroy() override { return real_.destroy(); }

private:
  ntrace::zone::zone_linux real_;
  std::shared_ptr<std::atomic<int>> failures_;
};

}  // namespace

TEST(restart, finishes_a_run_whose_zone_actor_threw) {
  NTRACE_NEEDS_ZONES();
  const test::scratch dir;
  const auto package = test::make_package(dir, "spin", 300);
  std::filesystem::create_directories(dir / "scratch");
  auto helper = ok(zone::privileged_helper::start({dir / "data", "", ::geteuid() != 0}));
  random_source random{random_seed()};
  const auto uuid = make_uuid(random);
  ok(helper->call({{"op", "create"}, {"uuid", uuid}}));
  auto failures = std::make_shared<std::atomic<int>>(2);
  runner::solo_end end;
  std::string why;
  {
    caf_config config;
    caf::actor_system system{config};
    std::vector<caf::actor> fronts;
    facade_options options;
    options.resend = false;
    const auto front = [&] { return fronts.emplace_back(spawn_facade(system, options)); };
    runner::solo_spec spec;
    spec.options.scratch = spec.options.source.scratch = dir / "scratch";
    spec.source = package;
    spec.worker = uuid;
    spec.backoff = {1ms, 2ms};
    spec.zone = front();
    spec.attempt_sup = front();
    spec.self = front();
    spec.on_chunk = [](std::uint64_t, domain::stream, const std::string&) {};
    const auto root = spawn_supervisor(
        system, "root", {strategy::one_for_one, 20, 60s},
        {{{"zone", restart_type::permanent, {}, child_kind::worker},
          [=](caf::local_actor* by) -> result<caf::actor> {
            return zone::spawn_zone(by->system(),
                                    std::make_shared<flaky_zone>(helper, uuid, failures));
          },
          spec.zone},
         {{"attempt_sup", restart_type::permanent, shutdown_policy::infinity(),
           child_kind::supervisor},
          supervisor_start("attempt_sup", {strategy::simple_one_for_one, 3, 60s}, {},
                           runner::attempt_template()),
          spec.attempt_sup},
         {{"solo", restart_type::temporary, {}, child_kind::worker},
          [spec](caf::local_actor* by) { return runner::spawn_solo(by->system(), spec); },
          spec.self}});
    caf::scoped_actor self{system};
    self->request(spec.self, 60s, runner::run_atom::value)
        .receive([&](const runner::solo_end& e) { end = e; },
                 [&](const caf::error& e) { why = to_string(from_caf(e)); });
    self->request(root, 5s, tree_atom::value)
        .receive(
            [](const std::string& text) {
              const auto tree = nlohmann::json::parse(text);
              EXPECT_EQ(tree["children"][0]["restarts"], 2) << text;
              EXPECT_NE(
                  tree["children"][0]["last_reason"].get<std::string>().find("throws as told"),
                  std::string::npos);
            },
            [](const caf::error& e) { ADD_FAILURE() << to_string(from_caf(e)); });
    self->send_exit(root, caf::exit_reason::user_shutdown);
    self->wait_for(root);
    for (const auto& f : fronts) end_facade(f);
  }
  EXPECT_EQ(end.last.how, domain::verdict::passed) << why << end.last.reason;
  EXPECT_EQ(end.attempts, 3u);
  helper.reset();
  EXPECT_EQ(test::leftovers(dir / "data"), "");
}
