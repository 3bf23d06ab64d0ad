// Settings, ids, logs, backoff.
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <set>

#include "config/backoff.hpp"
#include "config/file.hpp"
#include "config/ids.hpp"
#include "config/json_parse.hpp"
#include "config/log.hpp"
#include "config/settings.hpp"
#include "config/subprocess.hpp"
#include "config/tls_files.hpp"
#include "config/wake_timer.hpp"
#include "tests/support/ok.hpp"
#include "tests/support/scratch.hpp"
#include "tests/support/seeded.hpp"

using namespace ntrace;
using namespace std::chrono_literals;
using test::code_of;

namespace {
const auto no_env = [](const std::string&) -> std::optional<std::string> { return {}; };
}

TEST(error, has_a_word_and_an_exit_code_for_every_code) {
  for (int i = 0; i <= static_cast<int>(ec::last); ++i) {
    const auto code = static_cast<ec>(i);
    EXPECT_EQ(ec_from_string(to_string(code)), code);
    EXPECT_EQ(exit_code(code) == 0, code == ec::none) << to_string(code);
  }
  EXPECT_EQ(ec_from_string("no such word"), ec::none);
}

TEST(settings, prefer_the_flag_to_the_environment_to_the_file_to_the_default) {
  const test::scratch dir;
  const auto file = dir.file("ntrace.toml", "workers = 2\nattempts = 3\nlease_ms = 4000\n");
  const auto env = [](const std::string& name) -> std::optional<std::string> {
    if (name == "NTRACE_ATTEMPTS") return "4";
    if (name == "NTRACE_LEASE_MS") return "5000";
    return {};
  };

  const auto uut = test::ok(settings::load(file, env, {{"lease_ms", "6000"}}));

  EXPECT_EQ(uut.number("workers"), 2);
  EXPECT_EQ(uut.value("workers").origin, "file " + file + ":1");
  EXPECT_EQ(uut.number("attempts"), 4);
  EXPECT_EQ(uut.value("attempts").origin, "env NTRACE_ATTEMPTS");
  EXPECT_EQ(uut.duration("lease_ms"), 6000ms);
  EXPECT_EQ(uut.value("lease_ms").origin, "flag --lease-ms");
  EXPECT_EQ(uut.value("offer_ms").origin, "default");
}

TEST(settings, name_key_origin_and_remedy_when_a_value_is_wrong) {
  const auto wrong = [](const char* key, const char* value) {
    return settings::load("", no_env, {{key, value}});
  };
  for (const auto& [key, value] : {std::pair{"workers", "many"},
                                   {"workers", "-1"},
                                   {"workers", "257"},
                                   {"workers", ""},
                                   {"zone_memory_bytes", "1GB"},
                                   {"zone_memory_bytes", "1"},
                                   {"zone_allow_degraded", "yes"},
                                   {"no_such_key", "1"}}) {
    const auto loaded = wrong(key, value);
    ASSERT_FALSE(loaded) << key << "=" << value;
    EXPECT_EQ(loaded.error().code, ec::bad_config);
    EXPECT_NE(loaded.error().message.find(key), std::string::npos);
  }
  const test::scratch dir;
  EXPECT_EQ(code_of(settings::load(dir.file("a.toml", "colour = 1\n"), no_env, {})),
            ec::bad_config);
  EXPECT_EQ(code_of(settings::load(dir.file("b.toml", "workers = [\n"), no_env, {})),
            ec::bad_config);
  EXPECT_EQ(code_of(settings::load(dir / "absent.toml", no_env, {})), ec::bad_config);
}

TEST(settings, refuse_what_is_no_configuration_without_waiting_for_it) {
  const test::scratch dir;
  ASSERT_EQ(::mkfifo((dir / "pipe").c_str(), 0600), 0);
  for (const auto& path : {dir / "pipe", dir.path(), std::string{"/dev/zero"}}) {
    const auto got = settings::load(path, no_env, {});
    ASSERT_EQ(code_of(got), ec::bad_config) << path;
    EXPECT_NE(got.error().message.find(path), std::string::npos) << got.error().message;
  }
  EXPECT_TRUE(settings::load("/dev/null", no_env, {}));
  EXPECT_EQ(code_of(settings::load(dir.file("long.toml", std::string(2u << 20, '#')), no_env, {})),
            ec::bad_config);
  std::string dots = "a";
  for (int i = 0; i < 4097; ++i) dots += ".a";
  const auto deep = settings::load(dir.file("deep.toml", dots + " = 1\n"), no_env, {});
  EXPECT_NE(deep.error().message.find("dots"), std::string::npos) << deep.error().message;
}

TEST(json_parse, refuses_nesting_that_its_readers_would_not_bear) {
  const auto nested = [](int depth) {
    return std::string(static_cast<std::size_t>(depth), '[') +
           std::string(static_cast<std::size_t>(depth), ']');
  };
  EXPECT_TRUE(parse_or_discard(nested(64)).is_array());
  EXPECT_TRUE(parse_or_discard(nested(65)).is_discarded());
  EXPECT_TRUE(parse_or_discard("[\"[[[\\\"[[[\"]").is_array()) << "brackets in a text";
  EXPECT_EQ(json_depth("\"[\\"), 0) << "a text without an end";
  EXPECT_TRUE(parse_or_discard("").is_discarded());
}

TEST(tls_files, are_refused_by_name_when_they_cannot_serve) {
  const test::scratch dir;
  const auto make = [&](const std::string& name) {
    subprocess_spec spec;
    spec.argv = {"openssl",
                 "req",
                 "-x509",
                 "-newkey",
                 "ec",
                 "-pkeyopt",
                 "ec_paramgen_curve:P-256",
                 "-nodes",
                 "-keyout",
                 dir / (name + ".key"),
                 "-out",
                 dir / (name + ".pem"),
                 "-days",
                 "2",
                 "-subj",
                 "/CN=" + name};
    ASSERT_TRUE(test::ok(run_subprocess(spec)).ok());
    ::chmod((dir / (name + ".key")).c_str(), 0600);
  };
  make("a");
  make("b");
  test::ok(check_certificate(dir / "a.pem", dir / "a.key"));
  test::ok(read_authorities(dir / "a.pem"));
  const auto other = check_certificate(dir / "a.pem", dir / "b.key");
  EXPECT_NE(other.error().message.find("does not belong"), std::string::npos);
  EXPECT_EQ(code_of(check_certificate(dir / "a.key", dir / "a.key")), ec::bad_config);
  EXPECT_EQ(code_of(check_certificate(dir / "a.pem", dir / "absent")), ec::bad_config);
  ASSERT_EQ(::mkfifo((dir / "pipe").c_str(), 0600), 0);
  EXPECT_EQ(code_of(read_authorities(dir / "pipe")), ec::bad_config);
  EXPECT_EQ(code_of(read_authorities(dir.path())), ec::bad_config);
  EXPECT_EQ(code_of(check_certificate(dir / "a.pem", dir / "pipe")), ec::bad_config);
  const auto text = test::ok(read_file(dir / "a.pem"));
  for (const auto& damaged :
       {std::string{}, std::string{"\0\0", 2}, text.substr(0, text.size() / 2),
        text + "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"})
    EXPECT_EQ(code_of(read_authorities(dir.file("damaged.pem", damaged))), ec::bad_config);
  subprocess_spec encrypt;
  encrypt.argv = {"openssl",  "pkey",        "-in",  dir / "a.key",     "-aes256",
                  "-passout", "pass:secret", "-out", dir / "locked.key"};
  ASSERT_TRUE(test::ok(run_subprocess(encrypt)).ok());
  ::chmod((dir / "locked.key").c_str(), 0600);
  const auto locked = check_certificate(dir / "a.pem", dir / "locked.key");
  EXPECT_NE(locked.error().message.find("passphrase"), std::string::npos) << "and does not ask";
}

TEST(settings, read_a_list_from_toml_and_from_a_flag) {
  const test::scratch dir;
  const auto file = dir.file("n.toml", "network_allow = [\"a.example\", \"*.b.example:8443\"]\n");
  EXPECT_EQ(test::ok(settings::load(file, no_env, {})).list("network_allow"),
            (std::vector<std::string>{"a.example", "*.b.example:8443"}));
  EXPECT_EQ(
      test::ok(settings::load("", no_env, {{"network_allow", " x , y,"}})).list("network_allow"),
      (std::vector<std::string>{"x", "y"}));
}

TEST(settings, have_one_row_for_each_key_in_the_order_of_the_table) {
  const auto uut = test::ok(settings::load("", no_env, {{"workers", "7"}}));
  std::set<std::string_view> keys;
  for (std::size_t i = 0; i < setting_table.size(); ++i) {
    EXPECT_TRUE(keys.insert(setting_table[i].key).second) << setting_table[i].key;
    EXPECT_EQ(uut.all()[i].text == "7", setting_table[i].key == "workers");
  }
  EXPECT_EQ(uut.value("workers").origin, "flag --workers");
  EXPECT_EQ(uut.text("dispatcher"), dispatcher_address);
}

TEST(parse_bytes, knows_binary_units_and_refuses_the_rest) {
  EXPECT_EQ(parse_bytes("0"), 0);
  EXPECT_EQ(parse_bytes("64KiB"), 65536);
  EXPECT_EQ(parse_bytes("1GiB"), 1 << 30);
  for (const char* bad : {"", "KiB", "1KB", "1 KiB", "-1", "9999999999GiB", "1.5MiB"})
    EXPECT_FALSE(parse_bytes(bad)) << bad;
}

TEST(parse_host_port, takes_ports_alone_and_bracketed_addresses) {
  EXPECT_EQ(test::ok(parse_host_port("9181")).text(), "127.0.0.1:9181");
  EXPECT_EQ(test::ok(parse_host_port("[::1]:80")).host, "::1");
  for (const char* bad : {"", ":", "a:", ":1", "a:b", "a:65536", "a:-1"})
    EXPECT_FALSE(parse_host_port(bad)) << bad;
}

TEST(ids, sort_by_time_and_are_recognised) {
  test::seeded s;
  ulid_source rising;
  std::string last;
  for (int i = 0; i < 10'000; ++i) {
    // Within one millisecond, and now and then with a clock that steps back.
    auto next = rising.next(5'000 + i / 1000 - (i % 700 == 699 ? 100 : 0), s.random);
    ASSERT_TRUE(is_ulid(next)) << next;
    ASSERT_GT(next, last);
    ASSERT_GE(next, first_ulid(5'000));
    last = std::move(next);
  }
  const auto early = make_ulid(1'000, s.random);
  const auto late = make_ulid(2'000, s.random);
  EXPECT_LT(early, late);
  EXPECT_TRUE(is_ulid(early));
  EXPECT_FALSE(is_ulid(early.substr(1)));
  EXPECT_FALSE(is_ulid("8" + early.substr(1)));
  EXPECT_FALSE(is_ulid("01J9ZQ../../etc/passwd000000"));
  const auto uuid = make_uuid(s.random);
  EXPECT_TRUE(is_uuid(uuid));
  EXPECT_EQ(uuid[14], '4');
  EXPECT_FALSE(is_uuid(uuid + "0"));
  EXPECT_FALSE(is_uuid("../" + uuid.substr(3)));
}

TEST(backoff_wait, grows_to_its_cap_and_never_beyond) {
  test::seeded s;
  const backoff_policy policy{100ms, 1000ms};
  for (unsigned retry = 0; retry < 200; ++retry) {
    const auto wait = backoff_wait(policy, retry, s.random);
    EXPECT_GE(wait, 0ms);
    EXPECT_LE(wait, std::min(1000ms, 100ms * (1 << std::min(retry, 10u))));
  }
  EXPECT_EQ(backoff_wait({0ms, 0ms}, 5, s.random), 0ms);
}

TEST(log_format, quotes_escapes_and_cuts_what_peers_send) {
  EXPECT_EQ(log::format("lease.expired", {{"run", "01J"}, {"token", 7}}),
            "lease.expired run=01J token=7");
  EXPECT_EQ(log::format("a.b", {{"x", "two words"}}), "a.b x=\"two words\"");
  EXPECT_EQ(log::format("a.b", {{"x", "q\"\n\x1b["}}), "a.b x=\"q\\\"\\x0a\\x1b[\"");
  EXPECT_EQ(log::format("a.b", {{"x", ""}}), "a.b x=\"\"");
  EXPECT_LT(log::format("a.b", {{"x", std::string(10'000, 'y')}}).size(), 300u);
}

TEST(run_subprocess, gives_output_and_status) {
  subprocess_spec spec;
  spec.argv = {"sh", "-c", "echo out; echo err >&2; exit 3"};
  const auto done = test::ok(run_subprocess(spec));
  EXPECT_EQ(done.out, "out\n");
  EXPECT_EQ(done.err, "err\n");
  EXPECT_EQ(done.exit_code, 3);
}

TEST(run_subprocess, ends_at_its_deadline_with_all_that_it_started) {
  subprocess_spec spec;
  spec.argv = {"sh", "-c", "sleep 1000 & echo $!; sleep 1000"};
  spec.deadline = 200ms;
  const auto done = test::ok(run_subprocess(spec));
  EXPECT_TRUE(done.timed_out);
  const auto child = std::stoi(done.out);
  EXPECT_NE(::access(("/proc/" + std::to_string(child) + "/exe").c_str(), F_OK), 0)
      << "the background child lives";
}

TEST(run_subprocess, says_so_when_the_program_is_missing) {
  subprocess_spec spec;
  spec.argv = {"no-such-program-here"};
  EXPECT_EQ(code_of(run_subprocess(spec)), ec::io);
}

TEST(write_file_durably, replaces_whole_and_leaves_no_temporary_file) {
  const test::scratch dir;
  test::ok(write_file_durably(dir / "f", "one"));
  test::ok(write_file_durably(dir / "f", "two"));
  EXPECT_EQ(test::ok(read_file(dir / "f")), "two");
  EXPECT_NE(::access((dir / "f.new").c_str(), F_OK), 0);
  EXPECT_EQ(code_of(write_file_durably(dir / "no/such/f", "x")), ec::io);
}

TEST(read_secret, takes_a_file_that_others_cannot_read) {
  const test::scratch dir;
  EXPECT_EQ(test::ok(read_secret(dir.secret("one", "Jefe"))), "Jefe");
  std::filesystem::permissions(dir / "one", std::filesystem::perms{0640});
  EXPECT_EQ(test::ok(read_secret(dir / "one")), "Jefe") << "a group of its own is usual";
}

TEST(read_secret, refuses_what_is_not_safe_and_names_the_mend) {
  const test::scratch dir;
  const auto why = [&](const std::string& path, unsigned forbidden = 027) {
    const auto read = read_secret(path, 4, forbidden);
    return read ? "read: " + *read : to_string(read.error());
  };
  dir.secret("one", "Jefe");
  for (const auto mode : {0644, 0660, 0604}) {
    std::filesystem::permissions(dir / "one", std::filesystem::perms(mode));
    EXPECT_NE(why(dir / "one").find("chmod 640 " + (dir / "one")), std::string::npos) << mode;
  }
  std::filesystem::permissions(dir / "one", std::filesystem::perms{0640});
  EXPECT_NE(why(dir / "one", 077).find("chmod 600 " + (dir / "one")), std::string::npos);
  if (::geteuid() == 0) {
    ASSERT_EQ(::chown((dir / "one").c_str(), 65'534, 0), 0);
    EXPECT_NE(why(dir / "one").find("chown 0 " + (dir / "one")), std::string::npos);
  }
  ASSERT_EQ(::mkfifo((dir / "pipe").c_str(), 0600), 0);
  EXPECT_NE(why(dir / "pipe").find("regular file"), std::string::npos);
  EXPECT_EQ(code_of(read_secret(dir.secret("long", "12345"), 4)), ec::io);
  EXPECT_EQ(code_of(read_secret(dir / "none")), ec::io);
}

TEST(wake_timer, needs_a_timer_only_for_what_comes_before_what_is_set) {
  wake_timer uut;
  EXPECT_TRUE(uut.set(time_point{} + 5s));
  EXPECT_FALSE(uut.set(time_point{} + 5s));
  EXPECT_FALSE(uut.set(time_point{} + 6s));
  EXPECT_TRUE(uut.set(time_point{} + 2s));
}

TEST(wake_timer, rings_once_for_all_that_were_set) {
  wake_timer uut;
  uut.set(time_point{} + 5s);
  uut.set(time_point{} + 2s);
  EXPECT_TRUE(uut.ring(time_point{} + 2s));
  uut.set(time_point{} + 9s);
  EXPECT_FALSE(uut.ring(time_point{} + 5s)) << "the timer that the earlier one took the place of";
  EXPECT_TRUE(uut.ring(time_point{} + 9s - 500us)) << "timers round";
  EXPECT_TRUE(uut.set(time_point{} + 20s)) << "nothing is set any more";
}
