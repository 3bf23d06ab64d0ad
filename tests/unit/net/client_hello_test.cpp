// TLS hellos as the egress proxy reads them: the one server name, or why there is none.
#include "net/client_hello.hpp"

#include <gtest/gtest.h>

#include "tests/support/ok.hpp"
#include "tests/support/tls_hello.hpp"

using namespace ntrace;
using namespace ntrace::net;
using test::ok;

namespace {

std::string name_of(const std::string& bytes) {
  bool complete = false;
  const auto name = client_hello_name(bytes, complete);
  if (!name) return "refused: " + name.error().message;
  return complete ? *name : "more";
}

}  // namespace

TEST(client_hello_name, reads_the_server_name_and_asks_for_more_when_cut) {
  const auto whole = test::tls_record(test::tls_hello({test::server_name("A.test")}));
  EXPECT_EQ(name_of(whole), "a.test");
  EXPECT_EQ(name_of(whole + "more records"), "a.test");
  for (std::size_t n = 0; n < whole.size(); ++n)
    EXPECT_EQ(name_of(whole.substr(0, n)), "more") << n;
}

TEST(client_hello_name, reads_a_hello_that_lies_in_several_records) {
  const auto hello = test::tls_hello({test::server_name("a.test")});
  for (std::size_t piece = 1; piece < hello.size(); ++piece) {
    std::string records;
    for (std::size_t at = 0; at < hello.size(); at += piece)
      records += test::tls_record(hello.substr(at, piece));
    EXPECT_EQ(name_of(records), "a.test") << piece;
    EXPECT_EQ(name_of(records.substr(0, records.size() - 1)), "more") << piece;
  }
}

TEST(client_hello_name, asks_for_no_more_of_one_that_is_sent_in_crumbs) {
  const auto hello = test::tls_hello({{0x0015, std::string(8000, '\0')}});
  std::string records;
  for (const char c : hello) records += test::tls_record({&c, 1});
  EXPECT_EQ(name_of(records.substr(0, 10'000)), "more");
  EXPECT_TRUE(name_of(records.substr(0, 30'000)).starts_with("refused: "));
}

TEST(client_hello_name, passes_over_extensions_that_it_does_not_know) {
  const std::pair<std::size_t, std::string> grease{0x0a0a, ""}, other{0x002b, "\x02\x03\x04"};
  EXPECT_EQ(
      name_of(test::tls_record(test::tls_hello({grease, test::server_name("a.test"), other}))),
      "a.test");
  EXPECT_EQ(name_of(test::tls_record(test::tls_hello({grease, other}))), "");
}

TEST(client_hello_name, refuses_what_is_no_hello_or_has_not_one_clear_name) {
  const auto hello = test::tls_hello({test::server_name("a.test")});
  const auto with = [](const std::vector<std::pair<std::size_t, std::string>>& extensions) {
    return test::tls_record(test::tls_hello(extensions));
  };
  std::string two_in_one = std::string("\0\x12", 2) + std::string("\0\0\x06", 3) + "a.test" +
                           std::string("\0\0\x06", 3) + "b.test";
  for (const auto& bytes :
       {std::string{"SSH-2.0-x\r\n"}, std::string{"GET / HTTP/1.1\r\n\r\n"},
        std::string{"\x16\x02"}, std::string("\x16\x03\x01\0\0", 5), std::string("\x80\x2e\x01", 3),
        std::string("\x16\x03\x01\x40\x01", 5), std::string("\x16\x03\x01\0\x05\x02", 6),
        test::tls_record(hello + "\x01"), test::tls_record(std::string("\x01\xff\xff\xff", 4)),
        with({test::server_name("a.test"), test::server_name("b.test")}), with({{0, two_in_one}}),
        with({{0, ""}}), with({{0, std::string("\0\x09\x01\0\x06", 5) + "a.test"}}),
        with({{0, std::string("\0\x09\0\0\x07", 5) + "a.test"}}), with({test::server_name("")}),
        with({{0xfe0d, "x"}, test::server_name("a.test")}),
        with({test::server_name("a.test"), {0xffce, "x"}})})
    EXPECT_TRUE(name_of(bytes).starts_with("refused: ")) << name_of(bytes);
}
