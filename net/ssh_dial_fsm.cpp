#include "net/ssh_dial_fsm.hpp"

#include <fmt/core.h>
#include <algorithm>
#include <array>

#include "config/ascii.hpp"

namespace ntrace::net {
namespace {

constexpr std::size_t shown_bytes_max = 80;

}  // namespace

std::string_view to_string(ssh_stage s) {
  static constexpr std::array<std::string_view, 5> names{"banner", "key_exchange", "authenticating",
                                                         "up", "ended"};
  return names[static_cast<std::size_t>(s)];
}

std::string printable(std::string_view bytes) {
  std::string out{bytes.substr(0, 80)};
  for (auto& c : out)
    if (c < ' ' || c > '~') c = '.';
  return out;
}

std::string escaped(std::string_view bytes) {
  std::string out;
  for (const char c : bytes) {
    if (c == '\r')
      out += "\\r";
    else if (c == '\n')
      out += "\\n";
    else if (c >= ' ' && c <= '~')
      out += c;
    else
      out += "\\x" + hex_text(static_cast<unsigned char>(c), 2);
  }
  return out;
}

std::string ssh_dial_fsm::what_was_sent(const std::string& server) const {
  if (first_.empty()) return server + " sent nothing: it is no SSH server, or a busy one";
  const bool is_cut = first_.size() > shown_bytes_max;
  const auto said = "it sent \"" + escaped(std::string_view{first_}.substr(0, shown_bytes_max)) +
                    (is_cut ? "\" and more" : "\"");
  if (first_.starts_with("SSH-")) return said;
  // RFC 8446, section 5.1: an alert or a handshake, and the version's first byte.
  const bool is_tls = first_.starts_with("\x15\x03") || first_.starts_with("\x16\x03");
  return fmt::format("{}, which is {}: {} is no SSH server", said,
                     is_tls                        ? "TLS"
                     : first_.starts_with("HTTP/") ? "HTTP"
                                                   : "no banner of SSH",
                     server);
}

result<bool> ssh_dial_fsm::on_bytes(time_point now, std::string_view bytes) {
  if (stage_ != ssh_stage::banner) return false;
  first_ += bytes.substr(0, shown_bytes_max + 1 - std::min(first_.size(), shown_bytes_max + 1));
  for (const char c : bytes) {
    if (++bytes_ > bytes_before_banner_max || lines_ > lines_before_banner_max)
      return fail(ec::ssh_failed, "the server sends much and no SSH banner");
    if (c != '\n') {
      line_ += c;
      continue;
    }
    if (line_.ends_with('\r')) line_.pop_back();
    if (line_.starts_with("SSH-")) {
      // RFC 4253, section 5.1: 1.99 is a server that speaks 2.0 too.
      if (!line_.starts_with("SSH-2.0-") && !line_.starts_with("SSH-1.99-"))
        return fail(ec::ssh_failed, "the server speaks \"" + printable(line_) + "\", not SSH 2.0");
      server_ = printable(line_);
      stage_ = ssh_stage::key_exchange;
      until_ = now + deadlines_.key_exchange;
      return true;
    }
    ++lines_;
    line_.clear();
  }
  return false;
}

void ssh_dial_fsm::on_keys_exchanged(time_point now) {
  if (stage_ != ssh_stage::key_exchange) return;
  stage_ = ssh_stage::authenticating;
  until_ = now + deadlines_.authentication;
}

void ssh_dial_fsm::on_authenticated() {
  if (stage_ == ssh_stage::authenticating) stage_ = ssh_stage::up;
}

std::optional<time_point> ssh_dial_fsm::until() const {
  if (stage_ == ssh_stage::up || stage_ == ssh_stage::ended) return {};
  return until_;
}

std::optional<error> ssh_dial_fsm::on_tick(time_point now) const {
  if (!until() || now < until_) return {};
  return error{ec::timed_out,
               "the server did not end the step " + std::string{to_string(stage_)} + " in time",
               {}};
}

}  // namespace ntrace::net
