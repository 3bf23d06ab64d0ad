#pragma once
// What a façade holds and when it lets go: messages that wait for an incarnation, and requests that
// one has not answered yet. Pure; the messages themselves stay with the caller, by id.
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "config/clock.hpp"
#include "config/error.hpp"

namespace ntrace::supervision {

struct facade_options {
  std::size_t count_max = 4096;       ///< Messages held; one more is answered overloaded.
  std::size_t bytes_max = 64u << 20;  ///< The same for their bytes.
  milliseconds wait_max{30'000};      ///< Longest wait for an incarnation; then timed_out.
  /// Requests that an incarnation did not answer go to the next one, with the same id. False for a
  /// child whose work must not be begun twice: then they are answered child_failed.
  bool resend = true;
};

struct forward {
  std::uint64_t id;
};  ///< Send it to the incarnation.
struct deny {
  std::uint64_t id;
  ec code;
  std::string why;
};  ///< Answer it with this error, and forget it.
struct look_again {
  time_point at;
};  ///< Call on_tick() then.
using facade_effects = std::vector<std::variant<forward, deny, look_again>>;

class facade_fsm {
public:
  explicit facade_fsm(facade_options options = {}) : options_{options} {}

  /// A message to the child. Ids rise by one with each. `deadline`: the sender's own.
  facade_effects on_message(time_point now, std::uint64_t id, std::size_t bytes, bool wants_answer,
                            std::optional<time_point> deadline);
  /// True when it is to be delivered; false for a second answer or one to a denied request.
  bool on_answer(std::uint64_t id);
  facade_effects on_up(time_point now);
  facade_effects on_down(time_point now, const std::string& reason);
  /// There will be no further incarnation.
  facade_effects on_gone();
  facade_effects on_tick(time_point now);

  bool resends() const { return options_.resend; }
  std::size_t held() const { return held_.size(); }
  std::size_t bytes() const { return bytes_; }
  bool is_up() const { return is_up_; }

private:
  struct entry {
    std::size_t bytes = 0;
    bool wants_answer = false;
    std::optional<time_point> deadline;
    time_point waits_until{};
  };
  using iterator = std::map<std::uint64_t, entry>::iterator;

  iterator drop(iterator at);
  void expire(time_point now, facade_effects& out);

  facade_options options_;
  std::map<std::uint64_t, entry> held_;
  std::size_t bytes_ = 0;
  bool is_up_ = false, is_gone_ = false;
};

}  // namespace ntrace::supervision
