#pragma once
// result<T>: a value or an ntrace::error. Nothing of ours reports failure by an exception.
#include <tl/expected.hpp>

#include "config/error.hpp"

namespace ntrace {

template <class T>
using result = tl::expected<T, error>;

/// Makes the failing result: `return fail(ec::not_found, "no run …")`.
inline tl::unexpected<error> fail(ec code, std::string message) {
  return tl::unexpected<error>{error{code, std::move(message), {}}};
}
inline tl::unexpected<error> fail(error e) { return tl::unexpected<error>{std::move(e)}; }

}  // namespace ntrace
