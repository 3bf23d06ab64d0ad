#pragma once
// What a strict reader accepts of HTTP/1 (RFC 9112): the fields of a head and the framing of a
// body. Where two readers could differ about where a message ends, it is refused. Pure.
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "config/result.hpp"

namespace ntrace::net {

/// Counts the bytes of one body and so finds its end. As made: no body.
class http_body {
public:
  static http_body none() { return of_length(0); }
  static http_body of_length(std::uint64_t bytes);
  /// Sizes of up to 15 hexadecimal digits, no extensions, no trailers.
  static http_body chunked();
  /// Until the sender closes.
  static http_body to_the_end();

  /// How many of `bytes`, from their begin, belong to the body. ec::bad_request for a malformed
  /// chunk: nothing of `bytes` is to be passed on then.
  result<std::size_t> take(std::string_view bytes);
  /// True once the last byte was taken; never for one without an end of its own.
  bool is_done() const { return state_ == state::done; }
  bool is_chunked() const { return is_chunked_; }
  bool ends_with_connection() const { return state_ == state::endless; }

private:
  enum class state {
    size,
    size_lf,
    data,
    data_cr,
    data_lf,
    last_cr,
    last_lf,
    plain,
    endless,
    done
  };
  result<void> on_control(char c);
  state state_ = state::done;
  std::uint64_t left_ = 0;
  int digits_ = 0;
  bool is_chunked_ = false;
};

struct http_field {
  std::string name;   ///< Lower case.
  std::string value;  ///< Without blanks around it.
};
using http_fields = std::vector<http_field>;

/// The one value of a field; nothing when it is absent. ec::bad_request when it comes twice.
result<std::optional<std::string>> only_value(const http_fields& all, std::string_view name);

/// A head's first line and its fields. `head` ends with a blank line. ec::bad_request names the
/// rule that it breaks. `is_answer`: values may hold bytes above 0x7f, and names
/// underscores.
struct http_head {
  std::string first_line;
  http_fields fields;
};
result<http_head> parse_http_head(std::string_view head, bool is_answer);

/// What the fields say about the body: nothing when they do not speak of one.
/// ec::bad_request for two lengths, a length that is no number, both a length and a coding, and any
/// coding but `chunked`.
result<std::optional<http_body>> framing_of(const http_fields& all);

/// The fields that are for the next hop, in order: without those of one connection, those that
/// Connection names, Expect and Host. ec::bad_request when Connection names one that frames or
/// routes a message.
result<http_fields> end_to_end(const http_fields& all);

bool is_http_token(std::string_view text);

}  // namespace ntrace::net
