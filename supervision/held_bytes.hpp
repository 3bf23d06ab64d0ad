#pragma once
// How many bytes a message holds, for the bounds of façades: of each type that a message can have.
#include <boost/pfr.hpp>
#include <caf/actor.hpp>
#include <caf/allowed_unsafe_message_type.hpp>
#include <caf/message.hpp>
#include <functional>
#include <nlohmann/json.hpp>
#include <ranges>
#include <string>
#include <tuple>
#include <type_traits>
#include <typeinfo>
#include <utility>
#include <variant>

#include "config/cancellation.hpp"

namespace ntrace::supervision {

/// True for a type whose objects are handles: an actor, a promise, a descriptor, a function. What
/// lies behind one belongs to somebody else and is not counted. Specialise it for such a type.
template <class T>
inline constexpr bool is_handle = false;
template <>
inline constexpr bool is_handle<caf::actor> = true;
template <>
inline constexpr bool is_handle<unique_fd> = true;
template <>
inline constexpr bool is_handle<cancellation> = true;
template <class R, class... Args>
inline constexpr bool is_handle<std::function<R(Args...)>> = true;

/// Bytes beyond the object itself, of texts and everything nested.
std::size_t bytes_beyond(const nlohmann::json& value);
std::size_t bytes_beyond(const caf::message& value);
template <class T>
std::size_t bytes_beyond(const T& value);

/// Bytes of the object and of all that it owns. What is shared counts whole: the message keeps it.
template <class T>
std::size_t bytes_of(const T& value) {
  return sizeof value + bytes_beyond(value);
}

namespace detail {
template <class T>
concept pointer_like = requires(const T& p) {
  static_cast<bool>(p);
  *p;
};
template <class T>
concept tuple_like = requires {
  std::tuple_size<T>::value;
};
template <class T>
concept variant_like = requires {
  std::variant_size<T>::value;
};
/// A value or an error, as tl::expected.
template <class T>
concept result_like = requires(const T& r) {
  r.has_value();
  r.error();
};
template <class T>
inline constexpr bool dependent_false = false;
}  // namespace detail

template <class T>
std::size_t bytes_beyond(const T& value) {
  if constexpr (std::is_trivially_copyable_v<T> || is_handle<T>) {
    return 0;
  } else if constexpr (detail::result_like<T>) {
    if (!value.has_value()) return bytes_of(value.error());
    if constexpr (std::is_void_v<typename T::value_type>)
      return 0;
    else
      return bytes_beyond(*value);
  } else if constexpr (std::ranges::sized_range<const T>) {
    using element = std::ranges::range_value_t<const T>;
    std::size_t out = std::ranges::size(value) * sizeof(element);
    if constexpr (!std::is_trivially_copyable_v<element>)
      for (const auto& one : value) out += bytes_beyond(one);
    return out;
  } else if constexpr (detail::variant_like<T>) {
    return std::visit([](const auto& one) { return bytes_beyond(one); }, value);
  } else if constexpr (detail::tuple_like<T>) {
    return std::apply([](const auto&... parts) { return (bytes_beyond(parts) + ... + 0); }, value);
  } else if constexpr (detail::pointer_like<T>) {
    // Behind an interface stands an object of its own, of which only the pointer is known.
    using pointee = std::remove_cvref_t<decltype(*value)>;
    if constexpr (std::is_polymorphic_v<pointee>)
      return 0;
    else
      return value ? bytes_of(*value) : 0;
  } else if constexpr (std::is_aggregate_v<T>) {
    std::size_t out = 0;
    boost::pfr::for_each_field(value, [&out](const auto& part) { out += bytes_beyond(part); });
    return out;
  } else {
    static_assert(detail::dependent_false<T>,
                  "say what T holds: overload bytes_beyond, or specialise is_handle");
  }
}

/// Makes a type's size known to façades; NTRACE_LOCAL_MESSAGE calls it before main.
bool measure_by(const std::type_info& type, std::size_t (*measure)(const void*));
template <class T>
bool measure_messages_of() {
  return measure_by(typeid(T),
                    [](const void* value) { return bytes_of(*static_cast<const T*>(value)); });
}

}  // namespace ntrace::supervision

#define NTRACE_JOINED_(a, b) a##b
#define NTRACE_JOINED(a, b) NTRACE_JOINED_(a, b)
/// A type whose messages stay in the process: CAF may pass it without serializing it, and façades
/// know how many bytes it holds. At namespace scope, outside of all namespaces.
#define NTRACE_LOCAL_MESSAGE(type)                                                             \
  CAF_ALLOW_UNSAFE_MESSAGE_TYPE(type)                                                          \
  namespace ntrace::supervision::measured {                                                    \
  [[maybe_unused]] static const bool NTRACE_JOINED(at_line_,                                   \
                                                   __COUNTER__) = measure_messages_of<type>(); \
  }
