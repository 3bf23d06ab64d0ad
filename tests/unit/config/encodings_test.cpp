// Base 64, hexadecimal digits, UTF-8, zstd, digests: one place each, as strict as its comment says.
#include <gtest/gtest.h>
#include <zstd.h>

#include <nlohmann/json.hpp>

#include "config/ascii.hpp"
#include "config/base64.hpp"
#include "config/digest.hpp"
#include "config/utf8.hpp"
#include "config/zstd.hpp"
#include "tests/support/ok.hpp"
#include "tests/support/seeded.hpp"

using namespace ntrace;

namespace {

std::string random_bytes(random_source& random, std::size_t size) {
  std::string out;
  for (std::size_t i = 0; i < size; ++i) out += static_cast<char>(random.below(256));
  return out;
}

/// A frame of a writer that did not know its size.
std::string streamed_frame(const std::string& bytes) {
  std::string out(ZSTD_compressBound(bytes.size()), '\0');
  auto* context = ZSTD_createCCtx();
  ZSTD_CCtx_setParameter(context, ZSTD_c_contentSizeFlag, 0);
  out.resize(ZSTD_compress2(context, out.data(), out.size(), bytes.data(), bytes.size()));
  ZSTD_freeCCtx(context);
  return out;
}

}  // namespace

TEST(base64, agrees_with_the_published_vectors) {  // RFC 4648, section 10
  const std::string plain = "foobar";
  const std::vector<std::string> texts{"",         "Zg==",     "Zm8=",    "Zm9v",
                                       "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"};
  for (std::size_t i = 0; i < texts.size(); ++i) {
    EXPECT_EQ(to_base64(plain.substr(0, i)), texts[i]);
    EXPECT_EQ(from_base64(texts[i]), plain.substr(0, i));
  }
}

TEST(base64, refuses_what_openssl_alone_would_take) {
  for (const char* text :
       {"Zm9", "Zg=", "Zh==", "Zm9=", "=m9v", "Z=9v", "Zm=v", " Zm9v   ", "Zm9v\n", "\nZm9",
        "Zm9v Zg=", "Zg==Zg==", "====", "Zm9-", "Zm9_", "Zm9\0"}) {
    EXPECT_FALSE(from_base64(text)) << "\"" << text << "\"";
  }
  EXPECT_FALSE(from_base64(std::string((1u << 20) + 4, 'A'))) << "longer than any use of it";
}

TEST(base64, reads_what_it_writes_and_nothing_that_it_does_not) {
  test::seeded s;
  for (int i = 0; i < 2000; ++i) {
    const auto bytes = random_bytes(s.random, s.random.below(200));
    auto text = to_base64(bytes);
    ASSERT_EQ(from_base64(text), bytes);
    if (text.empty()) continue;
    text[s.random.below(text.size())] = static_cast<char>(s.random.below(256));
    if (const auto read = from_base64(text)) {
      ASSERT_EQ(to_base64(*read), text);
    }
  }
}

TEST(hex, reads_and_writes_digits) {
  EXPECT_EQ(hex_text(0, 2), "00");
  EXPECT_EQ(hex_text(0, 0), "0") << "a number has a digit";
  EXPECT_EQ(hex_text(0x9b, 1), "9b");
  EXPECT_EQ(hex_text(~std::uint64_t{0}, 2), "ffffffffffffffff");
  EXPECT_EQ(hex_of(std::string_view{"\0\x7f\xff", 3}), "007fff");
  const std::string_view digits = "0123456789abcdefABCDEF";
  for (int c = 0; c < 256; ++c) {
    const auto at = digits.find(static_cast<char>(c));
    EXPECT_EQ(hex_value(static_cast<char>(c)).has_value(), at != digits.npos) << c;
    if (at != digits.npos) {
      EXPECT_EQ(hex_value(static_cast<char>(c)), at < 16 ? at : at - 6);
    }
  }
}

TEST(ascii, changes_ascii_letters_and_nothing_else) {
  EXPECT_EQ(lowered("AZaz@[`{\xc3\x84"), "azaz@[`{\xc3\x84");
  EXPECT_EQ(uppered("AZaz@[`{\xc3\xa4"), "AZAZ@[`{\xc3\xa4");
  EXPECT_EQ(trimmed(" \ta b\t "), "a b");
  EXPECT_EQ(trimmed("\ta\r\n"), "a\r\n");
  EXPECT_EQ(trimmed(" \t"), "");
  EXPECT_EQ(percent_decoded("%41%4a%4A%%41+%zz%4"), "AJJ%A+%zz%4");
}

TEST(utf8, is_valid_when_the_writer_of_json_takes_it) {
  const auto is_written = [](const std::string& bytes) {
    try {
      return !nlohmann::json(bytes).dump().empty();
    } catch (const nlohmann::json::type_error&) {
      return false;
    }
  };
  test::seeded s;
  // Pieces near all the borders of Unicode 15, table 3-7.
  const std::vector<std::string> pieces{"a",
                                        "\x7f",
                                        "\xc2\x80",
                                        "\xdf\xbf",
                                        "\xe0\xa0\x80",
                                        "\xed\x9f\xbf",
                                        "\xf4\x8f",
                                        "\xf0\x90\x80",
                                        "\xc0\x80",
                                        "\xc1",
                                        "\xe0\x9f\xbf",
                                        "\xed\xa0\x80",
                                        "\xf5",
                                        "\xf4\x90",
                                        "\xf0\x8f\xbf",
                                        "\x80",
                                        "\xbf",
                                        "\xff",
                                        "\xe2\x82",
                                        "\xac",
                                        "\xef\xbf\xbd",
                                        std::string(1, '\0'),
                                        "\xf0\x9f\x98",
                                        "\x80\x80"};
  for (int i = 0; i < 5000; ++i) {
    std::string text;
    for (auto left = s.random.below(6); left > 0; --left)
      text += pieces[s.random.below(pieces.size())];
    bool is_whole = true;
    std::size_t bad = 0;
    for (std::string_view rest{text}; is_whole && !rest.empty();) {
      const auto size = utf8_length(rest, bad);
      is_whole = size > 0;
      rest.remove_prefix(size);
    }
    ASSERT_EQ(is_utf8(text), is_written(text)) << hex_of(text);
    ASSERT_EQ(is_utf8(text), is_whole) << hex_of(text);
  }
}

TEST(utf8, is_cut_between_characters) {
  for (const auto& [max, kept] : std::vector<std::pair<std::size_t, std::string>>{
           {9, "aä€"}, {6, "aä€"}, {5, "aä"}, {3, "aä"}, {2, "a"}, {1, "a"}, {0, ""}}) {
    std::string text = "aä€";
    cut_to_characters(text, max);
    EXPECT_EQ(text, kept) << max;
  }
}

TEST(zstd, unpacks_frame_after_frame_up_to_a_bound) {
  const std::string one(3000, 'a'), two = "two";
  const auto both = zstd_packed(one) + zstd_packed("") + streamed_frame(two);
  EXPECT_EQ(test::ok(zstd_unpacked(both, 3003)), one + two);
  EXPECT_EQ(test::code_of(zstd_unpacked(both, 3002)), ec::bad_argument);
  EXPECT_EQ(test::code_of(zstd_unpacked(both, 2999)), ec::bad_argument);
  EXPECT_EQ(test::ok(zstd_unpacked("", 0)), "");
}

TEST(zstd, refuses_what_is_no_whole_frame) {
  const auto whole = zstd_packed("some text, and some text more");
  for (std::size_t size = 1; size < whole.size(); ++size)
    EXPECT_EQ(test::code_of(zstd_unpacked(whole.substr(0, size), 1000)), ec::bad_argument);
  EXPECT_EQ(test::code_of(zstd_unpacked(whole + "x", 1000)), ec::bad_argument);
  // A frame that states more than it holds, as hostile ones do: magic, one segment, 8 bytes of
  // size.
  std::string lies{"\x28\xb5\x2f\xfd\xe0", 5};
  lies += std::string(7, '\0') + '\x40' + std::string{"\1\0\0", 3};
  EXPECT_EQ(test::code_of(zstd_unpacked(lies, std::size_t{1} << 40)), ec::bad_argument)
      << "its size is no reason to take that much memory";
}

TEST(digest, agrees_with_the_published_vectors) {  // FIPS 180-2, appendix B.1
  sha256 uut;
  uut.add("a");
  uut.add("bc");
  EXPECT_EQ(uut.hex(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(digest_base64("sha1", "abc"), "qZk+NkcGgWq6PiVxeFDCbJzQ2J0=");
  EXPECT_EQ(digest_base64("no such", "abc"), "");
  // RFC 4231, test case 2, and RFC 2202, test case 2.
  EXPECT_EQ(hmac_sha256("Jefe", "what do ya want for nothing?"),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
  EXPECT_EQ(hex_of(hmac("sha1", "Jefe", "what do ya want for nothing?")),
            "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79");
  EXPECT_EQ(hmac("no such", "key", "text"), "");
  EXPECT_EQ(hmac_sha256({}, "text"), hmac_sha256("", "text"));
}

TEST(secret, is_the_same_only_when_all_of_it_is) {
  EXPECT_TRUE(is_same_secret("", ""));
  EXPECT_TRUE(is_same_secret("abc", "abc"));
  EXPECT_FALSE(is_same_secret("abc", "abd"));
  EXPECT_FALSE(is_same_secret("abc", "ab"));
  EXPECT_FALSE(is_same_secret("abc", ""));
}
