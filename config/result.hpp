#pragma once
// result<T>: a value or an ntrace::error. Nothing of ours reports failure by an exception.
#include <tl/expected.hpp>

#include "config/error.hpp"

namespace ntrace {

/// A call that gives one may have failed: the compiler refuses to drop it. What may truly be
/// ignored is cast to void, and a comment says why.
template <class T>
class [[nodiscard]] result : public tl::expected<T, error> {
public:
  using tl::expected<T, error>::expected;
  result() = default;
  result(const tl::expected<T, error>& other) : tl::expected<T, error>{other} {}
  result(tl::expected<T, error>&& other) : tl::expected<T, error>{std::move(other)} {}
};

/// Makes the failing result: `return fail(ec::not_found, "no run …")`.
inline tl::unexpected<error> fail(ec code, std::string message) {
  return tl::unexpected<error>{error{code, std::move(message), {}}};
}
inline tl::unexpected<error> fail(error e) { return tl::unexpected<error>{std::move(e)}; }

}  // namespace ntrace
