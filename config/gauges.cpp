#include "config/gauges.hpp"

#include <mutex>

namespace ntrace::gauges {
namespace {
struct registry {
  std::mutex guard;
  std::map<std::string, std::atomic<std::int64_t>> values;
};
registry& the_registry() {
  static registry instance;
  return instance;
}
}  // namespace

std::atomic<std::int64_t>& value(const std::string& name) {
  auto& all = the_registry();
  const std::lock_guard lock{all.guard};
  return all.values[name];
}

std::map<std::string, std::int64_t> snapshot() {
  auto& all = the_registry();
  const std::lock_guard lock{all.guard};
  std::map<std::string, std::int64_t> out;
  for (const auto& [name, value] : all.values) out[name] = value.load();
  return out;
}

}  // namespace ntrace::gauges
