#include "actors/runner/attempt_fsm.hpp"

#include "actors/runner/source_spec.hpp"
#include "config/assert.hpp"
#include "config/mutation.hpp"

namespace ntrace::runner {

using domain::verdict;

namespace {

/// Errors that are the pushed commit's own: trying again would give the same.
bool is_users_error(ec code) {
  switch (code) {
    case ec::no_script:
    case ec::install_failed:
    case ec::script_failed:
    case ec::output_limit:
    case ec::disk_full:
    case ec::out_of_memory:
      return true;
    default:
      return false;
  }
}

/// Answers about the source that no further attempt can change.
bool is_definite(ec code) {
  switch (code) {
    case ec::not_found:
    case ec::forbidden:
    case ec::bad_argument:
    case ec::source_hostile:
    case ec::source_limit:
      return true;
    default:
      return false;
  }
}

verdict verdict_of_source(ec code) {
  return is_definite(code)      ? verdict::source_failed
         : is_users_error(code) ? verdict::script_failed
                                : verdict::infrastructure;
}

verdict verdict_of_install(ec code) {
  return is_users_error(code) || code == ec::forbidden ? verdict::script_failed
         : code == ec::timed_out                       ? verdict::timed_out
                                                       : verdict::infrastructure;
}

verdict verdict_of_script(ec code) {
  return code == ec::none        ? verdict::passed
         : code == ec::timed_out ? verdict::timed_out
         : is_users_error(code)  ? verdict::script_failed
                                 : verdict::infrastructure;
}

}  // namespace

attempt_effects attempt_fsm::on_start(time_point now) {
  attempt_effects out;
  begin(now, step::rollback, out);
  if (mutated(mutation::work_begins_before_boot)) begin(now, step::fetch, out);
  return out;
}

void attempt_fsm::begin(time_point now, step what, attempt_effects& out, std::string script) {
  NTRACE_ASSERT(!is_finished(), "an attempt that has ended begins nothing");
  NTRACE_ASSERT(began_.count(what) == 0, "a step is begun once at a time");
  began_[what] = now;
  out.push_back(report{{what, {}, {}, script, {}}});
  out.push_back(perform{what, std::move(script)});
}

void attempt_fsm::on_cancel(const std::string& reason) {
  if (!cancel_reason_) cancel_reason_ = reason;
}

void attempt_fsm::tell(step what, milliseconds lasted, const step_outcome& outcome,
                       attempt_effects& out) {
  out.push_back(report{{what, lasted, outcome.failed, "", outcome.facts}});
  for (const auto& one : outcome.notices) out.push_back(notice{one});
  receipt_.durations[what] = lasted;
  if (outcome.facts) receipt_.facts.push_back(outcome.facts);
}

attempt_effects attempt_fsm::on_done(time_point now, step what, const step_outcome& outcome) {
  attempt_effects out;
  const auto began = began_.find(what);
  if (finished_ || began == began_.end()) return out;
  tell(what, std::chrono::duration_cast<milliseconds>(now - began->second), outcome, out);
  began_.erase(began);
  const bool ok = outcome.failed.code == ec::none;

  if (cancel_reason_) {
    end(verdict::infrastructure, {ec::cancelled, *cancel_reason_, {}}, false, out);
    return out;
  }
  // With its lease, or its init, the zone went: that is nobody's fault in here.
  if (!ok && (outcome.failed.code == ec::init_died || outcome.failed.code == ec::stale_lease)) {
    end(verdict::infrastructure, outcome.failed, false, out);
    return out;
  }
  switch (what) {
    case step::rollback:
      if (!ok && !mutated(mutation::rollback_error_ignored)) {
        end(verdict::infrastructure, outcome.failed, true, out);
      } else if (ok && !outcome.is_clean) {  // No proof, no run.
        end(verdict::infrastructure,
            {ec::zone_dirty, "zone " + zone_ + " came up without a proof of clean", {}}, true, out);
      } else {
        receipt_.clean = outcome.receipt;
        out.push_back(started{zone_});
        begin(now, step::profiler, out);
        begin(now, step::fetch, out);
      }
      break;
    case step::profiler:
      with_profiler_ = ok;  // A sampler that breaks never takes the script's result with it.
      profiler_done_ = true;
      if (!ok) receipt_.profile_failed = outcome.failed.message;
      after_preparation(now, out);
      break;
    case step::fetch:
      if (!ok) return end(verdict_of_source(outcome.failed.code), outcome.failed, false, out), out;
      package_json_ = outcome.package_json;
      has_binding_gyp_ = outcome.has_binding_gyp;
      fetched_ = true;
      after_preparation(now, out);
      break;
    case step::unpack: {
      if (!ok) return end(verdict_of_source(outcome.failed.code), outcome.failed, false, out), out;
      if (package_json_.empty())
        return end(verdict::script_failed,
                   {ec::no_script, "the source has no package.json at its top", {}}, false, out),
               out;
      const auto chosen = choose_script(package_json_);
      if (!chosen) return end(verdict::script_failed, chosen.error(), false, out), out;
      script_ = *chosen;
      receipt_.script = script_;
      if (needs_install(package_json_, has_binding_gyp_))
        begin(now, step::install, out);
      else
        begin(now, step::run, out, script_);
      break;
    }
    case step::install:
      if (!ok) return end(verdict_of_install(outcome.failed.code), outcome.failed, false, out), out;
      begin(now, step::run, out, script_);
      break;
    case step::run:
      script_error_ = outcome.failed;
      if (with_profiler_)
        begin(now, step::capture, out);  // Also when the script failed.
      else
        end(verdict_of_script(script_error_.code), script_error_, false, out);
      break;
    case step::capture:
    case step::fold:
      if (!ok) receipt_.profile_failed = outcome.failed.message;
      if (ok && outcome.samples == 0u)
        receipt_.profile_failed =
            "no sample was taken: the script used too little CPU time; a longer script or a higher "
            "perf_frequency gives some";
      if (ok && what == step::capture)
        begin(now, step::fold, out);
      else
        end(verdict_of_script(script_error_.code), script_error_, false, out);
      break;
  }
  return out;
}

void attempt_fsm::after_preparation(time_point now, attempt_effects& out) {
  if (profiler_done_ && fetched_) begin(now, step::unpack, out);
}

void attempt_fsm::end(verdict how, const error& why, bool zone_is_broken, attempt_effects& out) {
  NTRACE_ASSERT(!is_finished(), "an attempt ends once");
  finished_ = true;
  out.push_back(finish{how, why.code == ec::none ? "" : to_string(why), std::move(receipt_),
                       zone_is_broken, outage_of(why)});
}

}  // namespace ntrace::runner
