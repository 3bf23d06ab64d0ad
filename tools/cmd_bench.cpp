// bench: benchmarks, each with its peer in the same run where the peer is installed.
#include <iostream>

#include "config/random.hpp"
#include "tests/bench/bench.hpp"
#include "tools/command.hpp"

namespace ntrace::tools {

namespace {

void add_push_bench(cli::app bench, outcome& out) {
  const auto sub = bench.add_subcommand(
      "push", "Durable pushes, beside beanstalkd, RabbitMQ and PostgreSQL where installed");
  auto as_json = std::make_shared<bool>(false);
  auto seconds = std::make_shared<double>(3);
  auto dir = std::make_shared<std::string>("/var/tmp");
  auto is_alone = std::make_shared<bool>(false);
  sub.add_flag("--alone", *is_alone, "without the peers");
  sub.add_flag("--json", *as_json, "print JSON");
  sub.add_option("--seconds", *seconds, "how long each is measured")
      .type_name("SECONDS")
      .check(cli::range(0.1, 600.0))
      .capture_default_str();
  sub.add_option("--dir", *dir, "a folder on the disk to measure")
      .type_name("DIR")
      .capture_default_str();
  sub.callback([&out, as_json, seconds, dir, is_alone] {
    out.run = [as_json, seconds, dir, is_alone] {
      const auto figures =
          bench::push(*dir, milliseconds{static_cast<std::int64_t>(*seconds * 1000)}, !*is_alone);
      if (!figures) return report(figures.error(), *as_json);
      std::cout << (*as_json ? figures->dump() + "\n" : bench::push_table(*figures));
      return 0;
    };
  });
}

void add_tunnel_bench(cli::app bench, outcome& out) {
  const auto sub =
      bench.add_subcommand("tunnel", "Our tunnel beside autossh with ssh, under faults");
  auto as_json = std::make_shared<bool>(false);
  auto rounds = std::make_shared<unsigned>(20);
  auto seed = std::make_shared<std::uint64_t>(random_seed());
  auto dir = std::make_shared<std::string>("/var/tmp");
  sub.add_flag("--json", *as_json, "print JSON, with every sample");
  sub.add_option("--rounds", *rounds, "how often each fault is caused")
      .check(cli::range(1u, 1000u))
      .capture_default_str();
  sub.add_option("--seed", *seed, "of the faults' lengths");
  sub.add_option("--dir", *dir, "where its files go").type_name("DIR").capture_default_str();
  sub.callback([&out, as_json, rounds, seed, dir] {
    out.run = [as_json, rounds, seed, dir] {
      const auto figures = bench::tunnel(*dir, *rounds, *seed);
      if (!figures) return report(figures.error(), *as_json);
      std::cout << (*as_json ? figures->dump() + "\n" : bench::tunnel_table(*figures));
      return 0;
    };
  });
}

void add_zone_bench(cli::app bench, outcome& out) {
  const auto sub = bench.add_subcommand("zone",
                                        "Rollback, boot and first program of a zone, beside runc, "
                                        "crun and bubblewrap where installed");
  struct args {
    bool as_json = false;
    unsigned rounds = 100, rollbacks = 1000, zones = 50;
    std::string dir = "/var/tmp";
  };
  auto a = std::make_shared<args>();
  sub.add_flag("--json", a->as_json, "print JSON, with every sample");
  sub.add_option("--rounds", a->rounds, "measured uses of each side")
      .check(cli::range(1u, 100'000u))
      .capture_default_str();
  sub.add_option("--rollbacks", a->rollbacks, "rollbacks of one zone in a row")
      .check(cli::range(2u, 1'000'000u))
      .capture_default_str();
  sub.add_option("--zones", a->zones, "zones that are up at once")
      .check(cli::range(1u, 1000u))
      .capture_default_str();
  sub.add_option("--dir", a->dir, "a folder on the disk to measure")
      .type_name("DIR")
      .capture_default_str();
  sub.callback([&out, a] {
    out.run = [a] {
      const auto figures = bench::zone(a->dir, a->rounds, a->rollbacks, a->zones);
      if (!figures) return report(figures.error(), a->as_json);
      std::cout << (a->as_json ? figures->dump() + "\n" : bench::zone_table(*figures));
      return 0;
    };
  });
}

}  // namespace

void add_bench(cli::app app, outcome& out) {
  const auto bench = app.add_subcommand("bench", "Benchmarks beside their peers; prints ratios");
  bench.require_subcommand(1);
  add_push_bench(bench, out);
  add_tunnel_bench(bench, out);
  add_zone_bench(bench, out);
  const auto sub = bench.add_subcommand(
      "supervision", "Restart of a failed child, beside Erlang (package erlang-base)");
  auto as_json = std::make_shared<bool>(false);
  auto restarts = std::make_shared<unsigned>(5'000);
  sub.add_flag("--json", *as_json, "print JSON");
  sub.add_option("--restarts", *restarts, "measured restarts for each number of children")
      .check(cli::range(100u, 1'000'000u))
      .capture_default_str();
  sub.callback([&out, as_json, restarts] {
    out.run = [as_json, restarts] {
      const auto figures = bench::supervision(*restarts);
      if (!figures) return report(figures.error(), *as_json);
      std::cout << (*as_json ? figures->dump() + "\n" : bench::supervision_table(*figures));
      return 0;
    };
  });
}

}  // namespace ntrace::tools
