#pragma once
// What a server or link of the line protocol tells the actor that serves its methods, and back.
#include <caf/allowed_unsafe_message_type.hpp>
#include <caf/atom.hpp>
#include <caf/response_promise.hpp>
#include <nlohmann/json.hpp>
#include <string>

#include "config/peer_id.hpp"
#include "config/result.hpp"
#include "supervision/held_bytes.hpp"

namespace ntrace::rpc {

/// A request of a peer; answered by a `served`, or by an error.
struct call {
  peer_id peer = 0;
  std::string method;
  nlohmann::json args;
  std::string address{};  ///< The peer's host.
};
struct served {
  nlohmann::json value;
};
/// The peer closed its side; what it asked before is still answered.
struct peer_gone {
  peer_id peer = 0;
};
/// A port begins, perhaps in place of one that failed: of its peers none below `first` is there any
/// more.
struct port_opened {
  peer_id first = 0;
};
/// Call the peer's method without waiting for an answer.
struct notify {
  peer_id peer = 0;
  std::string method;
  nlohmann::json args;
};
}  // namespace ntrace::rpc

NTRACE_LOCAL_MESSAGE(ntrace::rpc::call)
NTRACE_LOCAL_MESSAGE(ntrace::rpc::served)
NTRACE_LOCAL_MESSAGE(ntrace::rpc::peer_gone)
NTRACE_LOCAL_MESSAGE(ntrace::rpc::port_opened)
NTRACE_LOCAL_MESSAGE(ntrace::rpc::notify)

namespace ntrace::rpc {
// Lambdas hold promises as constants; delivering goes through a copy.
inline void give(caf::response_promise promise, nlohmann::json value) {
  promise.deliver(served{std::move(value)});
}
inline void deny(caf::response_promise promise, const caf::error& e) { promise.deliver(e); }
}  // namespace ntrace::rpc
