#include "actors/runner/attempt_fsm.hpp"

#include <array>

#include "actors/runner/source_spec.hpp"
#include "config/mutation.hpp"

namespace ntrace::runner {
namespace {

constexpr std::array<std::string_view, 8> names{"rollback", "profiler", "fetch",   "unpack",
                                                "install",  "run",      "capture", "fold"};

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

const char* verdict_of_source(ec code) {
  return is_definite(code)      ? "source_failed"
         : is_users_error(code) ? "script_failed"
                                : "infrastructure";
}

}  // namespace

std::string_view to_string(step s) { return names[static_cast<std::size_t>(s)]; }

attempt_effects attempt_fsm::on_start(time_point now) {
  attempt_effects out;
  begin(now, step::rollback, out);
  if (mutated(mutation::work_begins_before_boot)) begin(now, step::fetch, out);
  return out;
}

void attempt_fsm::begin(time_point now, step what, attempt_effects& out, std::string script) {
  began_[what] = now;
  nlohmann::json event{{"level", "info"},
                       {"code", "start"},
                       {"step", to_string(what)},
                       {"message", std::string{to_string(what)} + " started"}};
  if (!script.empty()) event["script"] = script;
  out.push_back(report{std::move(event)});
  out.push_back(perform{what, std::move(script)});
}

void attempt_fsm::on_cancel(const std::string& reason) {
  if (cancel_reason_.empty()) cancel_reason_ = reason;
}

attempt_effects attempt_fsm::on_done(time_point now, step what, const step_outcome& outcome) {
  attempt_effects out;
  const auto began = began_.find(what);
  if (finished_ || began == began_.end()) return out;
  const auto duration = std::chrono::duration_cast<milliseconds>(now - began->second).count();
  began_.erase(began);
  const bool ok = outcome.failed.code == ec::none;
  nlohmann::json event{
      {"level", ok ? "info" : "error"},
      {"code", "finish"},
      {"step", to_string(what)},
      {"duration_ms", duration},
      {"message", std::string{to_string(what)} +
                      (ok ? " finished" : " failed: " + to_string(outcome.failed))}};
  if (!ok)
    event["error"] = {{"code", to_string(outcome.failed.code)},
                      {"message", outcome.failed.message}};
  if (outcome.facts.is_object()) event["facts"] = outcome.facts;
  out.push_back(report{std::move(event)});
  for (const auto& notice : outcome.notices) out.push_back(report{notice});
  receipt_["steps"][std::string{to_string(what)}] = duration;
  if (outcome.facts.is_object()) receipt_.update(outcome.facts);

  if (!cancel_reason_.empty()) {
    end("infrastructure", {ec::cancelled, cancel_reason_, {}}, false, out);
    return out;
  }
  // With its lease, or its init, the zone went: that is nobody's fault in here.
  if (!ok && (outcome.failed.code == ec::init_died || outcome.failed.code == ec::stale_lease)) {
    end("infrastructure", outcome.failed, false, out);
    return out;
  }
  switch (what) {
    case step::rollback:
      if (!ok && !mutated(mutation::rollback_error_ignored)) {
        end("infrastructure", outcome.failed, true, out);
      } else if (ok && !outcome.receipt.value("ok", false)) {  // No proof, no run.
        end("infrastructure",
            {ec::zone_dirty, "zone " + zone_ + " came up without a proof of clean", {}}, true, out);
      } else {
        receipt_["clean"] = outcome.receipt;
        out.push_back(started{zone_});
        begin(now, step::profiler, out);
        begin(now, step::fetch, out);
      }
      break;
    case step::profiler:
      with_profiler_ = ok;  // A sampler that breaks never takes the script's result with it.
      profiler_done_ = true;
      if (!ok) receipt_["profile_failed"] = outcome.failed.message;
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
        return end("script_failed",
                   {ec::no_script, "the source has no package.json at its top", {}}, false, out),
               out;
      const auto chosen = choose_script(package_json_);
      if (!chosen) return end("script_failed", chosen.error(), false, out), out;
      script_ = *chosen;
      receipt_["script"] = script_;
      if (needs_install(package_json_, has_binding_gyp_))
        begin(now, step::install, out);
      else
        begin(now, step::run, out, script_);
      break;
    }
    case step::install:
      if (!ok)
        return end(is_users_error(outcome.failed.code) || outcome.failed.code == ec::forbidden
                       ? "script_failed"
                   : outcome.failed.code == ec::timed_out ? "timed_out"
                                                          : "infrastructure",
                   outcome.failed, false, out),
               out;
      begin(now, step::run, out, script_);
      break;
    case step::run:
      script_error_ = outcome.failed;
      if (with_profiler_)
        begin(now, step::capture, out);  // Also when the script failed.
      else
        end("", script_error_, false, out);
      break;
    case step::capture:
    case step::fold:
      if (!ok) receipt_["profile_failed"] = outcome.failed.message;
      if (ok && outcome.facts.is_object() && outcome.facts.value("samples", std::uint64_t{1}) == 0)
        receipt_["profile_failed"] =
            "no sample was taken: the script used too little CPU time; a longer script or a higher "
            "perf_frequency gives some";
      if (ok && what == step::capture)
        begin(now, step::fold, out);
      else
        end("", script_error_, false, out);
      break;
  }
  return out;
}

void attempt_fsm::after_preparation(time_point now, attempt_effects& out) {
  if (profiler_done_ && fetched_) begin(now, step::unpack, out);
}

void attempt_fsm::end(std::string verdict, const error& why, bool zone_is_broken,
                      attempt_effects& out) {
  if (verdict.empty()) {
    verdict = why.code == ec::none        ? "passed"
              : why.code == ec::timed_out ? "timed_out"
              : is_users_error(why.code)  ? "script_failed"
                                          : "infrastructure";
  }
  finished_ = true;
  out.push_back(finish{std::move(verdict), why.code == ec::none ? "" : to_string(why),
                       std::move(receipt_), zone_is_broken, outage_of(why)});
}

}  // namespace ntrace::runner
