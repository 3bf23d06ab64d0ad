#pragma once
// The actor over supervisor_fsm: starts children, monitors them (never links), and performs what
// the machine decides.
#include <caf/actor.hpp>
#include <caf/event_based_actor.hpp>
#include <caf/fwd.hpp>
#include <functional>
#include <nlohmann/json.hpp>

#include "supervision/facade.hpp"
#include "supervision/facade_set.hpp"
#include "supervision/held_bytes.hpp"
#include "supervision/supervisor_fsm.hpp"

namespace ntrace::supervision {

/// Starts one incarnation without blocking; a null actor means that the child wants no process. The
/// actor must not be linked to the supervisor.
class start_function {
public:
  using function = std::function<result<caf::actor>(caf::local_actor*)>;

  start_function() = default;
  template <class F>
  requires(!std::is_same_v<std::remove_cvref_t<F>, start_function> &&
           std::is_constructible_v<function, F>) start_function(F start)
      : start_{std::move(start)} {}
  /// Of a supervisor, whose children have the façades `inner`.
  start_function(function start, std::shared_ptr<facade_set> inner)
      : start_{std::move(start)}, inner_{std::move(inner)} {}

  result<caf::actor> operator()(caf::local_actor* by) const { return start_(by); }
  const std::shared_ptr<facade_set>& inner() const { return inner_; }

private:
  function start_;
  std::shared_ptr<facade_set> inner_;
};

struct child {
  child_spec spec;
  start_function start;
  caf::actor front{};  ///< The façade that follows its incarnations; null: (ref, id) makes one.
  /// The start is over when the actor has answered (wait). Supervisors always do.
  bool reports_ready = false;
  facade_options held{};  ///< Of the façade that (ref, id) makes.
};

using add_child_atom = caf::atom_constant<caf::atom("add")>;
using terminate_atom = caf::atom_constant<caf::atom("terminate")>;
using restart_atom = caf::atom_constant<caf::atom("restart")>;
using delete_atom = caf::atom_constant<caf::atom("delete")>;
using which_atom = caf::atom_constant<caf::atom("which")>;
using count_atom = caf::atom_constant<caf::atom("count")>;
using spec_atom = caf::atom_constant<caf::atom("spec")>;
using ref_atom = caf::atom_constant<caf::atom("ref")>;
using tree_atom = caf::atom_constant<caf::atom("tree")>;
using wait_atom = caf::atom_constant<caf::atom("wait")>;
using act_atom = caf::atom_constant<caf::atom("act")>;

/// Answer of (which): the children in order, each with its living process.
struct which_children {
  std::vector<std::pair<child_info, caf::actor>> children;
};

/// Messages. Errors are those of supervisor_fsm; already_started carries the address, address_in().
///   (wait)                      → ok once all children are up, or why one did not start
///   (add, child)                → string, its id, once it runs
///   (terminate, string|actor)   → string, its id, once it ended
///   (restart, string), (delete, string) → string
///   (which), (count), (spec, string) → which_children, child_counts, child_spec
///   (ref, string)               → actor, the child's façade. It ends with the child's spec; that
///   of
///                               a child added at run time ends with the supervisor's incarnation
///   (tree)                      → string, describe()'s JSON with the trees of supervisor children
///   (act, string, string)       → string, the child's id: does the verb to the child at the path
///                               "a/b/c": stop, start, restart; kill, throw, hang (fault_atom)
/// It stops at an exit message: all children in reverse order, then itself. However it ends, its
/// children's façades let go: requests that must not be sent again are answered child_failed at
/// once; the others wait for its next incarnation, or get no_such_child when there will be none.
/// `of`: the template of a simple_one_for_one.
caf::actor spawn_supervisor(caf::actor_system& system, const std::string& name,
                            supervisor_flags flags, const std::vector<child>& children,
                            const std::optional<child_spec>& of = {});
/// The same as a child's start function, for trees.
start_function supervisor_start(const std::string& name, supervisor_flags flags,
                                const std::vector<child>& children,
                                const std::optional<child_spec>& of = {});

}  // namespace ntrace::supervision

template <>
inline constexpr bool ntrace::supervision::is_handle<ntrace::supervision::start_function> = true;

NTRACE_LOCAL_MESSAGE(ntrace::supervision::child)
NTRACE_LOCAL_MESSAGE(ntrace::supervision::child_spec)
NTRACE_LOCAL_MESSAGE(ntrace::supervision::child_counts)
NTRACE_LOCAL_MESSAGE(ntrace::supervision::which_children)
