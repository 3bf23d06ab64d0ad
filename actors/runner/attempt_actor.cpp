#include "actors/runner/attempt_actor.hpp"

#include <caf/event_based_actor.hpp>
#include <caf/send.hpp>
#include <caf/stateful_actor.hpp>

#include "actors/profiler/profiler_actor.hpp"
#include "actors/runner/exec_outcome.hpp"
#include "actors/runner/fetch_work.hpp"
#include "actors/runner/fold_work.hpp"
#include "actors/runner/install_reach.hpp"
#include "actors/runner/job_environment.hpp"
#include "actors/runner/npm_words.hpp"
#include "actors/zone/linux/zone_sights.hpp"
#include "config/crash_point.hpp"
#include "config/log.hpp"
#include "config/overload.hpp"
#include "config/shown_url.hpp"
#include "supervision/blocking_worker.hpp"
#include "supervision/caf_types.hpp"

namespace ntrace::runner {
namespace {

using supervision::from_caf;
using supervision::now_of;

constexpr std::uint64_t capture_text_max = 1ull << 40;  // perf script's text is folded as it comes
constexpr milliseconds script_text_deadline{120'000};   // docs/profiling.md, "Symbols"

struct attempt_state {
  const char* name = "attempt";
  attempt_options options;
  attempt_spec spec;
  source_spec source;
  std::optional<attempt_fsm> fsm;
  std::optional<profiler::profiler_actor> sampler;
  zone::boot_answer up;
  std::shared_ptr<fetched_source> fetched;
  profiler::capture_ptr capture;
  cancellation_ptr stop = std::make_shared<cancellation>();
  /// Blocking calls under way end when the attempt does, however it does.
  ~attempt_state() { stop->raise(); }
};
using attempt_self = caf::stateful_actor<attempt_state>*;

void advance(attempt_self self, attempt_effects todo);

void done(attempt_self self, step what, const step_outcome& outcome) {
  advance(self, self->state.fsm->on_done(now_of(self), what, outcome));
}

step_outcome failure(const caf::error& e) {
  step_outcome out;
  out.failed = from_caf(e);
  // Whatever a zone or sampler actor died of, the attempt is an attempt lost, not a script's fault.
  if (out.failed.code == ec::none) out.failed = {ec::zone_failed, "the zone's actor ended", {}};
  return out;
}

/// Asks an actor and feeds the answer to `good`, which gives the step's outcome.
template <class Answer, class To, class Message, class Good>
void ask(attempt_self self, step what, const To& to, Message message, Good good) {
  const auto bad = [self, what](const caf::error& e) { done(self, what, failure(e)); };
  self->request(to, caf::infinite, std::move(message))
      .then([self, what, good](const Answer& a) { done(self, what, good(a)); }, bad);
}

void send_chunk(attempt_self self, domain::stream stream, std::string data) {
  self->send(self->state.spec.sink, attempt_chunk{self->state.spec.token, stream, std::move(data)});
}

std::string work_folder(const attempt_state& s) { return "/job/" + s.source.name; }

domain::stream stream_of(std::string_view name) {
  return domain::stream_from(name).value_or(domain::stream::out);
}

/// Output goes to the sink from the zone's thread, without passing through this actor.
zone::output_sink forward_output(attempt_self self) {
  const auto sink = self->state.spec.sink;
  const auto token = self->state.spec.token;
  return [sink, token](std::string_view stream, std::string_view data) {
    caf::anon_send(sink, attempt_chunk{token, stream_of(stream), std::string{data}});
  };
}

void boot(attempt_self self) {
  auto& s = self->state;
  zone::boot_spec spec;
  spec.limits = s.options.limits;
  spec.with_network = true;
  spec.deadline = s.options.boot;
  spec.lease = s.spec.lease;
  ask<zone::boot_answer>(self, step::rollback, s.spec.zone, zone::boot_request{spec, s.spec.token},
                         [self](const zone::boot_answer& a) {
                           self->state.up = a;
                           step_outcome out;
                           out.is_clean = a.receipt.ok();
                           out.receipt = domain::document{to_json(a.receipt)};
                           return out;
                         });
}

void fetch(attempt_self self) {
  auto& s = self->state;
  supervision::run_blocking<std::shared_ptr<fetched_source>>(
      self, "fetch",
      [source = s.source, o = s.options, stop = s.stop] {
        return fetch_work(source, o.source, o.npm_registry, o.egress.allow, stop.get());
      },
      [self](const result<std::shared_ptr<fetched_source>>& got) {
        step_outcome out;
        if (got) {
          self->state.fetched = *got;
          out = (*got)->outcome;
        } else {
          out.failed = got.error();
        }
        done(self, step::fetch, out);
      });
}

/// A command of the job's own: in its folder, its output is the run's.
zone::exec_request in_zone(attempt_self self, std::vector<std::string> argv,
                           std::vector<std::string> env, milliseconds deadline) {
  auto& s = self->state;
  return {{std::move(argv), std::move(env), work_folder(s), deadline},
          s.options.output,
          forward_output(self),
          s.stop,
          nullptr,
          {},
          s.spec.token};
}

void finish_install(attempt_self self, const zone::exec_end& e,
                    const std::shared_ptr<reach_log>& reached,
                    const std::vector<package_host>& hosts, const npm_words& words) {
  const auto& s = self->state;
  auto ended = exec_outcome(e, ec::install_failed, "npm install");
  if (const auto said = words.first_errors(); !said.empty() && ended.failed.code != ec::none)
    ended.failed.message += ": " + said;
  supervision::run_blocking<step_outcome>(
      self, "reach",
      [out = std::move(ended), reached, hosts, stop = s.stop, ca_file = s.options.source.ca_file] {
        return result<step_outcome>{look_for_outage(out, *reached, hosts, ca_file, stop.get())};
      },
      [self](const result<step_outcome>& out) {
        done(self, step::install, out ? *out : step_outcome{out.error()});
      });
}

void install(attempt_self self) {
  auto& s = self->state;
  const auto& hosts = s.fetched->hosts;
  if (!hosts) {
    step_outcome refused;
    refused.failed = hosts.error();
    return done(self, step::install, refused);
  }
  auto r = in_zone(self, install_command(s.options.npm_registry, s.fetched->lines_for_npm),
                   job_environment(work_folder(s), true), s.options.install);
  const auto words = std::make_shared<npm_words>();
  r.sink = [words, pass = std::move(r.sink)](std::string_view stream, std::string_view data) {
    words->on_output(stream, data);
    pass(stream, data);
  };
  r.egress = zone::egress_spec{
      s.options.egress, [sink = s.spec.sink, token = s.spec.token](const net::egress_report& e) {
        if (e.reason.empty()) return;
        caf::anon_send(sink, attempt_chunk{token, domain::stream::events, event_text(event_of(e))});
      }};
  const auto reached = std::make_shared<reach_log>();
  r.egress->options.on_reach = [reached](const host_port& at, const error* failed) {
    reached->note(at, failed);
  };
  self->request(s.spec.zone, caf::infinite, std::move(r))
      .then([=, hosts = *hosts](
                const zone::exec_end& e) { finish_install(self, e, reached, hosts, *words); },
            [self](const caf::error& e) { done(self, step::install, failure(e)); });
}

/// See zone::node_module.
std::string profiled_node_options() {
  return profiler::sampler_perf::node_options("--require=" + std::string{zone::node_module_file});
}

void run_script(attempt_self self, const std::string& script) {
  auto& s = self->state;
  auto env = job_environment(work_folder(s), false);
  const bool profiled = s.sampler.has_value();
  if (profiled) env.push_back("NODE_OPTIONS=" + profiled_node_options());
  const auto r = in_zone(self, {"npm", "run", "--silent", script}, std::move(env), s.options.run);
  const auto start = [self, r, script] {
    ask<zone::exec_end>(self, step::run, self->state.spec.zone, r,
                        [script](const zone::exec_end& e) {
                          return exec_outcome(e, ec::script_failed, "the script " + script);
                        });
  };
  if (!profiled) return start();
  // Counting begins before the script's first instruction; a sampler that fails here costs the
  // profile, not the run: capture will say so.
  self->request(*s.sampler, caf::infinite, profiler::enable_atom::value)
      .then([start](caf::ok_atom) { start(); }, [start](const caf::error&) { start(); });
}

void finish_fold(attempt_self self, const std::shared_ptr<fold_work>& work) {
  supervision::run_blocking<std::shared_ptr<packed_stacks>>(
      self, "fold",
      [work]() -> result<std::shared_ptr<packed_stacks>> {
        auto packed = pack_stacks(*work);
        if (!packed) return fail(packed.error());
        return std::make_shared<packed_stacks>(std::move(*packed));
      },
      [self, work](const result<std::shared_ptr<packed_stacks>>& got) {
        step_outcome out;
        if (got) {
          auto facts = std::move((*got)->facts);
          facts.update(work->facts);
          facts["event"] = self->state.capture->event;
          facts["frequency"] = self->state.options.frequency;
          out.facts = domain::document{std::move(facts)};
          out.samples = (*got)->samples;
          if (out.samples != 0u)  // Without one there is nothing to draw.
            send_chunk(self, domain::stream::result, std::move((*got)->zstd));
        } else {
          out.failed = got.error();
        }
        done(self, step::fold, out);
      });
}

/// perf's binary capture becomes text inside the zone, where its ELF files can hurt nobody, and is
/// folded out here as it comes.
void print_capture(attempt_self self, const std::shared_ptr<fold_work>& work) {
  auto& s = self->state;
  auto input = std::make_shared<unique_fd>(std::move(s.capture->data));
  zone::exec_request r{{profiler::sampler_perf::script_command(),
                        {"PATH=" + std::string{path_inside}, "HOME=/tmp"},
                        "/tmp",
                        script_text_deadline,
                        false,
                        true},
                       {capture_text_max, capture_text_max},
                       [work](std::string_view stream, std::string_view data) {
                         if (stream_of(stream) == domain::stream::out) {
                           if (work->fed) work->fed = work->feed->on_bytes(data);
                         } else if (work->words.size() < 4096) {
                           work->words.append(data);
                         }
                       },
                       s.stop,
                       input,
                       {},
                       s.spec.token};
  self->request(s.spec.zone, caf::infinite, std::move(r))
      .then(
          [self, work](const zone::exec_end& e) {
            if (e.ok()) return finish_fold(self, work);
            auto out = exec_outcome(e, ec::profile_failed, "perf script");
            out.failed.message += ": " + work->words.substr(0, 500);
            done(self, step::fold, out);
          },
          [self](const caf::error& e) { done(self, step::fold, failure(e)); });
}

void fold_capture(attempt_self self) {
  auto& s = self->state;
  self->request(s.spec.zone, caf::infinite, zone::collect_request{"/tmp", "perf-", s.spec.token})
      .then(
          [self](const zone::collected& maps) {
            auto& state = self->state;
            auto work = std::make_shared<fold_work>();
            if (maps.left_out != 0) work->facts["maps_left_out"] = maps.left_out;
            if (maps.cut != 0) work->facts["maps_cut"] = maps.cut;
            if (!maps.is_whole) work->facts["maps_broken_off"] = true;
            for (const auto& [host, inside] : state.capture->zone_pids)
              if (const auto at = maps.files.find("perf-" + std::to_string(inside) + ".map");
                  at != maps.files.end())
                work->options.maps[host].add(at->second);
            work->options.js.job_folder = work_folder(state);
            work->options.kernel = profiler::host_kernel_symbols();
            work->folder.emplace(work->options);
            work->feed.emplace(*work->folder);
            print_capture(self, work);
          },
          [self](const caf::error& e) { done(self, step::fold, failure(e)); });
}

void start_step(attempt_self self, const perform& e) {
  auto& s = self->state;
  switch (e.what) {
    case step::rollback:
      return boot(self);
    case step::profiler:
      s.sampler = profiler::spawn_profiler(self->system());
      return ask<caf::ok_atom>(self, step::profiler, *s.sampler,
                               profiler::arm_request{{s.up.cgroup, s.up.init_pid,
                                                      s.options.frequency, s.options.scratch}},
                               [](caf::ok_atom) { return step_outcome{}; });
    case step::fetch:
      return fetch(self);
    case step::unpack:
      return ask<caf::ok_atom>(
          self, step::unpack, s.spec.zone,
          zone::unpack_request{work_folder(s),
                               std::shared_ptr<unique_fd>{s.fetched, &s.fetched->file},
                               s.options.source.deadline, s.stop, s.spec.token},
          [](caf::ok_atom) { return step_outcome{}; });
    case step::install:
      return install(self);
    case step::run:
      return run_script(self, e.script);
    case step::capture:
      return ask<profiler::capture_ptr>(self, step::capture, *s.sampler,
                                        profiler::capture_atom::value,
                                        [self](const profiler::capture_ptr& c) {
                                          self->state.capture = c;
                                          return step_outcome{};
                                        });
    case step::fold:
      return fold_capture(self);
  }
}

void advance(attempt_self self, attempt_effects todo) {
  auto& s = self->state;
  for (auto& one : todo) {
    std::visit(
        overload{
            [&](const perform& e) { start_step(self, e); },
            [&](const report& e) { send_chunk(self, domain::stream::events, event_text(e.event)); },
            [&](const notice& e) { send_chunk(self, domain::stream::events, event_text(e.event)); },
            [&](const started& e) {
              crash_point("attempt.zone_is_up");
              self->send(s.spec.sink, attempt_started{s.spec.token, e.zone,
                                                      domain::document{to_json(s.up.receipt)}});
            },
            [&](const finish& e) {
              crash_point("attempt.before_verdict");
              log::info("attempt.finished", {{"run", s.spec.run},
                                             {"token", s.spec.token},
                                             {"verdict", to_string(e.how)},
                                             {"reason", e.reason}});
              self->send(s.spec.sink, attempt_finished{s.spec.token, e.how, e.reason,
                                                       domain::document{to_json(e.receipt)},
                                                       e.zone_is_broken, e.lost_to});
              self->quit();
            }},
        one);
  }
}

caf::behavior attempt(attempt_self self, const attempt_options& options, const attempt_spec& spec) {
  supervision::guard(self, "attempt");
  auto& s = self->state;
  s.options = options;
  s.spec = spec;
  s.fsm.emplace(spec.worker);
  // A stop asked for from outside ends the attempt; its zone is ended by who owns it.
  self->set_exit_handler([self](const caf::exit_msg& e) { self->quit(e.reason); });
  auto source = parse_source_spec(spec.source);
  log::info("attempt.started", {{"run", spec.run},
                                {"attempt", spec.attempt},
                                {"token", spec.token},
                                {"worker", spec.worker},
                                {"source", without_passwords(spec.source)}});
  if (source) {
    s.source = std::move(*source);
    advance(self, s.fsm->on_start(now_of(self)));
  } else {
    attempt_finished refused{spec.token, domain::verdict::source_failed};
    refused.reason = to_string(source.error());
    self->send(spec.sink, std::move(refused));
    self->quit();
  }
  return {[self](cancel_atom, const std::string& reason) {
    self->state.fsm->on_cancel(reason);
    self->state.stop->raise();
  }};
}

}  // namespace

supervision::child_spec attempt_template() {
  return {"attempt",
          supervision::restart_type::temporary,
          {milliseconds{30'000}},
          supervision::child_kind::worker};
}

result<caf::actor> spawn_attempt(caf::actor_system& system, const attempt_options& options,
                                 const attempt_spec& spec) {
  return system.spawn(attempt, options, spec);
}

}  // namespace ntrace::runner
