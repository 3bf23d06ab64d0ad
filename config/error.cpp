#include "config/error.hpp"

#include <array>
#include <cstring>

namespace ntrace {
namespace {

struct row {
  ec code;
  std::string_view word;
  int exit_code;
};

constexpr std::array rows{
    row{ec::none, "none", 0},
    row{ec::bad_request, "bad_request", 4},
    row{ec::line_too_long, "line_too_long", 4},
    row{ec::no_such_method, "no_such_method", 4},
    row{ec::bad_argument, "bad_argument", 4},
    row{ec::overloaded, "overloaded", 4},
    row{ec::unreachable, "unreachable", 3},
    row{ec::connection_lost, "connection_lost", 3},
    row{ec::version_mismatch, "version_mismatch", 4},
    row{ec::not_found, "not_found", 4},
    row{ec::invalid_state, "invalid_state", 4},
    row{ec::stale_lease, "stale_lease", 4},
    row{ec::gap, "gap", 4},
    row{ec::lease_held, "lease_held", 4},
    row{ec::draining, "draining", 4},
    row{ec::key_conflict, "key_conflict", 4},
    row{ec::journal_full, "journal_full", 4},
    row{ec::journal_failed, "journal_failed", 4},
    row{ec::journal_lost, "journal_lost", 4},
    row{ec::journal_corrupt, "journal_corrupt", 2},
    row{ec::journal_schema, "journal_schema", 2},
    row{ec::not_enrolled, "not_enrolled", 4},
    row{ec::no_such_zone, "no_such_zone", 4},
    row{ec::no_clean, "no_clean", 4},
    row{ec::zone_busy, "zone_busy", 4},
    row{ec::no_worker, "no_worker", 4},
    row{ec::forbidden, "forbidden", 4},
    row{ec::zone_unsupported, "zone_unsupported", 4},
    row{ec::zone_failed, "zone_failed", 5},
    row{ec::zone_dirty, "zone_dirty", 5},
    row{ec::init_died, "init_died", 5},
    row{ec::helper_lost, "helper_lost", 5},
    row{ec::source_failed, "source_failed", 5},
    row{ec::source_hostile, "source_hostile", 4},
    row{ec::source_limit, "source_limit", 4},
    row{ec::no_script, "no_script", 1},
    row{ec::install_failed, "install_failed", 1},
    row{ec::script_failed, "script_failed", 1},
    row{ec::timed_out, "timed_out", 5},
    row{ec::output_limit, "output_limit", 5},
    row{ec::disk_full, "disk_full", 5},
    row{ec::out_of_memory, "out_of_memory", 5},
    row{ec::cancelled, "cancelled", 5},
    row{ec::profile_failed, "profile_failed", 5},
    row{ec::not_perf_text, "not_perf_text", 4},
    row{ec::not_recognised, "not_recognised", 4},
    row{ec::unsupported, "unsupported", 4},
    row{ec::bad_profile, "bad_profile", 4},
    row{ec::overflow, "overflow", 4},
    row{ec::too_many_stacks, "too_many_stacks", 4},
    row{ec::truncated, "truncated", 4},
    row{ec::tunnel_down, "tunnel_down", 3},
    row{ec::host_key_unknown, "host_key_unknown", 4},
    row{ec::host_key_changed, "host_key_changed", 4},
    row{ec::key_refused, "key_refused", 4},
    row{ec::bad_key, "bad_key", 2},
    row{ec::ssh_failed, "ssh_failed", 3},
    row{ec::no_common_method, "no_common_method", 4},
    row{ec::child_failed, "child_failed", 70},
    row{ec::no_such_child, "no_such_child", 70},
    row{ec::bad_spec, "bad_spec", 70},
    row{ec::already_started, "already_started", 4},
    row{ec::already_present, "already_present", 4},
    row{ec::child_running, "child_running", 4},
    row{ec::child_restarting, "child_restarting", 4},
    row{ec::bad_config, "bad_config", 2},
    row{ec::folder_busy, "folder_busy", 4},
    row{ec::io, "io", 4},
    row{ec::defect, "defect", 70},
};
static_assert(rows.size() == static_cast<std::size_t>(ec::last) + 1, "a code without a row");

constexpr bool rows_in_order() {
  for (std::size_t i = 0; i < rows.size(); ++i)
    if (static_cast<std::size_t>(rows[i].code) != i) return false;
  return true;
}
static_assert(rows_in_order(), "rows stand in the order of the enum");

}  // namespace

std::string_view to_string(ec code) noexcept {
  const auto i = static_cast<std::size_t>(code);
  return i < rows.size() ? rows[i].word : "defect";
}

ec ec_from_string(std::string_view word) noexcept {
  for (const auto& r : rows)
    if (r.word == word) return r.code;
  return ec::none;
}

int exit_code(ec code) noexcept {
  const auto i = static_cast<std::size_t>(code);
  return i < rows.size() ? rows[i].exit_code : 70;
}

std::string to_string(const error& e) { return std::string{to_string(e.code)} + ": " + e.message; }

error io_error(std::string_view operation, std::string_view object, int errno_value) {
  std::string text{operation};
  text.append(" ").append(object).append(": ").append(std::strerror(errno_value));
  return {ec::io, std::move(text), {{"errno", std::to_string(errno_value)}}};
}

}  // namespace ntrace
