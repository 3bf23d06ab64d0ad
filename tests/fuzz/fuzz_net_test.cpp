// Untrusted bytes from the network: lines, first bytes, proxy requests and TLS hellos. See
// fuzz.hpp.
#include <gtest/gtest.h>

#include <cstdlib>
#include <sstream>

#include "net/client_hello.hpp"
#include "net/egress_request.hpp"
#include "net/rpc_peer_fsm.hpp"
#include "tests/fuzz/fuzz.hpp"
#include "tests/support/only.hpp"
#include "tests/support/tls_hello.hpp"

using namespace ntrace;
using ntrace::test::fuzz;

TEST(fuzz, rpc_lines) {
  fuzz("rpc",
       {"[\"push\",[\"o\",\"r\",\"aa\"],1]\n", "[[null,{\"a\":1}],2]\n", "[null,3]\n",
        "[\"a\",[],\"\\\"]\"]\n"},
       [](const std::string& input) {
         net::rpc_session uut;
         for (auto& e : uut.on_bytes(input + "\n"))
           if (const auto* r = std::get_if<net::rpc_request>(&e)) uut.answer(*r, "[1]");
         // Whatever came in, each line that goes out is JSON with our shape.
         std::istringstream lines{uut.take_output()};
         for (std::string line; std::getline(lines, line);) {
           const auto reply = net::json::parse(line, nullptr, false);
           ASSERT_TRUE(reply.is_array() && reply.size() == 2 && reply[0].is_array()) << line;
         }
       });
}

/// Requests that are served of a connection with these bytes, cut into pieces.
static std::size_t served(const std::string& input, std::size_t piece) {
  net::rpc_peer_fsm uut;
  std::size_t out = 0;
  for (std::size_t at = 0; at < input.size(); at += piece)
    out += test::only<net::serve_request>(uut.on_bytes({}, input.substr(at, piece))).size();
  return out;
}

TEST(fuzz, first_bytes_of_a_connection) {
  fuzz("rpc_first",
       {"POST / HTTP/1.1\r\n\r\n[\"drain\",[],1]\n", "\r\n [\"a\",[],1]\n[\"b\",[],2]\n",
        "\x16\x03\x01\n[\"drain\",[],1]\n"},
       [](const std::string& input) {
         const auto first = input.find_first_not_of(" \t\r\n");
         const bool is_ours = first == std::string::npos || input[first] == '[';
         const auto whole = served(input, input.size() + 1);
         ASSERT_EQ(whole, served(input, 1)) << "it depends on how the bytes were cut";
         ASSERT_TRUE(is_ours || whole == 0);
       });
}

/// Where the first request ends for a reader that forgives everything: bare LF, any case, chunk
/// extensions, the coding before the length.
static std::size_t end_for_a_lenient_reader(const std::string& bytes) {
  const auto body = bytes.find("\r\n\r\n") + 4;
  std::string head = bytes.substr(0, body);
  for (auto& c : head) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  const auto coding = head.find("\ntransfer-encoding:"), length = head.find("\ncontent-length:");
  if (coding == std::string::npos)
    return length == std::string::npos
               ? body
               : body + std::strtoull(head.c_str() + head.find(':', length) + 1, nullptr, 10);
  auto at = body;
  for (;;) {
    const auto size = std::strtoull(bytes.c_str() + at, nullptr, 16);
    const auto line_end = bytes.find('\n', at);
    if (line_end == std::string::npos) return std::string::npos;
    at = line_end + 1;
    if (size == 0) return bytes.find('\n', at) + 1;
    if (size > bytes.size() - at) return std::string::npos;
    at = bytes.find('\n', at + size) + 1;
  }
}

TEST(fuzz, what_the_proxy_forwards_is_one_request_for_every_reader) {
  const std::string begin = "POST http://a.example/x HTTP/1.1\r\nHost: a.example\r\n";
  const std::string smuggled = "GET http://b.example/ HTTP/1.1\r\nHost: b.example\r\n\r\n";
  fuzz("egress",
       {"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example\r\n\r\n",
        "GET http://a.example/x?y HTTP/1.1\r\nHost: a.example\r\nA: b\r\n\r\n" + smuggled,
        begin + "Content-Length: 5\r\n\r\nabcde" + smuggled,
        begin + "Transfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n" + smuggled,
        begin + "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + smuggled,
        begin + "Transfer-Encoding: xchunked\r\nContent-Length: 0\r\n\r\n" + smuggled,
        begin + "Connection: content-length\r\nContent-Length: 50\r\n\r\n" + smuggled},
       [](const std::string& input) {
         const auto end = input.find("\r\n\r\n");
         if (end == std::string::npos) return;
         auto request = net::parse_proxy_head(std::string_view{input}.substr(0, end + 4));
         if (!request) return;
         ASSERT_TRUE(request->host.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789-._") ==
                         std::string::npos &&
                     request->port != 0);
         if (request->is_connect) return;
         const auto& head = request->forward_head;
         ASSERT_EQ(head.find("\r\n\r\n"), head.size() - 4);
         for (std::size_t i = 0; i < head.size(); ++i)
           ASSERT_TRUE(head[i] != '\n' || head[i - 1] == '\r');
         ASSERT_EQ(head.find("\r\nhost: "), head.find("\r\n"));
         const auto body = std::string_view{input}.substr(end + 4);
         const auto taken = request->body.take(body);
         if (!taken || !request->body.is_done()) return;
         const auto forwarded = head + std::string{body.substr(0, *taken)};
         ASSERT_EQ(end_for_a_lenient_reader(forwarded), forwarded.size()) << forwarded;
       });
}

TEST(fuzz, answers_of_a_registry) {
  fuzz("registry",
       {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: x\r\nX: y\r\n\r\nabcde",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n",
        "HTTP/1.1 101 x\r\n\r\n"},
       [](const std::string& input) {
         const auto end = input.find("\r\n\r\n");
         if (end == std::string::npos) return;
         auto answer = net::parse_proxy_answer(std::string_view{input}.substr(0, end + 4), "GET");
         if (!answer) return;
         ASSERT_NE(answer->status, 101);
         ASSERT_EQ(answer->forward_head.find("\r\n\r\n"), answer->forward_head.size() - 4);
         const auto body = std::string_view{input}.substr(end + 4);
         auto whole = answer->body;
         std::size_t one_by_one = 0;
         const auto taken = whole.take(body);
         for (const char c : body) {
           const auto one = answer->body.take({&c, 1});
           ASSERT_TRUE(one || !taken);
           if (!one) return;
           one_by_one += *one;
         }
         ASSERT_TRUE(taken);
         ASSERT_EQ(*taken, one_by_one);
       });
}

TEST(fuzz, tls_hellos) {
  const auto hello = test::tls_hello({test::server_name("a.example"), {0x2b, "\x02\x03\x04"}});
  fuzz("hello",
       {test::tls_record(hello),
        test::tls_record(hello.substr(0, 9)) + test::tls_record(hello.substr(9))},
       [](const std::string& input) {
         bool whole = false;
         const auto name = net::client_hello_name(input, whole);
         // A name that was once read does not change with what follows.
         bool complete = false;
         for (std::size_t n = 0; n < input.size() && !complete; ++n) {
           const auto early = net::client_hello_name(input.substr(0, n), complete);
           ASSERT_TRUE(early || !name) << "refused early, and then taken";
           if (!early) return;
           if (complete) {
             ASSERT_TRUE(name);
             ASSERT_EQ(*early, *name);
           }
         }
       });
}
