#include "net/http_client.hpp"

#include <curl/curl.h>

#include <array>
#include <memory>
#include <mutex>

#include "config/tls_files.hpp"

namespace ntrace::net {
namespace {

struct sink {
  std::string body;
  std::size_t bytes_max = 0;
  bool too_long = false;
};

std::size_t on_body(char* data, std::size_t, std::size_t size, void* context) {
  auto& into = *static_cast<sink*>(context);
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
  sink into{{}, request.bytes_max, false};
  std::array<char, CURL_ERROR_SIZE> words{};
  const bool local = request.url.starts_with("http://127.0.0.1");
  curl_easy_setopt(curl, CURLOPT_URL, request.url.c_str());
  curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, local ? "http" : "https");
  curl_easy_setopt(curl, CURLOPT_REDIR_PROTOCOLS_STR, "https");
  curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 1L);
  curl_easy_setopt(curl, CURLOPT_MAXREDIRS, 5L);
  curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(curl, CURLOPT_USERAGENT, "ntrace");
  curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, static_cast<long>(request.deadline.count()));
  curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, 10'000L);
  curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
  curl_easy_setopt(curl, CURLOPT_WRITEDATA, &into);
  curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
  curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_progress);
  curl_easy_setopt(curl, CURLOPT_XFERINFODATA, stop);
  curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, words.data());
  if (!authorities.empty()) {
    curl_blob pem{authorities.data(), authorities.size(), CURL_BLOB_NOCOPY};
    curl_easy_setopt(curl, CURLOPT_CAINFO_BLOB, &pem);
  }
  const auto code = curl_easy_perform(curl);
  if (into.too_long)
    return fail(ec::source_limit,
                request.url + " is longer than " + std::to_string(request.bytes_max) + " bytes");
  if (code == CURLE_ABORTED_BY_CALLBACK) return fail(ec::cancelled, "fetching was cancelled");
  if (code != CURLE_OK)
    return fail(ec::source_failed,
                "GET " + request.url + ": " + (words[0] ? words.data() : curl_easy_strerror(code)));
  long status = 0;
  curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
  if (status != 200)
    return fail(status == 404 || status == 410 ? ec::not_found : ec::source_failed,
                "GET " + request.url + " answered " + std::to_string(status));
  return std::move(into.body);
}

}  // namespace ntrace::net
