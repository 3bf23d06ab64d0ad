// What a zone's init sends of its files, honest or not.
#include "actors/zone/collected.hpp"

#include <gtest/gtest.h>

#include <cstring>

#include "tests/support/seeded.hpp"

using namespace ntrace;
using namespace ntrace::zone;

namespace {

std::string entry(bundle_kind kind, const std::string& name, std::uint64_t size,
                  const std::string& content = {}, std::uint32_t mode = 0600) {
  const bundle_header head{bundle_magic, kind, mode, static_cast<std::uint32_t>(name.size()), size};
  std::string out(sizeof head, '\0');
  std::memcpy(out.data(), &head, sizeof head);
  return out + name + content;
}
std::string file(const std::string& name, const std::string& content) {
  return entry(bundle_kind::file, name, content.size(), content);
}
const std::string end = entry(bundle_kind::end, "", 3, "", 2);
constexpr collect_bounds small{3, 10, 20};

}  // namespace

TEST(collected_reader, takes_files_in_any_portions_and_the_counts_of_the_end) {
  const auto sent = file("a", "1234567890") + file("b", "") + file("c", "12345") + end;
  for (std::size_t portion = 1; portion <= sent.size(); ++portion) {
    collected_reader uut{small};
    for (std::size_t at = 0; at < sent.size(); at += portion)
      ASSERT_TRUE(uut.on_bytes(std::string_view{sent}.substr(at, portion))) << portion;
    const auto got = uut.take();
    EXPECT_TRUE(got.is_whole);
    EXPECT_EQ(got.files,
              (std::map<std::string, std::string>{{"a", "1234567890"}, {"b", ""}, {"c", "12345"}}));
    EXPECT_EQ(got.left_out, 3u);
    EXPECT_EQ(got.cut, 2u);
  }
}

TEST(collected_reader, takes_nothing_beyond_its_bounds_whatever_the_zone_says) {
  const std::string broken[] = {
      entry(bundle_kind::file, "a", 11),                            // one file
      file("a", "1234567890") + entry(bundle_kind::file, "b", 11),  // one file, later
      file("a", "1234567890") + file("b", "123456789") + entry(bundle_kind::file, "c", 2),
      file("a", "") + file("b", "") + file("c", "") + file("d", ""),  // too many
      entry(bundle_kind::file, "a", UINT64_MAX),
      entry(bundle_kind::file, std::string(256, 'n'), 0),
      entry(bundle_kind::file, "", 0),
      file("a", "x") + file("a", "y"),
      entry(bundle_kind::folder, "a", 0),
      entry(bundle_kind::symlink, "a", 1, "x"),
      std::string(sizeof(bundle_header), '\xff'),
      end + "x"};
  for (const auto& sent : broken) {
    collected_reader uut{small};
    EXPECT_FALSE(uut.on_bytes(sent)) << testing::PrintToString(sent);
    EXPECT_FALSE(uut.on_bytes("more"));
  }
}

TEST(collected_reader, is_not_whole_before_the_end) {
  const auto sent = file("a", "123") + end;
  for (std::size_t n = 0; n < sent.size(); ++n) {
    collected_reader uut{small};
    EXPECT_TRUE(uut.on_bytes(sent.substr(0, n)));
    EXPECT_FALSE(uut.take().is_whole) << n;
  }
}

TEST(collected_reader, keeps_its_bounds_over_random_bytes) {
  test::seeded s;
  const auto good = file("a", "123") + file("b", "4567") + end;
  for (int i = 0; i < 50'000; ++i) {
    auto sent = good + good;
    for (std::uint64_t n = 0; n < 1 + s.random.below(6); ++n)
      sent[s.random.below(sent.size())] = static_cast<char>(s.random.below(256));
    collected_reader uut{small};
    while (!sent.empty()) {
      const auto n = 1 + s.random.below(sent.size());
      if (!uut.on_bytes(std::string_view{sent}.substr(0, n))) break;
      sent.erase(0, n);
    }
    std::size_t bytes = 0;
    const auto got = uut.take();
    for (const auto& [name, content] : got.files) bytes += content.size();
    ASSERT_LE(bytes, small.bytes);
    ASSERT_LE(got.files.size(), small.files);
  }
}
