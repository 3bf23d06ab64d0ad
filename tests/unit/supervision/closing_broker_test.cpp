// Real time and threads: brokers have no virtual ones.
#include "supervision/closing_broker.hpp"

#include <gtest/gtest.h>
#include <caf/actor_system.hpp>
#include <caf/actor_system_config.hpp>
#include <caf/io/middleman.hpp>
#include <caf/scoped_actor.hpp>

#include "supervision/held_bytes.hpp"
#include "tests/support/eventually.hpp"

using namespace ntrace;
using namespace std::chrono_literals;
using supervision::closing_broker;

struct token {
  std::shared_ptr<int> held;
};
NTRACE_LOCAL_MESSAGE(token)

namespace {

using ping_atom = caf::atom_constant<caf::atom("ping")>;
using last_atom = caf::atom_constant<caf::atom("last")>;

class closing_broker_of : public ::testing::Test {
protected:
  struct config : caf::actor_system_config {
    config() {
      load<caf::io::middleman>();
      set("logger.verbosity", caf::atom("quiet"));
    }
  };
  config config_;
  caf::actor_system system{config_};
  caf::scoped_actor self{system};
  std::weak_ptr<int> held;
  /// Told (last), it sends itself a message that arrives after its end.
  caf::actor uut = system.middleman().spawn_broker([](closing_broker* broker) -> caf::behavior {
    return {[](ping_atom) { return 1; }, [](const token&) {},
            [=](last_atom, const token& t) {
              broker->delayed_send(broker, 20ms, t);
              broker->quit();
            }};
  });

  void end() {
    auto made = std::make_shared<int>(1);
    held = made;
    self->monitor(uut);
    self->send(uut, last_atom::value, token{std::move(made)});
    self->receive([](const caf::down_msg&) {});
  }
};

}  // namespace

TEST_F(closing_broker_of, answers_with_an_error_who_asks_it_after_its_end) {
  self->request(uut, 30s, ping_atom::value)
      .receive([](int n) { EXPECT_EQ(n, 1); }, [](const caf::error&) { FAIL(); });
  end();
  self->request(uut, 30s, ping_atom::value)
      .receive([](int) { FAIL() << "it is dead"; },
               [](const caf::error& e) {
                 EXPECT_EQ(e, caf::sec::request_receiver_down) << "and at once";
               });
}

TEST_F(closing_broker_of, keeps_nothing_of_what_arrives_after_its_end) {
  end();
  test::eventually(30s, [&] { return held.expired(); });
}
