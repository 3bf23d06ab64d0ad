// The folding rules, case by case; ids are those of docs/profiling.md, "Conformance cases".
#include <gtest/gtest.h>

#include "actors/profiler/fold_perf.hpp"
#include "tests/support/ok.hpp"
#include "tests/support/seeded.hpp"

using namespace ntrace;
using namespace ntrace::profiler;
using test::code_of;

namespace {

const std::string H = "node 7 [000] 1.000001: 1001001 cpu-clock:\n";
std::string F(const std::string& frame) { return "\t" + frame + "\n"; }
const std::string P01 =
    H + F("a1 leaf+0x1 (/usr/bin/node)") + F("a0 main+0x9 (/usr/bin/node)") + "\n";

std::string folded(const std::string& text, const fold_options& options = {}) {
  return test::ok(fold_perf(text, options)).stacks.folded();
}
/// The one frame below the root.
std::string frame(const std::string& line, const fold_options& options = {}) {
  auto out = folded(H + F(line) + "\n", options);
  return out.substr(5, out.size() - 5 - 3);
}

}  // namespace

TEST(fold_perf, P01_puts_the_root_first) { EXPECT_EQ(folded(P01), "node;main;leaf 1\n"); }
TEST(fold_perf, P02_merges_equal_stacks) { EXPECT_EQ(folded(P01 + P01), "node;main;leaf 2\n"); }
TEST(fold_perf, P03_weighs_by_period) {
  fold_options o;
  o.count = fold_options::weight::period;
  EXPECT_EQ(folded(P01, o), "node;main;leaf 1001001\n");
}
TEST(fold_perf, P04_P05_reads_any_comm_from_the_right) {
  EXPECT_EQ(folded("V8 WorkerThread 7/9 [001] 1.5: cpu-clock:\n\n"), "V8_WorkerThread 1\n");
  EXPECT_EQ(folded("job 42 x 7 [000] 1.000001: 1 cpu-clock:\n\n"), "job_42_x 1\n");
  EXPECT_EQ(folded("a [0]: b 7 1.000001: cycles:u:\n\n"), "a_[0]:_b 1\n");
}
TEST(fold_perf, P06_puts_pid_and_tid_into_the_root) {
  fold_options o;
  o.with_tid = true;
  EXPECT_EQ(folded("node 7/9 [000] 1.1: cpu-clock:\n\n", o), "node-7/9 1\n");
  o.with_tid = false;
  o.with_pid = true;
  EXPECT_EQ(folded("node 7/9 [000] 1.1: cpu-clock:\nnode -1 [000] 1.1: cpu-clock:\n", o),
            "node-7 1\nnode-? 1\n");
}
TEST(fold_perf, P07_folds_the_first_event_and_counts_the_others) {
  const auto got =
      test::ok(fold_perf("a 1 1.1: cycles:\n\na 1 1.2: cycles:u:\n\na 1 1.3: cycles:\n\n", {}));
  EXPECT_EQ(got.stacks.folded(), "a 2\n");
  EXPECT_EQ(got.report.other_events.at("cycles:u"), 1u);
  fold_options all;
  all.event = "all";
  EXPECT_EQ(folded("a 1 1.1: cycles:\n\na 1 1.2: faults:\n\n", all), "a 2\n");
}
TEST(fold_perf, P08_P09_P10_names_frames_without_symbols_by_their_object) {
  EXPECT_EQ(frame("a1 [unknown] (/opt/lib/libz.so.1)"), "[libz.so.1]");
  EXPECT_EQ(frame("a1 [unknown] ([unknown])"), "[unknown]");
  EXPECT_EQ(frame("a1 [unknown] (/memfd:x (deleted))"), "[memfd:x]");
  EXPECT_EQ(frame("a1 f(int) (/memfd:x (deleted))"), "f");
}
TEST(fold_perf, P11_to_P15_drops_parameters_and_keeps_names) {
  EXPECT_EQ(frame("a1 f(int, g(*)(char)) const+0x1 (/x)"), "f");
  EXPECT_EQ(frame("a1 A::operator()(int) (/x)"), "A::operator()");
  EXPECT_EQ(frame("a1 (anonymous namespace)::f(int) (/x)"), "(anonymous namespace)::f");
  EXPECT_EQ(frame("a1 net/http.(*Client).Do (/x)"), "net/http.(*Client).Do");
  EXPECT_EQ(frame("a1 std::map<int, void (*)(int)>::at(int const&) (/x)"),
            "std::map<int, void (*)(int)>::at");
  EXPECT_EQ(frame("a1 operator<<(std::ostream&, int) (/x)"), "operator<<");
  EXPECT_EQ(frame("a1 f(int) [clone .isra.0] (/x)"), "f");
  EXPECT_EQ(frame("a1 myoperator(int) (/x)"), "myoperator");
}
TEST(fold_perf, P16_never_lets_a_semicolon_through) { EXPECT_EQ(frame("a1 a;b (/x)"), "a:b"); }
TEST(fold_perf, P17_joins_v8s_tiers) {
  std::string text;
  for (const char* tier : {"*", "~", "^", "+"})
    text += H + F("a1 JS:" + std::string{tier} + "fib /job/b.js:1:13 (/tmp/perf-7.map)") + "\n";
  fold_options o;
  o.js.job_folder = "/job";
  EXPECT_EQ(folded(text, o), "node;fib b.js:1:13_[j] 4\n");
  o.js.keep_tiers = true;
  const auto apart = folded(text, o);
  EXPECT_EQ(std::count(apart.begin(), apart.end(), '\n'), 4);
}
TEST(fold_perf, P18_P19_P20_P22_reads_names_of_perf_maps) {
  fold_options o;
  o.js.job_folder = "/job";
  EXPECT_EQ(frame("a1 JS:~ /job/a.js:1:1 (/tmp/perf-7.map)", o), "(anonymous) a.js:1:1_[j]");
  EXPECT_EQ(frame("a1 LazyCompile:*get lib/x.js:9 (/tmp/perf-7.map)"), "get lib/x.js:9_[j]");
  EXPECT_EQ(frame("a1 RegExp:a;b|(c) (d) (/tmp/perf-7.map)"), "RegExp:a:b|(c) (d)_[j]");
  EXPECT_EQ(frame("a1 operator-> (/usr/bin/node)"), "operator->");
  EXPECT_EQ(frame("a1 a->b (/tmp/perf-7.map)"), "a_[j];b_[i]");
  EXPECT_EQ(frame("a1 JS:*a->b /job/c.js:1:1 (/tmp/perf-7.map)", o), "a->b c.js:1:1_[j]");
  EXPECT_EQ(frame("a1 JS:*f file:///job/a%20b.js:2:3 (/tmp/perf-7.map)", o), "f a b.js:2:3_[j]");
  EXPECT_EQ(frame("a1 Builtin:ArrayMap (/tmp/perf-7.map)"), "v8:ArrayMap_[j]");
  EXPECT_EQ(frame("a1 Builtins_LoadIC (/usr/bin/node)"), "v8:LoadIC");
}
TEST(fold_perf, P21_marks_the_kernel_and_its_modules) {
  EXPECT_EQ(frame("a1 nf_hook ([nf_conntrack])"), "nf_hook_[k]");
  EXPECT_EQ(frame("a1 do_idle ([kernel.kallsyms])"), "do_idle_[k]");
  EXPECT_EQ(frame("a1 [unknown] ([kernel.kallsyms])"), "[kernel]_[k]");
  EXPECT_EQ(frame("a1 clock_gettime ([vdso])"), "clock_gettime");
  auto kernel = std::make_shared<kernel_symbols>();
  kernel->add(
      "00000000000000a0 T vfs_read\n00000000000000b0 d data\n00000000000000c0 t other\t[mod]\n");
  fold_options o;
  o.kernel = kernel;
  EXPECT_EQ(frame("b7 [unknown] ([kernel.kallsyms])", o), "vfs_read_[k]");
}
TEST(fold_perf, P23_marks_a_stack_that_lost_its_root) {
  std::string text = H;
  for (int i = 0; i < 127; ++i) text += F("a1 f (/x)");
  EXPECT_EQ(folded(text).substr(0, 20), "node;[truncated];f;f");
  EXPECT_EQ(folded(text.substr(0, text.size() - F("a1 f (/x)").size())).substr(0, 8), "node;f;f");
}
TEST(fold_perf, P24_P25_P33_closes_samples_without_blank_lines) {
  EXPECT_EQ(folded(H), "node 1\n");
  EXPECT_EQ(folded(P01.substr(0, P01.size() - 2)), "node;main;leaf 1\n");
  EXPECT_EQ(folded(H + F("a1 f (/x)") + H + F("a1 g (/x)")), "node;f 1\nnode;g 1\n");
}
TEST(fold_perf, P26_reads_crlf_bom_and_utf16) {
  std::string crlf, wide = "\xff\xfe";
  for (const char c : P01) {
    if (c == '\n') crlf += '\r';
    crlf += c;
    wide += c;
    wide += '\0';
  }
  EXPECT_EQ(folded(crlf), folded(P01));
  EXPECT_EQ(folded(test::ok(unpack_input("\xef\xbb\xbf" + P01))), folded(P01));
  EXPECT_EQ(folded(test::ok(unpack_input(wide))), folded(P01));
}
TEST(fold_perf, P27_ignores_comments_and_doubled_blank_lines) {
  EXPECT_EQ(folded("# ========\n# x\n\n\n" + P01 + "\n\n"), folded(P01));
}
TEST(fold_perf, P28_makes_dangerous_characters_visible) {
  EXPECT_EQ(frame("a1 x\xff\xfey (/x)"), "x\xef\xbf\xbd\xef\xbf\xbdy");
  EXPECT_EQ(frame("a1 x\x1b[31m (/x)"), "x\\x1b[31m");
  EXPECT_EQ(frame("a1 x\xe2\x80\xaey (/x)"), "x\\u{202e}y");
  EXPECT_EQ(frame("a1 x\xe2\x80y (/x)"), "x\xef\xbf\xbdy");
  EXPECT_LE(frame("a1 " + std::string(10'000, 'n') + " (/x)").size(), 4100u);
}
TEST(fold_perf, P29_P30_counts_junk_and_refuses_when_it_is_most) {
  EXPECT_EQ(code_of(fold_perf("junk\njunk\n" + H, {})), ec::not_perf_text);
  const auto got = test::ok(fold_perf(F("a1 early (/x)") + P01, {}));
  EXPECT_EQ(got.report.skipped_lines, 1u);
  EXPECT_NE(got.report.first_skipped.at(0).find("line 1"), std::string::npos);
}
TEST(fold_perf, P31_keeps_or_merges_recursion) {
  const auto text = H + F("a1 a (/x)") + F("a1 a (/x)") + F("a1 a (/x)");
  EXPECT_EQ(folded(text), "node;a;a;a 1\n");
  fold_options o;
  o.merge_recursion = true;
  EXPECT_EQ(folded(text, o), "node;a 1\n");
}
TEST(fold_perf, P34_keeps_a_lambdas_owner) {
  EXPECT_EQ(frame("a1 f(int)::{lambda(int)#1}::operator()(int) const (/x)"),
            "f::{lambda(int)#1}::operator()");
}
TEST(fold_perf, resolves_jit_addresses_by_the_maps_of_their_process) {
  fold_options o;
  o.maps[7].add("a0 10 JS:*f /job/a.js:1:2\n");
  o.js.job_folder = "/job";
  EXPECT_EQ(frame("a5 [unknown] (/tmp/perf-7.map)", o), "f a.js:1:2_[j]");
  EXPECT_EQ(frame("b0 [unknown] (//anon)", o), "[jit 7]_[j]");
  EXPECT_EQ(test::ok(fold_perf(H + F("b0 [unknown] (/tmp/perf-7.map)"), o)).report.unresolved_jit,
            1u);
}
TEST(fold_perf, feeds_in_pieces_of_any_size_to_the_same_result) {
  test::seeded s;
  const auto text = P01 + H + F("a1 g (/x)") + "\n" + P01;
  for (int round = 0; round < 100; ++round) {
    const fold_options o;
    perf_folder folder{o};
    perf_feed feed{folder};
    for (std::size_t at = 0; at < text.size();) {
      const auto n = 1 + s.random.below(40);
      test::ok(feed.on_bytes(std::string_view{text}.substr(at, n)));
      at += n;
    }
    test::ok(feed.finish());
    ASSERT_EQ(test::ok(folder.finish()).stacks.folded(), folded(text));
  }
}
TEST(fold_perf, survives_being_cut_at_every_byte) {
  const auto whole = P01 + H + F("a1 JS:*f /j:1:2 (/tmp/perf-7.map)") + "\n" + P01;
  for (std::size_t n = 0; n <= whole.size(); ++n) {
    const auto got = fold_perf(std::string_view{whole}.substr(0, n), {});
    ASSERT_TRUE(!got || got->stacks.total() <= 3u);
  }
}

TEST(perf_map, M01_lets_the_last_entry_win_and_counts_it_as_ambiguous) {
  perf_map uut;
  uut.add("a0 10 old\na0 10 new\n");
  EXPECT_EQ(uut.find(0xa5).name, "new");
  EXPECT_TRUE(uut.find(0xa5).is_ambiguous);
  perf_map same;
  same.add("a0 10 f\na0 10 f\n");
  EXPECT_FALSE(same.find(0xa5).is_ambiguous);
}
TEST(perf_map, M02_trims_an_older_entry_instead_of_dropping_it) {
  perf_map uut;
  uut.add("100 30 old\n110 10 new\n");
  EXPECT_EQ(uut.find(0x10f).name, "old");
  EXPECT_EQ(uut.find(0x110).name, "new");
  EXPECT_EQ(uut.find(0x11f).name, "new");
  EXPECT_EQ(uut.find(0x120).name, "old");
  EXPECT_EQ(uut.find(0x12f).name, "old");
  EXPECT_EQ(uut.find(0x130).name, "");
  EXPECT_EQ(uut.find(0xff).name, "");
}
TEST(perf_map, M03_skips_and_counts_bad_lines) {
  perf_map uut;
  uut.add(
      "zz 10 a\n10 0 b\n10 1000001 c\nffffffffffffffff 10 d\n10 10\n10\n\n20 8 good one\n30 8 cut");
  EXPECT_EQ(uut.entries(), 1u);
  EXPECT_EQ(uut.skipped_lines(), 8u);
  EXPECT_EQ(uut.find(0x20).name, "good one");
}
TEST(perf_map, agrees_with_a_plain_table_under_random_overlaps) {
  test::seeded s;
  perf_map uut;
  std::vector<std::string> table(400);
  for (int i = 0; i < 500; ++i) {
    const auto start = 1 + s.random.below(300), size = 1 + s.random.below(60);
    char line[64];
    std::snprintf(line, sizeof line, "%llx %llx n%d\n", static_cast<unsigned long long>(start),
                  static_cast<unsigned long long>(size), i);
    uut.add(line);
    for (auto a = start; a < start + size; ++a) table[a] = "n" + std::to_string(i);
    for (std::size_t a = 0; a < table.size(); ++a)
      ASSERT_EQ(uut.find(a).name, table[a]) << "address " << a;
  }
}

TEST(fold_dtrace, D01_to_D07_reads_stanzas) {
  const auto dt = [](const char* text, fold_options o = {}) {
    return test::ok(fold_dtrace(text, o)).stacks.folded();
  };
  const auto stanza = "  m`leaf+0x1\n  m`main+0x2\n    3\n";
  EXPECT_EQ(dt((std::string{"CPU     ID                    FUNCTION:NAME\n  0  1234                "
                            "       :tick-60s\n\n"} +
                stanza)
                   .c_str()),
            "m`main;m`leaf 3\n");
  EXPECT_EQ(dt(stanza), "m`main;m`leaf 3\n");
  EXPECT_EQ(dt((std::string{stanza} +
                "CPU     ID                    FUNCTION:NAME\n  0  1  :END\n" + stanza)
                   .c_str()),
            "m`main;m`leaf 6\n");
  EXPECT_EQ(dt("  unix`mutex_enter+0x1\n\n  libc`read+0x2\n  a`main\n  2\n"),
            "a`main;libc`read;unix`mutex_enter_[k] 2\n");
  EXPECT_EQ(dt("  << adaptor >>\n  (anon) as f at x.js position 12\n  1\n"),
            "f x.js@12_[j];<< adaptor >>_[j] 1\n");
  EXPECT_EQ(dt("  0x1\n  0x2\n  0x3\n  a`b\n  1\n"), "a`b;[unknown] 1\n");
  EXPECT_EQ(dt("  node 4242\n  a`b\n  1\n"), "node;a`b 1\n");
  fold_options pid;
  pid.with_pid = true;
  EXPECT_EQ(dt("  node 4242\n  a`b\n  1\n", pid), "node-4242;a`b 1\n");
}
TEST(fold_dtrace, D08_D09_D10_refuses_or_counts_the_rest) {
  EXPECT_EQ(code_of(fold_dtrace(
                "           value  ------------- Distribution ------------- count\n", {})),
            ec::unsupported);
  EXPECT_EQ(test::ok(fold_dtrace("  a`b\n", {})).report.skipped_lines, 1u);
  EXPECT_EQ(test::ok(fold_dtrace("  node`v8::F<a, b>::g(int)+0x1\n  1\n", {})).stacks.folded(),
            "node`v8::F<a, b>::g 1\n");
  EXPECT_EQ(code_of(fold_dtrace("  a`b\n  -1\n", {})), ec::bad_profile);
}

namespace {
const std::string cpuprofile = R"json({"nodes":[
 {"id":1,"callFrame":{"functionName":"(root)","url":"","lineNumber":-1,"columnNumber":-1},
  "children":[2,3]},
 {"id":2,"callFrame":{"functionName":"f","url":"/job/a.js","lineNumber":0,"columnNumber":4},
  "children":[4]},
 {"id":3,"callFrame":{"functionName":"(idle)","url":"","lineNumber":-1,"columnNumber":-1}},
 {"id":4,"callFrame":{"functionName":"","url":"","lineNumber":-1,"columnNumber":-1}}],
 "startTime":0,"endTime":100,"samples":[2,4,4,3],"timeDeltas":[10,20,30,-5]})json";
}
TEST(fold_cpuprofile, V01_V06_V07_counts_samples) {
  fold_options o;
  o.js.job_folder = "/job";
  EXPECT_EQ(test::ok(fold_cpuprofile(cpuprofile, o)).stacks.folded(),
            "f a.js:1:5_[j] 1\nf a.js:1:5_[j];(anonymous) 2\n");
  o.with_idle = true;
  EXPECT_EQ(test::ok(fold_cpuprofile(cpuprofile, o)).stacks.folded(),
            "[idle] 1\nf a.js:1:5_[j] 1\nf a.js:1:5_[j];(anonymous) 2\n");
}
TEST(fold_cpuprofile, V02_V03_weighs_by_time) {
  fold_options o;
  o.count = fold_options::weight::time;
  const auto got = test::ok(fold_cpuprofile(cpuprofile, o));
  EXPECT_EQ(got.stacks.folded(), "f /job/a.js:1:5_[j] 20\nf /job/a.js:1:5_[j];(anonymous) 30\n");
  EXPECT_EQ(got.report.negative_deltas, 1u);
}
TEST(fold_cpuprofile, V04_reads_the_nested_form) {
  const std::string nested = R"json({"head":{"functionName":"(root)","id":1,"children":[
    {"functionName":"f","url":"a.js","lineNumber":0,"columnNumber":0,"id":2,"hitCount":3,
     "children":[]}]}})json";
  EXPECT_EQ(test::ok(fold_cpuprofile(nested, {})).stacks.folded(), "f a.js:1:1_[j] 3\n");
}
TEST(fold_cpuprofile, V05_V08_tells_contradictions_apart_without_crashing) {
  const auto why = [](const std::string& nodes, const std::string& samples = "[1]") {
    const auto got = fold_cpuprofile("{\"nodes\":[" + nodes + "],\"samples\":" + samples + "}", {});
    return got ? std::string{} : got.error().message;
  };
  EXPECT_NE(why(R"json({"id":1,"children":[2]},{"id":2,"children":[1]})json").find("cycle"),
            std::string::npos);
  EXPECT_NE(why(R"json({"id":1,"children":[3]},{"id":2,"children":[3]},{"id":3})json")
                .find("two parents"),
            std::string::npos);
  EXPECT_NE(why(R"json({"id":1,"children":[9]})json").find("not there"), std::string::npos);
  EXPECT_NE(why(R"json({"id":1},{"id":1})json").find("duplicate"), std::string::npos);
  EXPECT_NE(why(R"json({"id":1})json", "[7]").find("not there"), std::string::npos);
  EXPECT_NE(why(R"json({"id":1})json", "[\"x\"]").find("sample"), std::string::npos);
  std::string chain;
  for (int i = 1; i < 100'000; ++i)
    chain += "{\"id\":" + std::to_string(i) + ",\"children\":[" + std::to_string(i + 1) + "]},";
  EXPECT_NE(why(chain + "{\"id\":100000}", "[100000]").find("deeper"), std::string::npos);
  for (const char* bad : {"", "[]", "{}", "{\"nodes\":7}", "{\"nodes\":[7]}", "{\"head\":7}"})
    EXPECT_EQ(code_of(fold_cpuprofile(bad, {})), ec::bad_profile) << bad;
}
TEST(fold_cpuprofile, V09_takes_prototype_names_for_names) {
  const std::string profile =
      R"json({"nodes":[{"id":1,"callFrame":{"functionName":"__proto__"}}],"samples":[1]})json";
  EXPECT_EQ(test::ok(fold_cpuprofile(profile, {})).stacks.folded(), "__proto__ 1\n");
}

TEST(fold_folded, C01_to_C04_reads_counts) {
  const auto f = [](const char* text) { return fold_folded(text, {}); };
  EXPECT_EQ(test::ok(f("a b;c d 12\n")).stacks.folded(), "a b;c d 12\n");
  EXPECT_EQ(test::ok(f("a 1.5\na 1.5\n")).stacks.folded(), "a 3\n");
  EXPECT_EQ(test::ok(f("nothing\na -1\n a;b\t2 \n# x\n\n")).report.skipped_lines, 2u);
  EXPECT_EQ(test::ok(f(" a;b\t2 \n")).stacks.folded(), "a;b 2\n");
  EXPECT_EQ(code_of(f("a 18446744073709551616\n")), ec::overflow);
  EXPECT_EQ(code_of(f("a 18446744073709551615\nb 1\n")), ec::overflow);
}
TEST(fold_folded, gives_back_the_bytes_it_was_made_of) {
  const auto text = folded(P01 + H + F("a1 g (/x)") + H);
  EXPECT_EQ(test::ok(fold_folded(text, {})).stacks.folded(), text);
}

TEST(detect_format, knows_each_format_and_says_what_it_tried) {
  EXPECT_EQ(test::ok(detect_format(P01)), stack_format::perf);
  EXPECT_EQ(test::ok(detect_format("# captured on x\n" + P01)), stack_format::perf);
  EXPECT_EQ(test::ok(detect_format("  m`a\n  3\n")), stack_format::dtrace);
  EXPECT_EQ(test::ok(detect_format(cpuprofile)), stack_format::cpuprofile);
  EXPECT_EQ(test::ok(detect_format("a;b 3\nc 4\n")), stack_format::folded);
  const auto none = detect_format("hello world\nwhat is this\n");
  ASSERT_FALSE(none);
  EXPECT_NE(none.error().message.find("cpuprofile"), std::string::npos);
}

TEST(unpack_input, Z01_bounds_what_compression_may_do) {
  EXPECT_EQ(code_of(unpack_input(std::string("\x1f\x8b\x08", 3))), ec::truncated);
  EXPECT_EQ(code_of(unpack_input("\x28\xb5\x2f\xfd garbage")), ec::truncated);
  EXPECT_EQ(test::ok(unpack_input("plain")), "plain");
}
