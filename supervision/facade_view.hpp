#pragma once
// What a façade shows of the child behind it.
#include <caf/actor.hpp>
#include <string>

#include "config/clock.hpp"

namespace ntrace::supervision {

/// The oldest request that the child has not answered: what it does now, or what holds it up.
struct facade_doing {
  std::string what;  ///< The message's leading atom, else the type of its first part; empty: none.
  milliseconds since{0};  ///< Since it came to the façade.
};
facade_doing doing_of_facade(const caf::actor& facade);

}  // namespace ntrace::supervision
