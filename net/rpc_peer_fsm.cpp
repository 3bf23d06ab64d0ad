#include "net/rpc_peer_fsm.hpp"

#include <algorithm>
#include <utility>

#include "config/mutation.hpp"

namespace ntrace::net {
namespace {
constexpr std::size_t shown_bytes_max = 64;  // of a foreign peer, for the log
}

bool rpc_peer_fsm::begins_well(std::string_view& bytes) {
  if (has_begun_) return true;
  bytes.remove_prefix(std::min(bytes.find_first_not_of(" \t\r\n"), bytes.size()));
  if (bytes.empty()) return true;
  // No method of HTTP (RFC 9110, section 5.6.2: tchar), no record of TLS, no other protocol that a
  // browser speaks begins with this byte. So a page cannot place a line of its own behind it.
  has_begun_ = bytes.front() == '[';
  return has_begun_;
}

peer_effects rpc_peer_fsm::refuse(time_point now, std::string_view bytes) {
  is_refused_ = true;
  peer_effects out{refuse_foreign{std::string{bytes.substr(0, shown_bytes_max)}}, stop_reading{}};
  auto text = format_error({ec::bad_request,
                            "this port speaks lines of JSON, and a connection begins with [; "
                            "closing it unread",
                            {}},
                           "null");
  unsent_ = text.size();
  last_progress_ = now;
  out.push_back(write_bytes{std::move(text)});
  return out;
}

void rpc_peer_fsm::close(peer_effects& out) {
  if (std::exchange(is_closed_, true)) return;
  if (!is_half_closed_) out.push_back(peer_is_gone{});
  out.push_back(close_connection{});
}

void rpc_peer_fsm::pump(time_point now, peer_effects& out) {
  if (session_.has_output()) {
    auto text = session_.take_output();
    if (unsent_ == 0) last_progress_ = now;
    unsent_ += text.size();
    out.push_back(write_bytes{std::move(text)});
  }
  const bool is_done = is_refused_ || session_.is_broken() ||
                       (is_half_closed_ && session_.requests_in_flight() == 0);
  if (is_done && unsent_ == 0) return close(out);
  const bool pause = session_.wants_pause(unsent_);
  if (is_half_closed_ || is_refused_ || pause == is_paused_) return;
  is_paused_ = pause;
  if (pause)
    out.push_back(stop_reading{});
  else
    out.push_back(read_again{});
}

peer_effects rpc_peer_fsm::on_bytes(time_point now, std::string_view bytes) {
  peer_effects out;
  if (is_closed_ || is_refused_) return out;
  if (!begins_well(bytes)) return refuse(now, bytes);
  for (auto& event : session_.on_bytes(bytes))
    if (auto* request = std::get_if<rpc_request>(&event))
      out.push_back(serve_request{std::move(*request)});
  pump(now, out);
  return out;
}

peer_effects rpc_peer_fsm::on_answer(time_point now, const rpc_request& request,
                                     const result<std::string>& text) {
  peer_effects out;
  if (is_closed_) return out;
  session_.answer(request, text);
  pump(now, out);
  return out;
}

peer_effects rpc_peer_fsm::on_notify(time_point now, std::string_view method, const json& args) {
  peer_effects out;
  if (is_closed_ || is_refused_) return out;
  session_.notify(method, args);
  pump(now, out);
  return out;
}

peer_effects rpc_peer_fsm::on_written(time_point now, std::size_t unsent) {
  peer_effects out;
  if (is_closed_) return out;
  unsent_ = unsent;
  last_progress_ = now;
  pump(now, out);
  return out;
}

peer_effects rpc_peer_fsm::on_half_close(time_point now) {
  peer_effects out;
  if (is_closed_ || is_half_closed_) return out;
  if (mutated(mutation::half_close_closes)) {
    close(out);
    return out;
  }
  is_half_closed_ = true;
  out.push_back(peer_is_gone{});
  pump(now, out);
  return out;
}

peer_effects rpc_peer_fsm::on_broken() {
  peer_effects out;
  close(out);
  return out;
}

peer_effects rpc_peer_fsm::on_tick(time_point now) {
  peer_effects out;
  if (unsent_ > 0 && now - last_progress_ > limits::unread_deadline) close(out);
  return out;
}

}  // namespace ntrace::net
