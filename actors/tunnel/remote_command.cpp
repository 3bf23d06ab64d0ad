#include "actors/tunnel/remote_command.hpp"

#include <fmt/core.h>
#include <charconv>

namespace ntrace::tunnel {
namespace {

constexpr std::string_view first_word = "NTRACE_PID ", last_word = "\nNTRACE_EXIT ";
constexpr std::size_t first_line_max = 128;  // else something else spoke first

std::string shell_word(std::string_view word) {
  std::string out = "'";
  for (const char c : word)
    if (c == '\'')
      out += "'\\''";
    else
      out += c;
  return out + "'";
}

std::optional<int> number_in(std::string_view text) {
  int out = 0;
  const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), out);
  if (ec != std::errc{} || end != text.data() + text.size() || out < 0) return {};
  return out;
}

}  // namespace

result<std::string> quote_for_sh(const std::vector<std::string>& argv) {
  if (argv.empty()) return fail(ec::bad_argument, "a remote command needs at least one word");
  std::string out;
  for (const auto& word : argv) {
    if (word.find('\0') != word.npos)
      return fail(ec::bad_argument,
                  "a word of a remote command holds a NUL: " + shell_word(word.c_str()));
    out += (out.empty() ? "" : " ") + shell_word(word);
  }
  return out;
}

result<std::string> remote_line(const std::vector<std::string>& argv, std::string_view nonce) {
  const auto words = quote_for_sh(argv);
  if (!words) return fail(words.error());
  // The nonce stands early, because some ps(1) show 80 characters. A trap that does something is
  // not inherited, so the command meets the signal as usual and the shell lives to tell its end.
  return "exec /bin/sh -c ': " + std::string{nonce} +
         "; trap : TERM INT HUP; echo \"NTRACE_PID $$\" >&2; \"$@\"; s=$?; "
         "printf \"\\nNTRACE_EXIT %s %s\\n\" \"$0\" \"$s\" >&2; exit \"$s\"' " +
         std::string{nonce} + " " + *words;
}

std::string cancel_line(int pid, std::string_view nonce, std::string_view signal) {
  const auto id = std::to_string(pid);
  return fmt::format("ps -o args= -p {} | grep -q ': {};' || exit 0; kill -{} -- -{}; exit 1", id,
                     nonce, signal, id);
}

remote_stderr::remote_stderr(std::string nonce, std::size_t bytes_max)
    : nonce_{std::move(nonce)}, bytes_max_{bytes_max} {}

void remote_stderr::add(std::string_view bytes) {
  if (!is_begun_) {
    head_ += bytes;
    const auto end = head_.find('\n');
    if (end == head_.npos && head_.size() < first_line_max) return;
    is_begun_ = true;
    if (end != head_.npos && head_.starts_with(first_word))
      pid_ = number_in(std::string_view{head_}.substr(first_word.size(), end - first_word.size()));
    const auto rest = pid_ ? head_.substr(end + 1) : head_;
    head_.clear();
    return rest.empty() ? void() : add(rest);
  }
  tail_ += bytes;
  // As much as the last line can be stays in the tail.
  const auto last_line_max = last_word.size() + nonce_.size() + 16;
  if (tail_.size() <= last_line_max) return;
  const auto surplus = tail_.size() - last_line_max;
  const auto room = bytes_max_ - kept_.size();
  if (surplus > room) is_truncated_ = true;
  kept_.append(tail_, 0, std::min(surplus, room));
  tail_.erase(0, surplus);
}

std::optional<int> remote_stderr::status() const {
  const auto said = std::string{last_word} + nonce_ + " ";
  const auto at = tail_.rfind(said);
  if (at == tail_.npos || !tail_.ends_with('\n')) return {};
  const auto begin = at + said.size();
  return number_in(std::string_view{tail_}.substr(begin, tail_.size() - begin - 1));
}

std::string remote_stderr::text() const {
  auto out = kept_ + head_;
  const auto own = status() ? tail_.rfind(last_word) : tail_.size();
  out.append(tail_, 0, own);
  if (out.size() > bytes_max_) out.resize(bytes_max_);
  return out;
}

}  // namespace ntrace::tunnel
