#include "net/http_client.hpp"

#include <curl/curl.h>
#include <fmt/core.h>

#include <array>
#include <memory>
#include <mutex>

#include "config/shown_url.hpp"
#include "config/tls_files.hpp"
#include "net/reachability.hpp"

namespace ntrace::net {
namespace {

struct sink {
  std::string body;
  std::size_t bytes_max = 0;
  bool too_long = false;
  bool is_question = false;
};

constexpr milliseconds connect_deadline{10'000};
/// Without a byte for so long, a server has gone silent.
constexpr milliseconds silence_max{30'000};

std::size_t on_body(char* data, std::size_t, std::size_t size, void* context) {
  auto& into = *static_cast<sink*>(context);
  if (into.is_question) return 0;
  if (into.body.size() + size > into.bytes_max) {
    into.too_long = true;
    return 0;
  }
  into.body.append(data, size);
  return size;
}

int on_progress(void* context, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
  const auto* stop = static_cast<const cancellation*>(context);
  return stop != nullptr && stop->is_raised() ? 1 : 0;
}

/// The host that was asked last, over redirects, with a port where the URL names one.
std::string host_of(CURL* curl, const std::string& otherwise) {
  char* url = nullptr;
  curl_easy_getinfo(curl, CURLINFO_EFFECTIVE_URL, &url);
  const std::unique_ptr<CURLU, decltype(&curl_url_cleanup)> parts{curl_url(), &curl_url_cleanup};
  if (!parts || !url || curl_url_set(parts.get(), CURLUPART_URL, url, 0) != CURLUE_OK)
    return otherwise;
  const auto part = [&](CURLUPart what) {
    char* text = nullptr;
    const bool is_there = curl_url_get(parts.get(), what, &text, 0) == CURLUE_OK;
    std::string out = is_there ? text : "";
    curl_free(text);
    return out;
  };
  const auto port = part(CURLUPART_PORT);
  return part(CURLUPART_HOST) + (port.empty() ? "" : ":" + port);
}

void set_options(CURL* curl, const http_get& request, sink& into, const cancellation* stop) {
  const bool local = request.url.starts_with("http://127.0.0.1");
  curl_easy_setopt(curl, CURLOPT_URL, request.url.c_str());
  curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR,
                   request.is_question ? "http,https"
                   : local             ? "http"
                                       : "https");
  // A question follows where git follows.
  curl_easy_setopt(curl, CURLOPT_REDIR_PROTOCOLS_STR, request.is_question ? "http,https" : "https");
  curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 1L);
  curl_easy_setopt(curl, CURLOPT_MAXREDIRS, 5L);
  curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(curl, CURLOPT_USERAGENT, "ntrace");
  curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, static_cast<long>(request.deadline.count()));
  curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(connect_deadline.count()));
  if (request.deadline > 2 * silence_max) {
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, static_cast<long>(silence_max.count() / 1000));
  }
  if (request.is_question) curl_easy_setopt(curl, CURLOPT_NOPROXY, "*");
  curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
  curl_easy_setopt(curl, CURLOPT_WRITEDATA, &into);
  curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
  curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_progress);
  curl_easy_setopt(curl, CURLOPT_XFERINFODATA, stop);
  if (!request.ca_file.empty()) curl_easy_setopt(curl, CURLOPT_CAINFO, request.ca_file.c_str());
}

error transfer_error(CURL* curl, CURLcode code, const http_get& request, const char* words) {
  long socket_error = 0;
  curl_off_t bytes = 0, took_us = 0;
  curl_easy_getinfo(curl, CURLINFO_OS_ERRNO, &socket_error);
  curl_easy_getinfo(curl, CURLINFO_SIZE_DOWNLOAD_T, &bytes);
  curl_easy_getinfo(curl, CURLINFO_TOTAL_TIME_T, &took_us);
  const bool is_slow = bytes > 0 && std::chrono::microseconds{took_us} >= request.deadline;
  const auto shown = without_passwords(request.url);
  const auto message = fmt::format("GET {}: {}", shown, *words ? words : curl_easy_strerror(code));
  const auto cause =
      cause_of_transfer({static_cast<int>(code), static_cast<int>(socket_error), is_slow});
  if (cause) return to_error({host_of(curl, shown), *cause, message});
  if (socket_error != 0 && !cause_of_socket(static_cast<int>(socket_error)))
    return io_error("connect for", "GET " + shown, static_cast<int>(socket_error));
  return {code == CURLE_OPERATION_TIMEDOUT ? ec::timed_out : ec::source_failed, message, {}};
}

http_answer answer_of(CURL* curl) {
  http_answer out;
  curl_off_t after_s = 0;
  curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &out.status);
  curl_easy_getinfo(curl, CURLINFO_RETRY_AFTER, &after_s);
  constexpr curl_off_t day_s = 86'400;
  out.retry_after = std::chrono::seconds{after_s < day_s ? after_s : day_s};
  curl_header* left = nullptr;
  if (curl_easy_header(curl, "x-ratelimit-remaining", 0, CURLH_HEADER, -1, &left) == CURLHE_OK)
    out.is_allowance_used = std::string_view{left->value} == "0";
  return out;
}

}  // namespace

result<std::string> fetch_url(const http_get& request, const cancellation* stop) {
  static std::once_flag once;
  std::call_once(once, [] { curl_global_init(CURL_GLOBAL_DEFAULT); });
  const std::unique_ptr<CURL, decltype(&curl_easy_cleanup)> handle{curl_easy_init(),
                                                                   &curl_easy_cleanup};
  if (!handle) return fail(ec::source_failed, "libcurl cannot start");
  auto* curl = handle.get();
  // libcurl would open the file itself, and wait for ever when it is a pipe.
  std::string authorities;
  if (!request.ca_file.empty()) {
    auto read = read_authorities(request.ca_file);
    if (!read) return fail(read.error());
    authorities = std::move(*read);
  }
  sink into{{}, request.bytes_max, false, request.is_question};
  std::array<char, CURL_ERROR_SIZE> words{};
  set_options(curl, request, into, stop);
  curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, words.data());
  if (!authorities.empty()) {
    curl_blob pem{authorities.data(), authorities.size(), CURL_BLOB_NOCOPY};
    curl_easy_setopt(curl, CURLOPT_CAINFO_BLOB, &pem);
  }
  const auto code = curl_easy_perform(curl);
  if (into.too_long)
    return fail(ec::source_limit, fmt::format("{} is longer than {} bytes",
                                              without_passwords(request.url), request.bytes_max));
  if (code == CURLE_ABORTED_BY_CALLBACK) return fail(ec::cancelled, "fetching was cancelled");
  const bool is_answered = request.is_question && code == CURLE_WRITE_ERROR;
  if (code != CURLE_OK && !is_answered)
    return fail(transfer_error(curl, code, request, words.data()));
  const auto answer = answer_of(curl);
  auto said = error_of(answer, host_of(curl, without_passwords(request.url)),
                       "GET " + without_passwords(request.url));
  if (said.code != ec::none) return fail(std::move(said));
  if (answer.status != 200 && !request.is_question)
    return fail(ec::source_failed,
                fmt::format("GET {} answered {}", without_passwords(request.url), answer.status));
  return std::move(into.body);
}

}  // namespace ntrace::net
