#include "net/rpc_session.hpp"

#include <fmt/core.h>
#include <charconv>

#include "config/gauges.hpp"

namespace ntrace::net {

std::vector<rpc_session::event> rpc_session::on_bytes(std::string_view bytes) {
  std::vector<event> out;
  if (broken_) return out;
  buffer_.append(bytes);
  std::size_t begin = 0;
  for (;;) {
    const auto end = buffer_.find('\n', std::max(begin, scanned_));
    const auto length = (end == std::string::npos ? buffer_.size() : end) - begin;
    if (length > limits::line_bytes_max) {
      error e{ec::line_too_long,
              fmt::format("a line may have {} bytes; closing", limits::line_bytes_max),
              {{"limit_bytes", std::to_string(limits::line_bytes_max)}}};
      output_ += format_error(e, "null");
      broken_ = true;
      buffer_.clear();
      return out;
    }
    if (end == std::string::npos) break;
    on_line(std::string_view{buffer_}.substr(begin, length), out);
    begin = end + 1;
    scanned_ = begin;
  }
  buffer_.erase(0, begin);
  scanned_ = buffer_.size();
  return out;
}

void rpc_session::on_line(std::string_view line, std::vector<event>& out) {
  if (line.ends_with('\r')) line.remove_suffix(1);
  if (line.find_first_not_of(" \t") == std::string_view::npos) return;
  auto parsed = parse_line(line);
  if (auto* wrong = std::get_if<rpc_malformed>(&parsed)) {
    output_ += format_error(wrong->why, wrong->id);
    ++gauges::value("rpc_malformed_lines");
  } else if (auto* request = std::get_if<rpc_request>(&parsed)) {
    if (request->wants_reply) {
      if (in_flight_.count(request->id) != 0) {
        output_ += format_error({ec::bad_request, "the id is in use by an unanswered request", {}},
                                request->id);
        return;
      }
      in_flight_.insert(request->id);
    }
    out.emplace_back(std::move(*request));
  } else if (auto* reply = std::get_if<rpc_reply>(&parsed)) {
    std::uint64_t call = 0;
    const auto& id = reply->id;
    std::from_chars(id.data(), id.data() + id.size(), call);
    if (calls_.erase(call) == 0) {
      ++stray_replies_;
      ++gauges::value("rpc_stray_replies");
      return;
    }
    rpc_answer answer{call, json()};
    if (!reply->err.is_null())
      answer.value = fail(error_from_json(reply->err));
    else if (!reply->results.empty())
      answer.value = std::move(reply->results.front());
    out.emplace_back(std::move(answer));
  }
}

void rpc_session::answer(const rpc_request& request, const result<std::string>& text) {
  if (!request.wants_reply) return;
  const auto at = in_flight_.find(request.id);
  if (at == in_flight_.end()) return;
  in_flight_.erase(at);
  if (text)
    append_reply(output_, *text, request.id);
  else
    output_ += format_error(text.error(), request.id);
}

std::uint64_t rpc_session::call(std::string_view method, const json& args) {
  const auto call = next_call_++;
  calls_.insert(call);
  output_ += format_request(method, args, std::to_string(call));
  return call;
}

void rpc_session::notify(std::string_view method, const json& args) {
  output_ += format_request(method, args, "-1");
}

std::string rpc_session::take_output() { return std::exchange(output_, {}); }

}  // namespace ntrace::net
