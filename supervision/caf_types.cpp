#include "supervision/caf_types.hpp"

#include <cxxabi.h>
#include <caf/actor_system.hpp>
#include <caf/exit_reason.hpp>
#include <caf/message.hpp>

#include <cstdlib>

#include "config/gauges.hpp"
#include "config/log.hpp"

namespace ntrace::supervision {
namespace {

const auto category = caf::atom("ntrace");

std::string type_name(const std::exception& e) {
  int status = 0;
  const std::unique_ptr<char, decltype(&std::free)> name{
      abi::__cxa_demangle(typeid(e).name(), nullptr, nullptr, &status), &std::free};
  return status == 0 ? name.get() : typeid(e).name();
}

}  // namespace

caf::error to_caf(const error& e) {
  return caf::error{static_cast<std::uint8_t>(e.code), category, caf::make_message(e.message)};
}

error from_caf(const caf::error& e) {
  if (e.category() == category) {
    const auto code =
        e.code() <= static_cast<std::uint8_t>(ec::last) ? static_cast<ec>(e.code()) : ec::defect;
    std::string text;
    if (e.context().match_elements<std::string>()) text = e.context().get_as<std::string>(0);
    return {code, std::move(text), {}};
  }
  return {ec::child_failed, caf::to_string(e), {}};
}

exit_reason exit_reason_of(const caf::error& e) {
  if (!e || e == caf::exit_reason::normal) return {exit_kind::normal, ""};
  if (e == caf::exit_reason::user_shutdown) return {exit_kind::shutdown, ""};
  if (e == caf::exit_reason::kill) return {exit_kind::killed, "killed"};
  return {exit_kind::failed, to_string(from_caf(e))};
}

void guard(caf::scheduled_actor* self, const char* name) {
  self->set_exception_handler([name](caf::scheduled_actor*, std::exception_ptr& x) -> caf::error {
    std::string text = "an exception of unknown type";
    try {
      std::rethrow_exception(x);
    } catch (const std::exception& e) {
      text = type_name(e) + ": " + e.what();
    } catch (...) {
      // The text above says all that is known.
    }
    ++gauges::value("actor_exceptions");
    log::error("actor.failed", {{"actor", name}, {"reason", text}});
    return to_caf({ec::child_failed, std::string{name} + ": " + text, {}});
  });
}

}  // namespace ntrace::supervision
