// What a server offers for the key exchange, and what of it does not match.
#include <gtest/gtest.h>

#include "net/ssh_offer.hpp"
#include "tests/support/ok.hpp"
#include "tests/support/ssh_packets.hpp"

using namespace ntrace;
using namespace ntrace::net;

namespace {

const ssh_offer ours{"curve25519-sha256", "ssh-ed25519", "aes128-gcm@openssh.com,aes128-ctr",
                     "hmac-sha2-256"};

std::vector<mismatch> against(const std::string& exchange, const std::string& host_key,
                              const std::string& cipher, const std::string& mac) {
  const auto theirs = parse_offer(test::key_exchange_offer(exchange, host_key, cipher, mac));
  EXPECT_TRUE(theirs);
  return theirs ? mismatches(ours, *theirs) : std::vector<mismatch>{};
}

}  // namespace

TEST(ssh_offer, finds_nothing_missing_when_one_method_of_each_kind_is_in_common) {
  EXPECT_TRUE(
      against("other,curve25519-sha256", "ssh-ed25519", "aes128-ctr", "hmac-sha2-256").empty());
}

TEST(ssh_offer, names_each_kind_without_a_common_method_and_the_host_key_first) {
  const auto all = against("old", "ecdsa-sha2-nistp256,rsa-sha2-512", "3des-cbc", "hmac-md5");
  ASSERT_EQ(all.size(), 3u) << "a MAC counts only beside a cipher";
  EXPECT_EQ(all[0].what, "host key");
  EXPECT_EQ(all[0].sentence(true),
            "pinned ssh-ed25519, the server offers ecdsa-sha2-nistp256, rsa-sha2-512");
  EXPECT_EQ(all[1].what, "key exchange");
  EXPECT_EQ(all[2].sentence(true),
            "we offer aes128-gcm@openssh.com, aes128-ctr, the server offers 3des-cbc");
}

TEST(ssh_offer, wants_a_common_mac_only_for_a_cipher_that_needs_one) {
  EXPECT_EQ(against("curve25519-sha256", "ssh-ed25519", "aes128-ctr", "hmac-md5").at(0).what,
            "MAC");
  EXPECT_TRUE(
      against("curve25519-sha256", "ssh-ed25519", "aes128-gcm@openssh.com", "hmac-md5").empty());
  const auto empty = against("curve25519-sha256", "", "aes128-ctr", "hmac-sha2-256");
  ASSERT_EQ(empty.size(), 1u);
  EXPECT_EQ(empty[0].sentence(false), "we offer ssh-ed25519, the server offers none");
}

TEST(ssh_offer, takes_no_damaged_packet_for_an_offer) {
  const auto whole =
      test::key_exchange_offer("curve25519-sha256", "ssh-ed25519", "aes128-ctr", "hmac-sha2-256");
  ASSERT_TRUE(parse_offer(whole));
  for (std::size_t size = 0; size < whole.size(); ++size)
    EXPECT_FALSE(parse_offer(whole.substr(0, size))) << size;
  // The type, a length of a list, a letter that is none, the reserved number's flag.
  for (const auto& [at, with] : {std::pair{std::size_t{5}, '\x15'},
                                 {std::size_t{22}, '\x7f'},
                                 {std::size_t{26}, '\x01'},
                                 {std::size_t{3}, '\xff'}}) {
    auto damaged = whole;
    damaged[at] = with;
    EXPECT_FALSE(parse_offer(damaged)) << at;
  }
}
