// The parts of the zone engine that need no rights.
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <map>
#include <optional>
#include <set>

#include "actors/zone/linux/cgroup.hpp"
#include "actors/zone/linux/cpu_list.hpp"
#include "actors/zone/linux/id_block.hpp"
#include "actors/zone/linux/init_wire.hpp"
#include "actors/zone/linux/oci_bundle.hpp"
#include "actors/zone/linux/syscall_filter.hpp"
#include "actors/zone/linux/syscall_policy.hpp"
#include "actors/zone/linux/zone_store.hpp"
#include "actors/zone/zone_fence.hpp"
#include "config/ids.hpp"
#include "tests/support/ok.hpp"
#include "tests/support/scratch.hpp"
#include "tests/support/seeded.hpp"

using namespace ntrace;
using namespace ntrace::zone;
using test::code_of;

namespace {
const std::string id = "00000000-0000-4000-8000-000000000001";
}

TEST(init_wire, carries_a_record_and_back) {
  init_record r{init_op::exec, 7, -1, 1000, 2048, "/job", {"node", "", "a b"}, {"A=1"}};
  const auto back = decode(encode(r));
  ASSERT_TRUE(back);
  EXPECT_EQ(back->argv, r.argv);
  EXPECT_EQ(back->env, r.env);
  EXPECT_EQ(back->cwd, r.cwd);
  EXPECT_EQ(back->uid, 1000u);
  EXPECT_EQ(back->file_mib_max, 2048u);
}

TEST(init_wire, refuses_every_cut_and_every_surplus) {
  const auto packet = encode({init_op::exec, 7, 0, 0, 0, "/", {"x"}, {"A=1"}});
  for (std::size_t n = 0; n < packet.size(); ++n) EXPECT_FALSE(decode(packet.substr(0, n))) << n;
  EXPECT_FALSE(decode(packet + "x"));
  EXPECT_FALSE(decode(std::string(init_packet_bytes_max + 1, 'x')));
  EXPECT_TRUE(
      encode({init_op::exec, 1, 0, 0, 0, std::string(init_packet_bytes_max, 'x'), {}, {}}).empty());
}

TEST(init_wire, survives_random_packets) {
  test::seeded s;
  const auto good = encode({init_op::exec, 7, 0, 0, 0, "/", {"x", "y"}, {"A=1"}});
  for (int i = 0; i < 20'000; ++i) {
    auto packet = good;
    for (std::uint64_t n = 0; n < 1 + s.random.below(4); ++n)
      packet[s.random.below(packet.size())] = static_cast<char>(s.random.below(256));
    [[maybe_unused]] const auto got = decode(packet);
  }
}

TEST(cgroup_layout, reads_hybrid_pure_and_absent_hierarchies) {
  const auto hybrid = parse_cgroup_layout(
      "30 25 0:26 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"
      "31 25 0:27 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
      "32 25 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n");
  EXPECT_EQ(hybrid.v2, "/sys/fs/cgroup/unified");
  EXPECT_EQ(hybrid.v1.at("memory"), "/sys/fs/cgroup/memory");
  EXPECT_EQ(hybrid.v1.at("cpu"), "/sys/fs/cgroup/cpu,cpuacct");
  EXPECT_EQ(hybrid.v1.count("pids"), 0u);
  EXPECT_EQ(
      parse_cgroup_layout("1 0 0:1 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw,nsdelegate\n")
          .v2,
      "/sys/fs/cgroup");
  EXPECT_EQ(parse_cgroup_layout("garbage\n\n - \n").v2, "");
}

TEST(cpu_list, is_written_and_read_as_the_kernel_does) {
  EXPECT_EQ(format_cpu_list({0, 1, 2, 3, 8, 10, 11}), "0-3,8,10-11");
  EXPECT_EQ(parse_cpu_list("0-3,8,10-11"), (std::vector{0, 1, 2, 3, 8, 10, 11}));
  for (const char* bad : {"", "x", "1-", "3-1", "1,", ",1", "1024", "-1", "1 2", "0-99999999999"})
    EXPECT_TRUE(parse_cpu_list(bad).empty()) << bad;
}

TEST(choose_cpus, gives_as_many_as_the_share_takes_and_those_with_the_fewest_zones) {
  const std::vector all{0, 1, 2, 3};
  EXPECT_EQ(choose_cpus(all, {{0, 2}, {1, 1}, {2, 1}}, 100, 0), std::vector{3});
  EXPECT_EQ(choose_cpus(all, {{0, 2}, {1, 1}, {3, 1}}, 150, 0), (std::vector{1, 2}));
  EXPECT_EQ(choose_cpus(all, {}, 1, 0), std::vector{0}) << "less than one CPU is one";
  EXPECT_EQ(choose_cpus(all, {}, 100, 6), std::vector{2}) << "the seed spreads runners";
  EXPECT_TRUE(choose_cpus(all, {}, 400, 0).empty()) << "all of them: nothing to choose";
  EXPECT_TRUE(choose_cpus({}, {}, 100, 0).empty());
}

TEST(cgroup_parents, stay_until_the_last_holder_goes) {
  const test::scratch dir;
  cgroup_layout layout;
  layout.v2 = dir.path();
  const auto is_there = [&] { return ::access((dir / "ntrace").c_str(), F_OK) == 0; };
  std::optional first{test::ok(cgroup_parents::hold(layout, false))};
  std::optional second{test::ok(cgroup_parents::hold(layout, false))};
  EXPECT_TRUE(is_there());
  first.reset();
  EXPECT_TRUE(is_there()) << "the second holds it";
  second.reset();
  EXPECT_FALSE(is_there());
}

TEST(cgroup_parents, are_an_error_and_no_endless_loop_where_they_cannot_be_opened) {
  const test::scratch dir;
  dir.file("ntrace", "no folder");
  cgroup_layout layout;
  layout.v2 = dir.path();
  EXPECT_EQ(test::code_of(cgroup_parents::hold(layout, false)), ec::io);
}

TEST(snapshot_name, follows_vmadm) {
  EXPECT_TRUE(is_snapshot_name("clean"));
  EXPECT_TRUE(is_snapshot_name("a_.:%-9"));
  EXPECT_TRUE(is_snapshot_name(std::string(64, 'a')));
  for (const auto& bad :
       {std::string{}, std::string(65, 'a'), std::string{"-a"}, std::string{"a/b"},
        std::string{"a@b"}, std::string{"a b"}, std::string{".."}})
    EXPECT_FALSE(is_snapshot_name(bad)) << bad;
}

TEST(zone_store, makes_a_zone_with_a_clean_snapshot_once) {
  const test::scratch dir;
  zone_store uut{dir.path(), id};
  EXPECT_EQ(code_of(uut.facts()), ec::no_such_zone);
  test::ok(uut.create(false, ""));
  EXPECT_EQ(code_of(uut.create(false, "")), ec::invalid_state);
  const auto facts = test::ok(uut.facts());
  EXPECT_EQ(facts.snapshots, std::vector<std::string>{"clean"});
  EXPECT_EQ(facts.generation, 0u);
  EXPECT_EQ(list_zones(dir.path()).size(), 1u);
}

TEST(zone_store, lists_snapshots_in_the_order_in_which_they_were_made_whatever_the_clock_said) {
  const test::scratch dir;
  zone_store uut{dir.path(), id};
  test::ok(uut.create(false, ""));
  const auto was_made_at = [&](const std::string& name, std::int64_t at) {
    const auto path = dir.path() + "/zones/" + id + "/snapshots/" + name + "/meta.json";
    auto meta = nlohmann::json::parse(test::ok(read_file(path, 1 << 20)));
    meta["created_ms"] = at;
    test::ok(write_file_durably(path, meta.dump()));
  };
  was_made_at("clean", 5000);
  test::ok(uut.snapshot("z"));
  was_made_at("z", 3000);
  test::ok(uut.snapshot("a"));
  was_made_at("a", 1000);
  EXPECT_EQ(test::ok(uut.facts()).snapshots, (std::vector<std::string>{"clean", "z", "a"}));
  EXPECT_EQ(test::ok(uut.rollback("z")), std::vector<std::string>{"a"});
}

TEST(zone_store, holds_nothing_of_the_hosts_accounts_or_secrets) {
  const test::scratch dir;
  zone_store uut{dir.path(), id};
  test::ok(uut.create(false, ""));
  const auto etc = uut.path() + "/snapshots/clean/layer/etc/";
  EXPECT_EQ(test::ok(read_file(etc + "passwd")).find("tester"), std::string::npos);
  for (const char* name :
       {"shadow", "gshadow", "ssh", "ssl/private", "sudoers", "machine-id", "environment"})
    EXPECT_NE(::access((etc + name).c_str(), F_OK), 0) << name;
}

TEST(zone_store, never_uses_a_generation_twice) {
  const test::scratch dir;
  zone_store uut{dir.path(), id};
  test::ok(uut.create(false, ""));
  std::uint64_t last = 0;
  for (int i = 0; i < 5; ++i) {
    const auto layer = test::ok(uut.open_generation(true));
    EXPECT_GT(layer.generation, last);
    EXPECT_TRUE(std::filesystem::is_empty(layer.upper));
    last = layer.generation;
    if (i % 2 == 0) test::ok(uut.end_generation(layer.generation, false));
  }
  zone_store reopened{dir.path(), id};
  EXPECT_EQ(test::ok(reopened.open_generation(true)).generation, last + 1);
}

TEST(zone_store, keeps_a_generation_until_the_rollback_and_seals_it_in_a_snapshot) {
  const test::scratch dir;
  zone_store uut{dir.path(), id};
  test::ok(uut.create(false, ""));
  auto layer = test::ok(uut.open_generation(false));
  std::ofstream{layer.upper + "/made"} << "x";
  test::ok(uut.end_generation(layer.generation, true));
  EXPECT_FALSE(test::ok(uut.open_generation(false)).is_new);
  test::ok(uut.snapshot("second"));
  EXPECT_EQ(code_of(uut.snapshot("second")), ec::invalid_state);
  const auto stacked = test::ok(uut.open_generation(true)).layers;
  EXPECT_EQ(stacked.size(), 2u);
  EXPECT_EQ(::access((stacked[0] + "/made").c_str(), F_OK), 0);
  EXPECT_EQ(code_of(uut.delete_snapshot("second")), ec::invalid_state);
  EXPECT_EQ(code_of(uut.rollback("absent")), ec::not_found);
  EXPECT_EQ(test::ok(uut.rollback("clean")), std::vector<std::string>{"second"});
  EXPECT_EQ(test::ok(uut.open_generation(true)).layers.size(), 1u);
}

TEST(zone_store, belongs_to_one_process_at_a_time) {
  const test::scratch dir;
  zone_store first{dir.path(), id}, second{dir.path(), id};
  test::ok(first.create(false, ""));
  test::ok(first.lock());
  const auto refused = second.lock();
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ec::zone_busy);
  EXPECT_NE(refused.error().message.find(std::to_string(::getpid())), std::string::npos);
}

TEST(zone_fence, lets_only_the_attempt_use_the_zone_that_it_was_booted_for) {
  zone_fence uut;
  EXPECT_EQ(code_of(uut.check_use(7)), ec::stale_lease) << "before it boots";
  ASSERT_TRUE(uut.check_boot(7));
  uut.on_boot(7);
  EXPECT_TRUE(uut.check_use(7));
  EXPECT_EQ(code_of(uut.check_use(6)), ec::stale_lease);
  EXPECT_EQ(code_of(uut.check_boot(6)), ec::stale_lease) << "a late boot of an older attempt";
  ASSERT_TRUE(uut.check_boot(8));
  uut.on_boot(8);
  EXPECT_EQ(code_of(uut.check_use(7)), ec::stale_lease);
  uut.on_end();
  EXPECT_EQ(code_of(uut.check_use(8)), ec::stale_lease) << "its zone is gone";
  EXPECT_TRUE(uut.check_boot(1)) << "another dispatcher counts from one";
}

TEST(zone_store, gives_each_zone_of_a_folder_ids_of_its_own) {
  if (::geteuid() != 0) GTEST_SKIP() << "an ordinary user has one id";
  test::scratch dir;
  test::seeded s;
  std::set<std::uint32_t> seen;
  // Enough that some would meet if only chance kept them apart.
  for (int i = 0; i < 300; ++i) {
    zone_store store{dir.path(), make_uuid(s.random)};
    test::ok(store.create(true, ""));
    EXPECT_TRUE(seen.insert(store.ids().root).second);
  }
}

TEST(zone_store, gives_ids_that_a_zone_of_another_folder_has_to_no_other) {
  if (::geteuid() != 0) GTEST_SKIP() << "an ordinary user has one id";
  test::seeded s;
  const auto uuid = make_uuid(s.random);  // Of both, so that both want the same block.
  const test::scratch one, other, third;
  zone_store first{one.path(), uuid}, second{other.path(), uuid};
  test::ok(first.create(true, ""));
  test::ok(second.create(true, ""));
  EXPECT_EQ(second.ids().root, first.ids().root) << "neither is in use";
  test::ok(first.lock());
  zone_store late{third.path(), uuid};
  test::ok(late.create(true, ""));
  EXPECT_NE(late.ids().root, first.ids().root);
  test::ok(late.lock());
  const auto refused = second.lock();
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ec::zone_busy);
  EXPECT_NE(refused.error().message.find("another data folder"), std::string::npos);
  { const auto ended = std::move(first); }
  test::ok(second.lock());
}

TEST(zone_store, is_nobodys_when_its_ids_cannot_be_read) {
  const test::scratch dir;
  zone_store uut{dir.path(), id};
  test::ok(uut.create(false, ""));
  test::ok(write_file_durably(uut.path() + "/zone.json", "{"));
  EXPECT_EQ(code_of(zone_store{dir.path(), id}.lock()), ec::zone_failed);
}

TEST(id_block, is_none_that_others_have_or_that_overlaps_with_theirs) {
  if (::geteuid() != 0) GTEST_SKIP() << "the blocks of a machine are root's";
  test::seeded s;
  const auto uuid = make_uuid(s.random);
  const auto free = [&](const std::vector<id_range>& others) {
    return test::ok(id_block::take_free(uuid, others)).root();
  };
  const auto first = free({});
  const auto next = free({{first, ids_per_zone}});
  EXPECT_NE(next, first);
  EXPECT_EQ(free({{first + 7, 1}}), next) << "one id of it is lent";
  EXPECT_EQ(free({{0, 1000}}), first);
  const auto held = test::ok(id_block::take_free(uuid, {}));
  EXPECT_EQ(free({}), next) << "while somebody has it";
}

TEST(id_block, knows_what_is_lent_to_users) {
  const auto uut = lent_ids(
      "alice:100000:65536\n\n# nobody\nbob:655360000:65536\nbroken:1\n:7:\nx:-1:5\n"
      "far:4294967296:1\n1000:231072:65536");
  ASSERT_EQ(uut.size(), 3u);
  EXPECT_EQ(uut[1].first, 655'360'000u);
  EXPECT_TRUE(uut[1].overlaps(655'360'000 + 65'535, 1));
  EXPECT_FALSE(uut[1].overlaps(655'360'000 + 65'536, 65'536));
  EXPECT_FALSE(uut[1].overlaps(655'360'000 - 65'536, 65'536));
  EXPECT_EQ(uut[2].first, 231'072u);
  EXPECT_TRUE(lent_ids("").empty());
}

TEST(syscall_policy, is_the_list_that_the_manual_has) {
  const auto manual = test::ok(read_file(std::string{NTRACE_TESTS} + "/../docs/zones.md"));
  for (const auto& one : denied_calls) {
    const std::string name{one.name};
    const auto words = [&](char before, char after) {
      return manual.find(before + name + after) != manual.npos;
    };
    EXPECT_TRUE(words(' ', ' ') || words(' ', '\n') || words(' ', '`') || words('`', ' ')) << name;
  }
}

TEST(syscall_filter, can_be_made_of_the_whole_list_and_fits_a_program) {
  const auto filter = test::ok(make_syscall_filter());
  EXPECT_EQ(filter.size() % 8, 0u) << "of struct sock_filter";
  EXPECT_LT(filter.size() / 8, 4096u) << "BPF_MAXINSNS";
}

// The OCI runtime's bundle.

TEST(oci_bundle, tells_the_runtime_what_our_own_engine_does) {
  boot_plan plan;
  plan.ids = {655360000, 655361000, false};
  plan.limits = {96u << 20, 64, 150};
  plan.tmp_bytes = 1u << 20;
  plan.with_network = true;
  const auto uut = oci_bundle(plan, "z.7", "/proc/7/fd/8");
  const auto& linux_part = uut["linux"];
  EXPECT_EQ(linux_part["cgroupsPath"], "/ntrace/z.7");
  EXPECT_EQ(linux_part["resources"]["memory"]["limit"], 96u << 20);
  EXPECT_EQ(linux_part["resources"]["pids"]["limit"], 64);
  EXPECT_EQ(linux_part["resources"]["cpu"]["quota"], 150'000);
  EXPECT_EQ(linux_part["uidMappings"][0]["hostID"], 655360000);
  EXPECT_EQ(linux_part["uidMappings"], linux_part["gidMappings"]);
  EXPECT_EQ(linux_part["namespaces"].size(), 7u);
  EXPECT_EQ(linux_part["namespaces"][0],
            nlohmann::json({{"type", "user"}, {"path", "/proc/7/fd/8"}}));
  EXPECT_EQ(uut["process"]["args"],
            nlohmann::json({"/proc/self/fd/4", "pids=64",
                            "sockets=" + std::to_string(sockets_of(96u << 20)), "network"}));
  EXPECT_EQ(uut["process"]["noNewPrivileges"], true);
  const std::map<std::string, int> rights{{"CAP_KILL", CAP_KILL},
                                          {"CAP_SETGID", CAP_SETGID},
                                          {"CAP_SETUID", CAP_SETUID},
                                          {"CAP_SETPCAP", CAP_SETPCAP}};
  std::uint64_t given = 0;
  for (const auto& name : uut["process"]["capabilities"]["bounding"])
    given |= 1ull << rights.at(name.get<std::string>());
  EXPECT_EQ(given, init_capabilities);
  std::multiset<std::string> expected, ruled;
  for (const auto& one : denied_calls)
    expected.insert(std::string{one.name} + std::to_string(one.answer));
  for (const auto& one : denied_uses())
    expected.insert(std::string{one.name} + std::to_string(one.answer));
  for (const auto& rule : linux_part["seccomp"]["syscalls"])
    ruled.insert(rule["names"][0].get<std::string>() + std::to_string(rule.value("errnoRet", 0)));
  EXPECT_EQ(ruled, expected);
}

TEST(oci_bundle, compares_the_masked_bits_of_an_argument) {
  const auto uut = oci_bundle({}, "z.1", "/proc/7/fd/8");
  // runtime-spec: value is the mask, valueTwo what the masked argument has to be.
  bool has_terminal_rule = false;
  for (const auto& rule : uut["linux"]["seccomp"]["syscalls"])
    if (rule["names"][0] == "ioctl" && rule["args"][0]["valueTwo"] == TIOCSTI)
      has_terminal_rule = rule["args"][0]["value"] == 0xffffffffu;
  EXPECT_TRUE(has_terminal_rule);
}
