#include "net/rpc_peer_fsm.hpp"

#include <utility>

#include "config/mutation.hpp"

namespace ntrace::net {

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
  const bool is_done =
      session_.is_broken() || (is_half_closed_ && session_.requests_in_flight() == 0);
  if (is_done && unsent_ == 0) return close(out);
  const bool pause = session_.wants_pause(unsent_);
  if (is_half_closed_ || pause == is_paused_) return;
  is_paused_ = pause;
  if (pause)
    out.push_back(stop_reading{});
  else
    out.push_back(read_again{});
}

peer_effects rpc_peer_fsm::on_bytes(time_point now, std::string_view bytes) {
  peer_effects out;
  if (is_closed_) return out;
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
  if (is_closed_) return out;
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
