// What the install step's proxy lets through: names, heads and bodies.
#include <arpa/inet.h>
#include <gtest/gtest.h>

#include "net/egress_policy.hpp"
#include "net/egress_request.hpp"
#include "tests/support/ok.hpp"

using namespace ntrace;
using namespace ntrace::net;
using test::ok;

namespace {

/// A GET of the right shape with more fields; each ends with CR LF.
std::string get_with(const std::string& fields) {
  return "GET http://a.example/x HTTP/1.1\r\nHost: a.example\r\n" + fields + "\r\n";
}
std::string post_with(const std::string& fields) {
  return "POST http://a.example/x HTTP/1.1\r\nHost: a.example\r\n" + fields + "\r\n";
}
std::string get_of(const std::string& target) {
  return "GET " + target + " HTTP/1.1\r\nHost: a.example\r\n\r\n";
}

struct refused_head {
  std::string head, reason;
};

void expect_refused(const std::vector<refused_head>& all) {
  for (const auto& [head, reason] : all) {
    const auto seen = parse_proxy_head(head);
    ASSERT_EQ(test::code_of(seen), ec::bad_request) << head;
    EXPECT_NE(seen.error().message.find(reason), std::string::npos) << head << "\n"
                                                                    << seen.error().message;
  }
}

}  // namespace

TEST(egress_policy, allows_exactly_what_the_list_names) {
  const std::vector<allow_entry> list{test::ok(parse_allow_entry("registry.example")),
                                      test::ok(parse_allow_entry("*.cdn.example:8443"))};
  const auto allowed = [&](std::string_view host, std::uint16_t port) {
    return find_allowed(list, host, port) != nullptr;
  };
  EXPECT_TRUE(allowed("registry.example", 443));
  EXPECT_TRUE(allowed("REGISTRY.example.", 443));
  EXPECT_TRUE(allowed("a.cdn.example", 8443));
  EXPECT_TRUE(allowed("a.b.cdn.example", 8443));
  for (const auto& [host, port] : std::vector<std::pair<std::string, std::uint16_t>>{
           {"evil-registry.example", 443},
           {"registry.example.evil", 443},
           {"registry.example", 80},
           {"", 443},
           {"::1", 443},
           {"cdn.example", 8443},
           {"xcdn.example", 8443},
           {"registry.example..", 443},
           {"user@registry.example", 443},
           {std::string("registry.example\0", 17), 443},
           {"registry.example\r\nx", 443},
           {std::string(254, 'a'), 443},
           {"a..cdn.example", 8443},
           {"x.cdn.example.:8443", 443},
           {"0x7f.1", 443}})
    EXPECT_FALSE(allowed(host, port)) << host;
}

TEST(egress_policy, knows_addresses_that_no_job_may_reach) {
  const auto is_private = [](const char* text) {
    sockaddr_storage a{};
    auto* v4 = reinterpret_cast<sockaddr_in*>(&a);
    auto* v6 = reinterpret_cast<sockaddr_in6*>(&a);
    if (inet_pton(AF_INET, text, &v4->sin_addr) == 1)
      a.ss_family = AF_INET;
    else if (inet_pton(AF_INET6, text, &v6->sin6_addr) == 1)
      a.ss_family = AF_INET6;
    return is_private_address(reinterpret_cast<sockaddr*>(&a));
  };
  for (const char* bad :
       {"127.0.0.1", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254",
        "0.0.0.0", "224.0.0.1", "255.255.255.255", "100.64.0.1", "::", "::1", "fe80::1", "fc00::1",
        "fd12::1", "ff02::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::"})
    EXPECT_TRUE(is_private(bad)) << bad;
  for (const char* good : {"1.1.1.1", "172.32.0.1", "172.15.0.1", "2606:4700::1111",
                           "::ffff:1.1.1.1", "64:ff9b::101:101", "11.0.0.1", "100.128.0.1"})
    EXPECT_FALSE(is_private(good)) << good;
}

TEST(proxy_head, reads_connect) {
  for (const auto& head :
       {"CONNECT Registry.example:443 HTTP/1.1\r\nHost: registry.example:443\r\n\r\n",
        "CONNECT registry.example:443 HTTP/1.1\r\nHost: registry.example\r\nConnection: "
        "close\r\n\r\n",
        "CONNECT registry.example.:443 HTTP/1.0\r\n\r\n"}) {
    const auto connect = ok(parse_proxy_head(head));
    EXPECT_TRUE(connect.is_connect);
    EXPECT_EQ(connect.host, "registry.example");
    EXPECT_EQ(connect.port, 443);
    EXPECT_TRUE(connect.body.is_done());
  }
}

TEST(proxy_head, forwards_a_request_without_what_was_for_the_proxy) {
  const auto get = ok(parse_proxy_head(
      "GET http://A.example:8080/@s%2fx?y=1 HTTP/1.1\r\nHost: a.example:8080\r\n"
      "Proxy-Authorization: s\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nTE: trailers\r\n"
      "Upgrade: h2c\r\nHTTP2-Settings: AA\r\nKeep-Alive: 5\r\nProxy-Connection: x-other\r\n"
      "X-Other: 2\r\nAccept:\t */* \r\n\r\n"));
  EXPECT_EQ(get.forward_head,
            "GET /@s%2fx?y=1 HTTP/1.1\r\nhost: a.example:8080\r\naccept: */*\r\nconnection: "
            "close\r\n\r\n");
  EXPECT_TRUE(get.body.is_done());
}

TEST(proxy_head, forwards_how_a_body_is_framed_and_answers_expect_itself) {
  const auto counted =
      ok(parse_proxy_head(post_with("Content-Length: 5\r\nExpect: 100-continue\r\n")));
  EXPECT_TRUE(counted.wants_continue);
  EXPECT_EQ(counted.forward_head,
            "POST /x HTTP/1.1\r\nhost: a.example\r\ncontent-length: 5\r\nconnection: "
            "close\r\n\r\n");
  EXPECT_FALSE(counted.body.is_done());
  const auto chunked = ok(parse_proxy_head(post_with("Transfer-Encoding: Chunked\r\n")));
  EXPECT_TRUE(chunked.body.is_chunked());
  EXPECT_NE(chunked.forward_head.find("\r\ntransfer-encoding: Chunked\r\n"), std::string::npos);
}

TEST(proxy_head, takes_a_target_without_a_path) {
  for (const auto& [target, line] : std::vector<std::pair<std::string, std::string>>{
           {"http://a.example", "GET / "}, {"http://a.example?q", "GET /?q "}})
    EXPECT_TRUE(ok(parse_proxy_head(get_of(target))).forward_head.starts_with(line)) << target;
}

TEST(proxy_head, refuses_a_malformed_request_line_by_name) {
  const std::string rest = " HTTP/1.1\r\nHost: a.example\r\n\r\n";
  expect_refused({
      {"", "blank line"},
      {"\r\n\r\n", "blank line before the head"},
      {"\r\n" + get_with(""), "blank line before the head"},
      {"GET http://a.example/\r\nHost: a.example\r\n\r\n", "two blanks"},
      {"GET  http://a.example/" + rest, "two blanks"},
      {" GET http://a.example/" + rest, "two blanks"},
      {"GET http://a.example/ x" + rest, "two blanks"},
      {"GET http://a.example/ HTTP/1.1 \r\nHost: a.example\r\n\r\n", "two blanks"},
      {"GET\thttp://a.example/" + rest, "two blanks"},
      {"GET http://a.example/ HTTP/2.0\r\nHost: a.example\r\n\r\n", "version"},
      {"GET http://a.example/ HTTP/1.10\r\nHost: a.example\r\n\r\n", "version"},
      {"GET http://a.example/ http/1.1\r\nHost: a.example\r\n\r\n", "version"},
      {"GET http://a.example/ HTTP/0.9\r\nHost: a.example\r\n\r\n", "version"},
      {"PUT http://a.example/" + rest, "method PUT"},
      {"get http://a.example/" + rest, "method get"},
      {"G@T http://a.example/" + rest, "no token"},
      {"TRACE http://a.example/" + rest, "method TRACE"},
      {"PRI *" + std::string{" HTTP/2.0\r\n\r\n"}, "version"},
      {get_of("/"), "not http://"},
      {get_of("a.example:80"), "not http://"},
      {get_of("HTTP://a.example/"), "not http://"},
      {get_of("ftp://a.example/"), "not http://"},
      {get_of("https://a.example/"), "CONNECT"},
      {get_of("http://u@a.example/"), "user name"},
      {get_of("http://u:p@a.example/"), "user name"},
      {get_of("http://b.example:80@a.example/"), "user name"},
      {get_of("http://a.example/#f"), "fragment"},
      {get_of("http://a.example#@b.example/"), "fragment"},
      {get_of("http://a.example\\@b.example/"), "user name"},
      {get_of("http://a.example/\\..\\"), "no URI has"},
      {get_of("http://a.example/\x7f"), "no URI has"},
      {get_of("http://a.example/\xc3\xa9"), "no URI has"},
      {get_of("http://a.example/%0"), "hexadecimal"},
      {get_of("http://a.example/%zz"), "hexadecimal"},
      {get_of("http:///x"), "host names"},
      {get_of("http://[::1]/"), "port"},
      {get_of("http://a..example/"), "host names"},
      {get_of("http://a.example../"), "host names"},
      {get_of("http://a%2eexample/"), "host names"},
      {get_of("http://a.example:/"), "port"},
      {get_of("http://a.example:0/"), "port"},
      {get_of("http://a.example:080/"), "port"},
      {get_of("http://a.example:+80/"), "port"},
      {get_of("http://a.example:65536/"), "port"},
      {get_of("http://a.example/" + std::string(5000, 'a')), "4 KiB"},
      {"CONNECT a.example" + rest, "host names"},
      {"CONNECT a.example:443/" + rest, "port"},
      {"CONNECT http://a.example:443" + rest, "host names"},
      {"CONNECT u@a.example:443" + rest, "host names"},
      {"CONNECT a.example:443#x" + rest, "port"},
  });
}

TEST(proxy_head, refuses_malformed_header_lines_by_name) {
  expect_refused({
      {"GET http://a.example/ HTTP/1.1\nHost: a.example\r\n\r\n", "lone"},
      {"GET http://a.example/ HTTP/1.1\r\nHost: a.example\n\n", "blank line"},
      {get_with("A: b\nC: d\r\n"), "lone"},
      {get_with("A: b\rC: d\r\n"), "lone"},
      {get_with(std::string("A: b\0\r\n", 7)), "NUL"},
      {get_with("A: b\r\n c\r\n"), "folded"},
      {get_with("A: b\r\n\tc\r\n"), "folded"},
      {get_with(" A: b\r\n"), "folded"},
      {get_with("A : b\r\n"), "before a header's colon"},
      {get_with("A\t: b\r\n"), "before a header's colon"},
      {get_with("A b: c\r\n"), "no token"},
      {get_with("A\x0b: c\r\n"), "no token"},
      {get_with("\xc3\xa9: c\r\n"), "no token"},
      {get_with("(A): c\r\n"), "no token"},
      {get_with("Content_Length: 0\r\n"), "underscore"},
      {get_with(": b\r\n"), "without a name"},
      {get_with("no colon\r\n"), "without a colon"},
      {get_with("A: \x01\r\n"), "control byte"},
      {get_with("A: \x7f\r\n"), "control byte"},
      {get_with("A: \xff\r\n"), "above 0x7f"},
      {get_with("A: " + std::string(9000, 'a') + "\r\n"), "8 KiB"},
      {get_with("\r\nA: b\r\n"), "blank line within"},
      {"GET http://a.example/ HTTP/1.1\r\n\r\n", "no Host"},
      {"CONNECT a.example:443 HTTP/1.1\r\n\r\n", "no Host"},
      {get_with("Host: a.example\r\n"), "twice"},
      {get_with("host: b.example\r\n"), "twice"},
      {"GET http://a.example/ HTTP/1.1\r\nHost: b.example\r\n\r\n", "another"},
      {"GET http://a.example/ HTTP/1.1\r\nHost: a.example:81\r\n\r\n", "another"},
      {"GET http://a.example:81/ HTTP/1.1\r\nHost: a.example\r\n\r\n", "another"},
      {"GET http://a.example/ HTTP/1.1\r\nHost: \r\n\r\n", "no host name"},
      {"GET http://a.example/ HTTP/1.1\r\nHost: a.example, b.example\r\n\r\n", "no host name"},
      {"GET http://a.example/ HTTP/1.1\r\nHost: u@a.example\r\n\r\n", "no host name"},
      {"CONNECT a.example:8443 HTTP/1.1\r\nHost: a.example\r\n\r\n", "another"},
      {"CONNECT a.example:443 HTTP/1.1\r\nHost: b.example:443\r\n\r\n", "another"},
      {get_with("Expect: 200-maybe\r\n"), "Expect"},
      {get_with("Connection: a b\r\n"), "no token"},
      {post_with("Connection: Content-Length\r\nContent-Length: 1\r\n"), "names content-length"},
      {get_with("Connection: x, host\r\n"), "names host"},
      {post_with("Proxy-Connection: transfer-encoding\r\n"), "names transfer-encoding"},
  });
  std::string many;
  for (int i = 0; i < 101; ++i) many += "A: b\r\n";
  expect_refused({{get_with(many), "100 header lines"}});
}

TEST(proxy_head, refuses_bodies_whose_end_two_readers_see_differently) {
  expect_refused({
      {post_with("Content-Length: 1\r\nContent-Length: 1\r\n"), "twice"},
      {post_with("Content-Length: 1\r\nContent-Length: 2\r\n"), "twice"},
      {post_with("Content-Length: 1, 1\r\n"), "digits"},
      {post_with("Content-Length: +1\r\n"), "digits"},
      {post_with("Content-Length: -1\r\n"), "digits"},
      {post_with("Content-Length: 0x1\r\n"), "digits"},
      {post_with("Content-Length: 1 1\r\n"), "digits"},
      {post_with("Content-Length: \r\n"), "digits"},
      {post_with("Content-Length: 1.0\r\n"), "digits"},
      {post_with("Content-Length: 18446744073709551617\r\n"), "digits"},
      {post_with("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n"), "both"},
      {post_with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), "twice"},
      {post_with("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n"), "twice"},
      {post_with("Transfer-Encoding: gzip, chunked\r\n"), "not chunked"},
      {post_with("Transfer-Encoding: identity\r\n"), "not chunked"},
      {post_with("Transfer-Encoding: xchunked\r\n"), "not chunked"},
      {post_with("Transfer-Encoding: \"chunked\"\r\n"), "not chunked"},
      {post_with("Transfer-Encoding: chunked;q=1\r\n"), "not chunked"},
      {post_with("Transfer-Encoding:\r\n"), "not chunked"},
      {get_with("Content-Length: 1\r\n"), "body of a GET"},
      {get_with("Transfer-Encoding: chunked\r\n"), "body of a GET"},
      {"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example\r\nContent-Length: 1\r\n\r\n",
       "body of a CONNECT"},
      {"POST http://a.example/ HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", "HTTP/1.0"},
  });
}

TEST(http_body, takes_a_chunked_body_and_nothing_behind_it_however_it_is_cut) {
  const std::string own = "5\r\nabcde\r\nA\r\n0123456789\r\n0\r\n\r\n";
  const auto all = own + "GET http://b.example/ HTTP/1.1\r\n\r\n";
  for (std::size_t piece = 1; piece <= all.size(); ++piece) {
    auto uut = http_body::chunked();
    std::size_t taken = 0;
    for (std::size_t at = 0; at < all.size(); at += piece)
      taken += ok(uut.take(all.substr(at, piece)));
    EXPECT_EQ(taken, own.size()) << piece;
    EXPECT_TRUE(uut.is_done());
  }
}

TEST(http_body, counts_a_length_and_sees_no_end_where_there_is_none) {
  auto counted = http_body::of_length(3);
  EXPECT_EQ(ok(counted.take("ab")), 2u);
  EXPECT_FALSE(counted.is_done());
  EXPECT_EQ(ok(counted.take("cGET")), 1u);
  EXPECT_TRUE(counted.is_done());
  EXPECT_EQ(ok(counted.take("GET")), 0u);
  EXPECT_EQ(ok(http_body::none().take("GET")), 0u);
  auto endless = http_body::to_the_end();
  EXPECT_EQ(ok(endless.take("abc")), 3u);
  EXPECT_FALSE(endless.is_done());
}

TEST(http_body, refuses_chunks_that_two_readers_see_differently) {
  for (const std::string text : {"\r\n",
                                 "5;x=y\r\nabcde\r\n",
                                 "5 \r\nabcde\r\n",
                                 " 5\r\nabcde\r\n",
                                 "0x5\r\nabcde\r\n",
                                 "+5\r\n",
                                 "-1\r\n",
                                 "5\nabcde\n",
                                 "5\rabcde",
                                 "5\r\nabcdef\r\n",
                                 "5\r\nabcde\n0\r\n\r\n",
                                 "5\r\nabcde0\r\n\r\n",
                                 "g\r\n",
                                 "ffffffffffffffff1\r\n",
                                 "0000000000000000\r\n",
                                 "0\r\nTrailer: x\r\n\r\n",
                                 "0\r\nX",
                                 "0\r\n\rX",
                                 "0\n\n",
                                 "0;\r\n"}) {
    auto uut = http_body::chunked();
    EXPECT_EQ(test::code_of(uut.take(text)), ec::bad_request) << text;
  }
}

TEST(proxy_answer, is_passed_on_without_what_was_for_this_hop) {
  const auto seen = ok(parse_proxy_answer(
      "HTTP/1.1 200 OK\r\nContent-Length: 7\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\n"
      "Keep-Alive: timeout=5\r\nUpgrade: h2c\r\nX_Name: caf\xe9\r\n\r\n",
      "GET"));
  EXPECT_EQ(seen.status, 200);
  EXPECT_EQ(seen.forward_head,
            "HTTP/1.1 200 OK\r\nx_name: caf\xe9\r\ncontent-length: 7\r\nconnection: close\r\n\r\n");
  EXPECT_FALSE(seen.body.is_done());
}

TEST(proxy_answer, has_the_body_that_its_status_and_method_give_it) {
  const std::string length = "Content-Length: 7\r\n\r\n";
  EXPECT_TRUE(ok(parse_proxy_answer("HTTP/1.1 200 OK\r\n" + length, "HEAD")).body.is_done());
  EXPECT_TRUE(ok(parse_proxy_answer("HTTP/1.1 304 \r\n" + length, "GET")).body.is_done());
  EXPECT_TRUE(ok(parse_proxy_answer("HTTP/1.1 204\r\n\r\n", "GET")).body.is_done());
  EXPECT_TRUE(ok(parse_proxy_answer("HTTP/1.1 103 Early Hints\r\n\r\n", "GET")).is_interim());
  EXPECT_TRUE(ok(parse_proxy_answer("HTTP/1.0 200 OK\r\n\r\n", "GET")).body.ends_with_connection());
  EXPECT_TRUE(ok(parse_proxy_answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "GET"))
                  .body.is_chunked());
}

TEST(proxy_answer, is_refused_when_it_is_malformed_or_would_open_another_way) {
  for (const std::string head :
       {"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", "HTTP/2 200 OK\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n", "HTTP/1.1 2000 OK\r\n\r\n", "HTTP/1.1  200 OK\r\n\r\n",
        "HTTP/1.1 099 x\r\n\r\n", "HTTP/1.1\r\n\r\n", "ICY 200 OK\r\n\r\n", "\r\n\r\n",
        "HTTP/1.1 200 O\x01K\r\n\r\n", "HTTP/1.1 200 OK\r\n A: b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"})
    EXPECT_EQ(test::code_of(parse_proxy_answer(head, "GET")), ec::bad_request) << head;
}
