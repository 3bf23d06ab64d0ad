#include "actors/rpc/messages/answers.hpp"

namespace ntrace::rpc {

nlohmann::json to_json(const drain_answer& m) { return {{"draining", m.is_draining}}; }

nlohmann::json to_json(const answer_value& m) {
  return std::visit([](const auto& one) { return to_json(one); }, m);
}

}  // namespace ntrace::rpc
