#include "config/ids.hpp"

#include <ctime>

#include "config/ascii.hpp"
#include "config/clock.hpp"

namespace ntrace {
namespace {
constexpr std::string_view base32 = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
constexpr std::string_view base16 = "0123456789abcdef";
}  // namespace

std::string first_ulid(std::int64_t at_ms) {
  std::string out(26, '0');
  auto time = static_cast<std::uint64_t>(at_ms);
  for (int i = 9; i >= 0; --i, time >>= 5) out[static_cast<std::size_t>(i)] = base32[time & 31];
  return out;
}

std::string make_ulid(std::int64_t at_ms, random_source& random) {
  auto out = first_ulid(at_ms);
  for (std::size_t i = 10; i < 26; ++i) out[i] = base32[random.next() & 31];
  return out;
}

std::string ulid_source::next(std::int64_t at_ms, random_source& random) {
  if (at_ms > last_ms_) {
    last_ms_ = at_ms;
    last_ = make_ulid(at_ms, random);
    last_[10] = base32[random.next() & 15];  // Room above for those that follow.
    return last_;
  }
  for (std::size_t i = 26; i-- > 0;) {
    const auto digit = base32.find(last_[i]);
    last_[i] = base32[(digit + 1) & 31];
    if (digit != 31) break;
  }
  return last_;
}

bool is_ulid(std::string_view text) noexcept {
  return text.size() == 26 && text.find_first_not_of(base32) == std::string_view::npos &&
         text[0] <= '7';
}

std::string make_uuid(random_source& random) {
  std::string out = "xxxxxxxx-xxxx-4xxx-yxxx-xxxxxxxxxxxx";
  for (auto& c : out) {
    if (c == 'x') c = base16[random.next() & 15];
    if (c == 'y') c = base16[8 + (random.next() & 3)];
  }
  return out;
}

bool is_uuid(std::string_view text) noexcept {
  if (text.size() != 36) return false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const bool dash = i == 8 || i == 13 || i == 18 || i == 23;
    if (dash ? text[i] != '-' : !hex_value(text[i])) return false;
  }
  return true;
}

std::string format_wall(std::int64_t ms) {
  const std::time_t seconds = ms / 1000;
  std::tm parts{};
  gmtime_r(&seconds, &parts);
  char text[40];
  const auto n = std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &parts);
  char millis[16];
  std::snprintf(millis, sizeof millis, ".%03dZ", static_cast<int>(ms % 1000));
  return std::string{text, n} + millis;
}

}  // namespace ntrace
