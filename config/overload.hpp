#pragma once
namespace ntrace {
/// The visitor idiom: `std::visit(overload{…}, variant)`.
template <class... Ts>
struct overload : Ts... {
  using Ts::operator()...;
};
template <class... Ts>
overload(Ts...) -> overload<Ts...>;
}  // namespace ntrace
