#pragma once
#include <caf/io/broker.hpp>

namespace ntrace::supervision {

/// What our brokers are: a broker that closes its mailbox when it ends. CAF 0.17.6's own leaves it
/// open: a request to a dead broker waits for the whole time-out instead of getting an error, and a
/// message that the broker had sent itself keeps it in memory for ever.
class closing_broker : public caf::io::broker {
public:
  using caf::io::broker::broker;
  bool cleanup(caf::error&& reason, caf::execution_unit* host) override {
    close_all();
    // Past the brokers' own, which leaves out what all other actors do here.
    return caf::scheduled_actor::cleanup(std::move(reason), host);
  }
};

}  // namespace ntrace::supervision
