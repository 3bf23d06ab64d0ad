#include "net/ssh_dial_fsm.hpp"

#include <array>

namespace ntrace::net {

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

result<bool> ssh_dial_fsm::on_bytes(time_point now, std::string_view bytes) {
  if (stage_ != ssh_stage::banner) return false;
  for (const char c : bytes) {
    if (++bytes_ > bytes_before_banner_max || lines_ > lines_before_banner_max)
      return fail(ec::ssh_failed, "the server sends much and no SSH banner: \"" + printable(line_) +
                                      "\"; is this the port of an SSH server?");
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
    last_line_ = printable(line_);
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
