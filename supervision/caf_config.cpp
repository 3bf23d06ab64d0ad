#include "supervision/caf_config.hpp"

namespace ntrace::supervision {

caf_config::caf_config(std::size_t workers) {
  set("scheduler.policy", caf::atom("sharing"));
  set("scheduler.max-threads", workers);
  set("middleman.enable-automatic-connections", false);
}

}  // namespace ntrace::supervision
