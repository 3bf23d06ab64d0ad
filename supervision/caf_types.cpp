#include "supervision/caf_types.hpp"

#include <caf/actor_system.hpp>
#include <caf/exit_reason.hpp>
#include <caf/message.hpp>
#include <caf/uniform_type_info_map.hpp>

#include <chrono>
#include <cstdlib>
#include <stdexcept>
#include <thread>

#include "config/gauges.hpp"
#include "config/log.hpp"
#include "supervision/death_watch.hpp"
#include "supervision/type_name.hpp"

namespace ntrace::supervision {
namespace {

const auto category = caf::atom("ntrace");
using fact_list = std::vector<std::string>;  // name, value, name, value …

/// What kind of message an actor was handling: its leading atom, else the types of its parts.
std::string kind_of(const caf::uniform_type_info_map& types, const caf::mailbox_element* m) {
  if (!m) return "its start";
  const auto& content = m->content();
  std::string out;
  for (std::size_t i = 0; i < content.size(); ++i) {
    if (i > 0) out += ", ";
    if (content.match_element<caf::atom_value>(i))
      out += caf::to_string(content.get_as<caf::atom_value>(i));
    else if (const auto* type = content.type(i).second)
      out += demangled(type->name());
    else
      out += types.portable_name(content.type(i).first, nullptr);
  }
  return "(" + out + ")";
}

constexpr std::chrono::seconds hang{10};

/// What a bug or a slow disk would do: a hang holds up all that shares its thread.
void fail_as_told(const std::string& how) {
  if (how == "throw") throw std::runtime_error("an injected fault");
  std::this_thread::sleep_for(hang);
}

}  // namespace

std::string exception_text(const std::exception& e) {
  return demangled(typeid(e).name()) + ": " + e.what();
}

caf::error to_caf(const error& e) {
  fact_list facts;
  for (const auto& [name, value] : e.facts) facts.insert(facts.end(), {name, value});
  return caf::error{static_cast<std::uint8_t>(e.code), category,
                    facts.empty() ? caf::make_message(e.message)
                                  : caf::make_message(e.message, std::move(facts))};
}

caf::error to_caf(const error& e, const caf::actor& about) {
  return caf::error{static_cast<std::uint8_t>(e.code), category,
                    caf::make_message(e.message, about)};
}

caf::actor address_in(const caf::error& e) {
  return e.context().match_elements<std::string, caf::actor>() ? e.context().get_as<caf::actor>(1)
                                                               : nullptr;
}

caf::error to_caf(const exit_reason& reason) {
  switch (reason.kind) {
    case exit_kind::normal:
      return caf::exit_reason::normal;
    case exit_kind::shutdown:
      return caf::error{static_cast<std::uint8_t>(caf::exit_reason::user_shutdown),
                        caf::atom("exit"), caf::make_message(reason.text)};
    case exit_kind::killed:
      return caf::exit_reason::kill;
    case exit_kind::failed:
      break;
  }
  return to_caf(error{ec::child_failed, reason.text, {}});
}

error from_caf(const caf::error& e) {
  if (e.category() == category) {
    const auto code =
        e.code() <= static_cast<std::uint8_t>(ec::last) ? static_cast<ec>(e.code()) : ec::defect;
    std::string text;
    if (!e.context().empty() && e.context().match_element<std::string>(0))
      text = e.context().get_as<std::string>(0);
    error out{code, std::move(text), {}};
    if (e.context().match_elements<std::string, fact_list>()) {
      const auto& facts = e.context().get_as<fact_list>(1);
      for (std::size_t i = 0; i + 1 < facts.size(); i += 2)
        out.facts.emplace_back(facts[i], facts[i + 1]);
    }
    return out;
  }
  return {ec::child_failed, caf::to_string(e), {}};
}

exit_reason exit_reason_of(const caf::error& e) {
  if (!e || e == caf::exit_reason::normal) return {exit_kind::normal, ""};
  if (e == caf::exit_reason::user_shutdown)
    return {exit_kind::shutdown,
            e.context().match_elements<std::string>() ? e.context().get_as<std::string>(0) : ""};
  if (e == caf::exit_reason::kill) return {exit_kind::killed, "killed"};
  const auto ours = from_caf(e);
  return {exit_kind::failed, ours.code == ec::child_failed ? ours.message : to_string(ours)};
}

namespace {

/// "type: text" of what was thrown while `self` handled its current message.
std::string words_of(caf::scheduled_actor* self, const std::exception_ptr& thrown) {
  std::string text = "an exception of unknown type";
  try {
    std::rethrow_exception(thrown);
  } catch (const std::exception& e) {
    text = exception_text(e);
  } catch (...) {
    // The text above says all that is known.
  }
  return text + " while handling " +
         kind_of(self->system().types(), self->current_mailbox_element());
}

/// Runs a step of an actor's end; what it throws is logged, and ends nothing else.
template <class Step>
void end_step(caf::scheduled_actor* self, const char* name, const char* step, Step run) {
  try {
    run();
  } catch (...) {
    static auto& late = gauges::value("actor_exceptions_at_end");
    ++late;
    log::error(
        "actor.end_failed",
        {{"actor", name}, {"step", step}, {"reason", words_of(self, std::current_exception())}});
  }
}

/// CAF ends an actor after its exception handler, where an exception ends the process. So it is
/// ended here: on_exit() runs (again, if it has thrown itself), and then what is attached to it.
/// Its handlers go as well: they hold what they captured, which may in turn hold this actor for
/// ever.
void end_here(caf::scheduled_actor* self, const char* name, const caf::error& why) {
  self->quit(why);
  if (!self->getf(caf::abstract_actor::is_cleaned_up_flag)) {
    end_step(self, name, "on_exit", [&] { self->on_exit(); });
    end_step(self, name, "attached", [&] { self->cleanup(caf::error{why}, self->context()); });
    end_step(self, name, "handlers", [&] { self->bhvr_stack().cleanup(); });
  }
  tell_last_words(self, why);
}

}  // namespace

void guard(caf::scheduled_actor* self, const char* name) {
  promise_last_words(self);
  self->set_default_handler(
      [name](caf::scheduled_actor* me, caf::message_view& view) -> caf::result<caf::message> {
        const auto& content = view.content();
        if (content.match_elements<fault_atom, std::string>()) {
          fail_as_told(content.get_as<std::string>(1));
          return caf::message{};
        }
        static auto& unexpected = gauges::value("actor_messages_unexpected");
        ++unexpected;
        log::warn("actor.message_unexpected",
                  {{"actor", name},
                   {"message", kind_of(me->system().types(), me->current_mailbox_element())}});
        return caf::sec::unexpected_message;
      });
  self->set_exception_handler(
      [name](caf::scheduled_actor* me, std::exception_ptr& x) -> caf::error {
        const auto text = words_of(me, x);
        static auto& exceptions = gauges::value("actor_exceptions");
        ++exceptions;
        log::error("actor.failed", {{"actor", name}, {"reason", text}});
        const auto why = to_caf(error{ec::child_failed, std::string{name} + ": " + text, {}});
        end_here(me, name, why);
        return why;
      });
}

}  // namespace ntrace::supervision
