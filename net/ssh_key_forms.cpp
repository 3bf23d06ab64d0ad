#include "net/ssh_key_forms.hpp"

#include <fmt/core.h>
#include <algorithm>
#include <array>
#include <vector>

#include "config/base64.hpp"
#include "net/ssh_dial_fsm.hpp"
#include "net/ssh_names.hpp"

namespace ntrace::net {
namespace {

constexpr std::string_view make_one = "`ntrace tunnel keygen` makes one";
constexpr std::size_t labels_max = 16;

bool is_blank(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

std::string_view without_blanks_before(std::string_view text) {
  while (!text.empty() && is_blank(text.front())) text.remove_prefix(1);
  return text;
}

std::string_view first_line(std::string_view text) {
  return text.substr(0, text.find_first_of("\r\n"));
}

/// The labels of PEM blocks, "-----BEGIN LABEL-----" (RFC 7468), in their order.
std::vector<std::string_view> labels_of(std::string_view text) {
  constexpr std::string_view begin = "-----BEGIN ";
  std::vector<std::string_view> out;
  for (auto at = text.find(begin); at != text.npos && out.size() < labels_max;
       at = text.find(begin, at + 1)) {
    const auto line = first_line(text.substr(at + begin.size()));
    if (const auto end = line.find("-----"); end != line.npos) out.push_back(line.substr(0, end));
  }
  return out;
}

/// The bytes of the first PEM block with that label; empty when they cannot be read.
std::string block_bytes(std::string_view text, std::string_view label) {
  const auto head = "-----BEGIN " + std::string{label} + "-----";
  const auto from = text.find(head);
  if (from == text.npos) return {};
  auto rest = text.substr(from + head.size());
  rest = rest.substr(0, rest.find("-----"));
  std::string digits;
  for (const char c : rest)
    if (!is_blank(c)) digits += c;
  return from_base64(digits).value_or("");
}

std::string convert(const std::string& what, const std::string& path) {
  return fmt::format("it is {}; `ssh-keygen -p -f {}` writes it again as an OpenSSH private key",
                     what, shell_word(path));
}

/// A PKCS#8 key names its algorithm by an object identifier (RFC 5208, section 5; RFC 8410).
std::string describe_pkcs8(std::string_view text, const std::string& path) {
  constexpr std::string_view rsa{"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01", 11};
  constexpr std::string_view ed25519{"\x06\x03\x2b\x65\x70", 5};
  // It stands before the key itself: version, sequence, identifier.
  const auto bytes = block_bytes(text, "PRIVATE KEY").substr(0, 40);
  if (bytes.find(rsa) != bytes.npos) return refuse_type("ssh-rsa");
  if (bytes.find(ed25519) != bytes.npos)
    return fmt::format(
        "it is an Ed25519 key in PKCS#8, which ssh-keygen reads from OpenSSH 9.6 on; there, "
        "`ssh-keygen -p -f {}` writes it again, or {}",
        shell_word(path), make_one);
  return convert("a key in PKCS#8", path);
}

std::string describe_block(std::string_view label, std::string_view text, const std::string& path) {
  if (label == "PRIVATE KEY") return describe_pkcs8(text, path);
  if (label == "ENCRYPTED PRIVATE KEY") return convert("an encrypted key in PKCS#8", path);
  if (label == "EC PRIVATE KEY") return convert("an ECDSA key in PEM", path);
  if (label == "RSA PRIVATE KEY") return refuse_type("ssh-rsa");
  if (label == "DSA PRIVATE KEY") return refuse_type("ssh-dss");
  if (label.find("PUBLIC KEY") != label.npos)
    return "it is a public key; give the private one, which belongs to it";
  if (label.find("CERTIFICATE") != label.npos)
    return "it is a certificate of TLS, and SSH needs a key; " + std::string{make_one};
  if (label.starts_with("PGP")) return "it is a key of PGP; " + std::string{make_one};
  return "it is no OpenSSH private key; " + std::string{make_one};
}

std::string describe_blocks(const std::vector<std::string_view>& labels, std::string_view text,
                            const std::string& path) {
  // `openssl ecparam` writes parameters before the key, others a certificate.
  const auto key = std::find_if(labels.begin(), labels.end(), [](std::string_view label) {
    return label.ends_with("PRIVATE KEY");
  });
  return describe_block(key != labels.end() ? *key : labels.front(), text, path);
}

bool is_key_type(std::string_view word) {
  return word.starts_with("ssh-") || word.starts_with("ecdsa-sha2-") || word.starts_with("sk-");
}

std::string describe_public_line(std::string_view type, const std::string& path) {
  if (type.find("-cert-v01@") != type.npos)
    return "it is a certificate for a key; give the private key itself";
  if (type.starts_with("sk-")) return refuse_type(type);
  return "it is the public half of a key; give the private one" +
         (path.ends_with(".pub") ? ", most likely " + path.substr(0, path.size() - 4)
                                 : std::string{});
}

}  // namespace

std::string shell_word(const std::string& path) {
  const auto is_plain = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           std::string_view{"_./+:,@%-"}.find(c) != std::string_view::npos;
  };
  if (!path.empty() && path[0] != '-' && std::all_of(path.begin(), path.end(), is_plain))
    return path;
  std::string out = path.starts_with('-') ? "'./" : "'";
  for (const char c : path) out += c == '\'' ? "'\\''" : std::string(1, c);
  return out + "'";
}

std::string refuse_type(std::string_view type) {
  if (type.starts_with("sk-"))
    return fmt::format(
        "it is of a security key ({}): its private half lies in the device and each use needs "
        "somebody there, so a runner that nobody watches cannot use it; {}",
        printable(type), make_one);
  if (type.find("-cert-v01@") != type.npos)
    return fmt::format("it holds a certificate ({}); {}", printable(type), make_one);
  return "its type is " + printable(type) +
         "; use ed25519 or ecdsa, for instance from `ntrace tunnel keygen`";
}

std::string describe_other_form(std::string_view text, const std::string& path) {
  constexpr std::string_view byte_order_mark = "\xef\xbb\xbf";
  if (text.starts_with("\xff\xfe") || text.starts_with("\xfe\xff"))
    return "it is text in UTF-16; `iconv -f UTF-16 -t ASCII " + shell_word(path) +
           "` shows it as a key file must be";
  if (text.starts_with(byte_order_mark)) text.remove_prefix(byte_order_mark.size());
  text = without_blanks_before(text);
  if (text.empty()) return "the file is empty; " + std::string{make_one};
  const auto line = first_line(text);
  if (text.starts_with("PuTTY-User-Key-File-")) {
    const auto colon = line.find(": ");
    const auto type = colon == line.npos ? std::string_view{} : line.substr(colon + 2);
    if (type == "ssh-rsa" || type == "ssh-dss") return refuse_type(type);
    return fmt::format("it is a key of PuTTY; `puttygen {} -O private-openssh -o {}` converts it",
                       shell_word(path), shell_word(path + ".openssh"));
  }
  if (text.starts_with("---- BEGIN SSH2 PUBLIC KEY"))
    return "it is the public half of a key; give the private one";
  if (text.starts_with("---- BEGIN SSH2 "))
    return fmt::format(
        "it is a key of SSH Tectia; `puttygen {} -O private-openssh -o {}` converts it",
        shell_word(path), shell_word(path + ".openssh"));
  if (text.starts_with("SSH PRIVATE KEY FILE FORMAT 1"))
    return "it is a key of SSH version 1; " + std::string{make_one};
  if (const auto labels = labels_of(text); !labels.empty())
    return describe_blocks(labels, text, path);
  if (const auto type = line.substr(0, line.find(' ')); is_key_type(type))
    return describe_public_line(type, path);
  return "it is no OpenSSH private key; " + std::string{make_one};
}

}  // namespace ntrace::net
