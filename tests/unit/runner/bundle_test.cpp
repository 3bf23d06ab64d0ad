// Sources: what people write, which paths are safe, what archives may hold.
#include <archive.h>
#include <archive_entry.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "actors/runner/bundle.hpp"
#include "actors/runner/source_spec.hpp"
#include "actors/zone/linux/bundle_format.hpp"
#include "config/limits.hpp"
#include "tests/support/ok.hpp"
#include "tests/support/scratch.hpp"

using namespace ntrace;
using namespace ntrace::runner;
using nlohmann::json;
using test::code_of;

TEST(parse_source_spec, takes_the_four_kinds_apart) {
  const auto describe = [](const char* text) {
    const auto s = test::ok(parse_source_spec(text));
    return s.location + " " + s.revision + " " + s.name;
  };
  EXPECT_EQ(describe("npm:nano@4.1.4"), "nano 4.1.4 nano");
  EXPECT_EQ(describe("npm:@scope/pkg@1.0.0-beta.1"), "@scope/pkg 1.0.0-beta.1 pkg");
  EXPECT_EQ(describe("git+https://x.example/o/r.git#v1.2"), "https://x.example/o/r.git v1.2 r");
  EXPECT_EQ(describe("git+/srv/m/r.git#main"), "/srv/m/r.git main r");
  EXPECT_EQ(describe("github:o/r@abc"), "o/r abc r");
  EXPECT_EQ(describe("../some/dir/"), "../some/dir/  dir");
  EXPECT_EQ(describe("./a:b"), "./a:b  b");
}

TEST(parse_source_spec, refuses_what_could_become_an_option_or_leave_its_place) {
  for (const char* bad :
       {"", "git+https://x", "git+--upload-pack=x#y", "git+ext::sh#x", "git+https://x#--help",
        "git+https://x#a..b", "git+https://x#", "npm:nano", "npm:@1", "npm:../x@1", "npm:a/b@1",
        "npm:@/x@1", "npm:n@-1", "github:o@x", "github:o/r", "github:o/..@x", "github:-o/r@x",
        "a\nb",
        // A kind that there is none of is no folder to wait for.
        "dir:/tmp", "foo:bar", "git://h/o/r.git#main", "https://h/o/r", "git@h:o/r.git"})
    EXPECT_EQ(code_of(parse_source_spec(bad)), ec::bad_argument) << bad;
}

TEST(safe_path, makes_paths_plain_and_refuses_those_that_leave) {
  EXPECT_EQ(test::ok(safe_path("./a//b/./c/", 0)), "a/b/c");
  EXPECT_EQ(test::ok(safe_path("package/lib/x.js", 1)), "lib/x.js");
  EXPECT_EQ(test::ok(safe_path("package/", 1)), "");
  for (const char* bad : {"/etc/passwd", "..", "a/../../b", "a/..", "x\ny", "../a"})
    EXPECT_EQ(code_of(safe_path(bad, 0)), ec::source_hostile) << bad;
  EXPECT_EQ(code_of(safe_path("package/../../x", 1)), ec::source_hostile);
  EXPECT_EQ(code_of(safe_path(std::string(256, 'a'), 0)), ec::source_hostile);
  std::string deep;
  for (int i = 0; i < 65; ++i) deep += "a/";
  EXPECT_EQ(code_of(safe_path(deep, 0)), ec::source_hostile);
}

TEST(check_link, lets_links_point_inside_only) {
  EXPECT_TRUE(check_link("node_modules/.bin/x", "../x/bin.js"));
  EXPECT_TRUE(check_link("a/b", "../c"));
  for (const auto& [path, target] : {std::pair{"a", "/etc/passwd"},
                                     {"a", "../x"},
                                     {"a/b", "../../x"},
                                     {"a/b", "c/../../../x"},
                                     {"a", ""}})
    EXPECT_EQ(code_of(check_link(path, target)), ec::source_hostile) << path << " → " << target;
}

TEST(choose_script, prefers_benchmark_to_benchmarks_to_test) {
  const auto chosen = [](const json& scripts) {
    return choose_script(json{{"scripts", scripts}}.dump());
  };
  EXPECT_EQ(test::ok(chosen({{"test", "t"}, {"benchmarks", "b"}, {"benchmark", "a"}})),
            "benchmark");
  EXPECT_EQ(test::ok(chosen({{"test", "t"}, {"benchmarks", "b"}})), "benchmarks");
  EXPECT_EQ(test::ok(chosen({{"test", "t"}, {"benchmark", ""}})), "test");
  EXPECT_EQ(code_of(chosen(json::object())), ec::no_script);
  EXPECT_EQ(code_of(chosen({{"test", 7}})), ec::no_script);
  EXPECT_EQ(code_of(choose_script("{}")), ec::no_script);
  EXPECT_EQ(code_of(choose_script("[")), ec::source_failed);
}

TEST(needs_install, is_true_for_a_native_add_on_unless_it_says_otherwise) {
  EXPECT_TRUE(needs_install("{}", 1));
  EXPECT_TRUE(needs_install(R"({"gypfile":true})", 1));
  EXPECT_FALSE(needs_install(R"({"gypfile":false})", 1));
}

TEST(needs_install, is_true_for_dependencies_and_install_hooks) {
  EXPECT_FALSE(needs_install("{}", false));
  EXPECT_FALSE(needs_install(R"({"dependencies":{}})", false));
  EXPECT_TRUE(needs_install(R"({"devDependencies":{"a":"1"}})", false));
  EXPECT_TRUE(needs_install(R"({"scripts":{"postinstall":"x"}})", false));
}

namespace {

struct tar_entry {
  std::string path;
  unsigned type;
  std::string content, link;
  unsigned mode;
  tar_entry(std::string p, unsigned t = AE_IFREG, std::string c = "", std::string l = "",
            unsigned m = 0644)
      : path{std::move(p)}, type{t}, content{std::move(c)}, link{std::move(l)}, mode{m} {}
};

/// `gzips`: how often it is compressed.
std::string make_tar(const std::vector<tar_entry>& entries, int gzips = 0) {
  std::string out(1u << 20, '\0');
  std::size_t used = 0;
  auto* a = archive_write_new();
  archive_write_set_format_pax_restricted(a);
  for (; gzips > 0; --gzips) archive_write_add_filter_gzip(a);
  archive_write_open_memory(a, out.data(), out.size(), &used);
  for (const auto& e : entries) {
    auto* entry = archive_entry_new();
    archive_entry_set_pathname(entry, e.path.c_str());
    archive_entry_set_filetype(entry, e.type);
    archive_entry_set_perm(entry, e.mode);
    archive_entry_set_size(entry, static_cast<la_int64_t>(e.content.size()));
    if (e.type == AE_IFLNK) archive_entry_set_symlink(entry, e.link.c_str());
    if (e.type == AE_IFREG && !e.link.empty()) archive_entry_set_hardlink(entry, e.link.c_str());
    archive_write_header(a, entry);
    archive_write_data(a, e.content.data(), e.content.size());
    archive_entry_free(entry);
  }
  archive_write_close(a);
  archive_write_free(a);
  out.resize(used);
  return out;
}

result<bundle> bundled(const std::string& bytes, const test::scratch& dir, unsigned strip = 0) {
  bool given = false;
  return bundle_archive(
      [&]() -> result<std::string_view> {
        return std::exchange(given, 1) ? std::string_view{} : std::string_view{bytes};
      },
      strip, dir.path(), nullptr);
}

}  // namespace

TEST(bundle_archive, carries_files_folders_and_links) {
  const test::scratch dir;
  const auto tar = make_tar({{"p", AE_IFDIR, "", "", 0755},
                             {"p/package.json", AE_IFREG, "{\"a\":1}", "", 0644},
                             {"p/x", AE_IFLNK, "", "package.json", 0777},
                             {"p/run", AE_IFREG, "#!", "", 04755}},
                            true);
  auto got = test::ok(bundled(tar, dir, 1));
  EXPECT_EQ(got.entries, 3u);
  EXPECT_EQ(got.package_json, "{\"a\":1}");
  EXPECT_EQ(got.digest.size(), 71u);
  zone::bundle_header head{};
  bool saw_run = false;
  while (read_all(got.file.get(), &head, sizeof head) && head.kind != zone::bundle_kind::end) {
    std::string path(head.path_bytes, '\0'), content(head.size, '\0');
    ASSERT_TRUE(read_all(got.file.get(), path.data(), path.size()) &&
                read_all(got.file.get(), content.data(), content.size()));
    if (path == "run") {
      saw_run = true;
      EXPECT_EQ(head.mode, 0755u) << "set-id bits must go";
    }
  }
  EXPECT_TRUE(saw_run);
}

TEST(bundle_archive, refuses_every_hostile_entry) {
  const test::scratch dir;
  EXPECT_EQ(code_of(bundled(make_tar({{"../evil"}}), dir)), ec::source_hostile);
  EXPECT_EQ(code_of(bundled(make_tar({{"/etc/x"}}), dir)), ec::source_hostile);
  EXPECT_EQ(code_of(bundled(make_tar({{"a", AE_IFLNK, "", "/etc"}}), dir)), ec::source_hostile);
  EXPECT_EQ(code_of(bundled(make_tar({{"a", AE_IFLNK, "", "b"}, {"a/x"}}), dir)),
            ec::source_hostile);
  EXPECT_EQ(code_of(bundled(make_tar({{"a", AE_IFREG, "x"}, {"a/x"}}), dir)), ec::source_hostile);
  EXPECT_EQ(code_of(bundled(make_tar({{"a", AE_IFREG, "x"}, {"a", AE_IFREG, "y"}}), dir)),
            ec::source_hostile);
  EXPECT_EQ(code_of(bundled(make_tar({{"a", AE_IFREG, "x"}, {"b", AE_IFREG, "", "a"}}), dir)),
            ec::source_hostile);
  for (const unsigned type : {AE_IFCHR, AE_IFBLK, AE_IFIFO})
    EXPECT_EQ(code_of(bundled(make_tar({{"d", type}}), dir)), ec::source_hostile);
  EXPECT_EQ(code_of(bundled("this is no archive at all, it is a text", dir)), ec::source_failed);
}

TEST(bundle_archive, survives_being_cut_at_every_byte) {
  const test::scratch dir;
  const auto tar =
      make_tar({{"package.json", AE_IFREG, std::string(600, 'x')}, {"b", AE_IFREG, "y"}}, 1);
  for (std::size_t n = 0; n < tar.size(); ++n)
    [[maybe_unused]] const auto got = bundled(tar.substr(0, n), dir);
}

namespace {

/// The header of a tar's entry whose content is said to have `size` bytes, and nothing behind it.
std::string header_of(const std::string& path, std::uint64_t size) {
  auto out = make_tar({{path}}).substr(0, 512);
  char digits[16];
  std::snprintf(digits, sizeof digits, "%011llo", static_cast<unsigned long long>(size));
  out.replace(124, 11, digits);
  out.replace(148, 8, "        ");
  unsigned sum = 0;
  for (const char c : out) sum += static_cast<unsigned char>(c);
  std::snprintf(digits, sizeof digits, "%06o", sum);
  out.replace(148, 6, digits);
  out[154] = '\0';
  return out;
}

}  // namespace

TEST(bundle_archive, refuses_a_bomb_before_it_is_unpacked) {
  const test::scratch dir;
  const std::uint64_t most = limits::source_bytes_max;
  EXPECT_EQ(code_of(bundled(header_of("a/b", most + 1), dir)), ec::source_limit);
  // Also where the entry would be dropped: to get past it, it is unpacked.
  EXPECT_EQ(code_of(bundled(header_of("a", most + 1), dir, 1)), ec::source_limit);
  EXPECT_EQ(code_of(bundled(header_of("a", 1ull << 32), dir, 1)), ec::source_limit);
  std::string many;
  const auto one = header_of("a", 0);
  for (std::uint64_t i = 0; i <= limits::source_entries_max; ++i) many += one;
  EXPECT_EQ(code_of(bundled(many, dir, 1)), ec::source_limit);
  EXPECT_TRUE(bundled(make_tar({{"a"}}, 1), dir));
  EXPECT_EQ(code_of(bundled(make_tar({{"a"}}, 2), dir)), ec::source_hostile);
}

TEST(bundle_folder, leaves_git_out_and_refuses_links_that_leave) {
  const test::scratch dir, scratch;
  dir.file("package.json", "{}");
  dir.file(".git/config", "secret");
  dir.file("lib/a.js", "1");
  EXPECT_EQ(test::ok(bundle_folder(dir.path(), scratch.path(), nullptr)).entries, 3u);
  const auto first = test::ok(bundle_folder(dir.path(), scratch.path(), nullptr)).digest;
  EXPECT_EQ(test::ok(bundle_folder(dir.path(), scratch.path(), nullptr)).digest, first);
  ASSERT_EQ(::symlink("/etc/passwd", (dir / "x").c_str()), 0);
  EXPECT_EQ(code_of(bundle_folder(dir.path(), scratch.path(), nullptr)), ec::source_hostile);
  EXPECT_EQ(code_of(bundle_folder(dir / "absent", scratch.path(), nullptr)), ec::not_found);
}

TEST(bundle_folder, refuses_a_fifo_without_opening_it) {
  const test::scratch dir, scratch;
  ASSERT_EQ(::mkfifo((dir / "f").c_str(), 0600), 0);
  EXPECT_EQ(code_of(bundle_folder(dir.path(), scratch.path(), nullptr)), ec::source_hostile);
}
