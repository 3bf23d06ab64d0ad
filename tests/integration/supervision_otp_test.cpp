// Our supervisor beside Erlang's own: both play the same random scripts, and write the same log.
// NTRACE_SCRIPTS says how many; a failure prints the command that repeats its script alone.
//
// Scripts leave out what ours does otherwise on purpose (docs/supervision.md, "Differences from
// OTP"), and nothing else. So that no timing shows, no restart leaves the window while a script
// runs.
#include <gtest/gtest.h>

#include <fstream>
#include <functional>
#include <sstream>

#include "config/log.hpp"
#include "config/subprocess.hpp"
#include "tests/support/scratch.hpp"
#include "tests/support/seeded.hpp"
#include "tests/support/supervisor_script.hpp"
#include "tests/support/till.hpp"

using namespace ntrace;
using namespace ntrace::test;

namespace {

using die = caf::atom_constant<caf::atom("die")>;

caf::error reason_of(const std::string& how) {
  if (how == "normal") return caf::exit_reason::normal;
  if (how == "shutdown") return to_caf(exit_reason{exit_kind::shutdown, ""});
  if (how == "shutdown_text") return to_caf(exit_reason{exit_kind::shutdown, "done"});
  return to_caf(exit_reason{exit_kind::failed, how});
}

std::string answer_of(ec code) {
  switch (code) {
    case ec::none:
      return "ok";
    case ec::io:  // What a start fails with here.
      return "failed";
    case ec::child_running:
      return "running";
    case ec::child_restarting:
      return "restarting";
    case ec::draining:
    case ec::child_failed:  // What a call gets whose supervisor ends before it is answered.
      return "gone";
    default:
      return std::string{to_string(code)};
  }
}

std::string joined(std::vector<std::string> words, bool in_any_order) {
  if (in_any_order) std::sort(words.begin(), words.end());
  std::string out;
  for (const auto& w : words) out += (out.empty() ? "" : " ") + w;
  return out;
}

/// Plays one script on our supervisor, in virtual time.
class stage {
public:
  explicit stage(const supervisor_script& script) : script_{script} {}

  std::string play() {
    for (const auto& a : script_.armed) arm(a);
    log_ = "script " + std::to_string(script_.seed) + "\n";
    std::vector<child> children;
    std::optional<child_spec> of;
    for (const auto& c : script_.children) {
      if (script_.is_dynamic())
        of = c.spec;
      else
        children.push_back(acted(c));
    }
    uut_ = spawn_supervisor(world_.system, "uut", script_.flags, children, of);
    uut_->attach_functor([this](const caf::error& why) { ended_ = exit_reason_of(why); });
    settle();
    if (ended_) {
      const bool is_bad = events_.empty();
      take();
      return log_ + "  no start: " + (is_bad ? "bad_spec" : failed_last_) + "\n";
    }
    take();
    stand();
    for (std::size_t i = 0; i < script_.steps.size() && !ended_; ++i) {
      log_ += "step " + std::to_string(i + 1) + "\n";
      for (const auto& a : script_.steps[i]) act(a);
      settle();
      take();
      armed_.clear();
      stand();
    }
    if (!ended_) {
      log_ += "stop\n";
      caf::anon_send_exit(uut_, caf::exit_reason::user_shutdown);
      settle();
      take();
      stand();
    }
    return log_;
  }

private:
  struct member {
    caf::actor address;  ///< Of the last incarnation.
    bool is_alive = false;
    unsigned starts = 0;
  };
  struct call {
    std::string words;
    std::function<std::string()> take;
  };

  /// Also until those that do not hear are killed, one after the other.
  void settle() {
    for (int i = 0; i < 60; ++i) world_.run_for(1ms);
  }
  void arm(const scripted_act& a) { armed_.insert_or_assign(a.id, a); }

  child acted(const scripted_child& c) {
    return {c.spec, [this, id = c.spec.id, how = c.how](caf::local_actor*) -> result<caf::actor> {
              if (const auto at = armed_.find(id); at != armed_.end()) {
                const auto order = at->second;
                at->second.within.clear();
                if (--at->second.times == 0) armed_.erase(at);
                const bool fails = order.what == deed::fail;
                events_.push_back((fails ? "fail " : "ignore ") + id);
                for (const auto& w : order.within) act(w);
                if (!fails) return caf::actor{};
                failed_last_ = id;
                return fail(ec::io, "no luck");
              }
              events_.push_back("start " + id);
              return start(id, how);
            }};
  }

  caf::actor start(const std::string& id, manner how) {
    auto& m = members_[id];
    ++m.starts;
    m.is_alive = true;
    m.address = world_.system.spawn([this, id, how](caf::event_based_actor* self) {
      guard(self, "member");
      self->attach_functor([this, id](const caf::error&) { members_[id].is_alive = false; });
      self->set_exit_handler([this, self, id, how](const caf::exit_msg& e) {
        if (how == manner::deaf) return;
        events_.push_back("asked " + id);
        self->quit(how == manner::obedient ? e.reason : reason_of("crash"));
      });
      return caf::behavior{[self](die, const std::string& why) { self->quit(reason_of(why)); },
                           [](wait_atom) { return caf::ok_atom::value; }};
    });
    return m.address;
  }

  /// The child is dead, and the supervisor's mailbox has its end, when this returns.
  void end_child(const scripted_act& a) {
    const auto at = members_.find(a.id);
    if (at == members_.end() || !at->second.is_alive) return;
    if (a.how == "kill")
      caf::anon_send_exit(at->second.address, caf::exit_reason::kill);
    else
      caf::anon_send(at->second.address, die::value, a.how);
    ASSERT_TRUE(world_.scheduler().prioritize(at->second.address));
    world_.scheduler().run_once();
    ASSERT_FALSE(at->second.is_alive);
  }

  void act(const scripted_act& a) {
    switch (a.what) {
      case deed::die:
        return end_child(a);
      case deed::fail:
      case deed::ignore:
        return arm(a);
      case deed::start: {
        auto added = a.child;
        if (script_.is_dynamic()) added = script_.children.front();
        added.spec.id = a.id;
        return ask("start " + a.id, add_child_atom::value, acted(added));
      }
      case deed::terminate:
        return terminate(a.id);
      case deed::restart:
        return ask("restart " + a.id, restart_atom::value, a.id);
      case deed::remove:
        return ask("delete " + a.id, delete_atom::value, a.id);
      case deed::spec:
        return ask_for<child_spec>(
            "spec " + a.id, [](const child_spec& s) { return std::string{to_string(s.restart)}; },
            spec_atom::value, a.id);
      case deed::which:
        return ask_for<which_children>(
            "which", [this](const which_children& w) { return words_of(w); }, which_atom::value);
      case deed::count:
        return ask_for<child_counts>(
            "count", [this](const child_counts& c) { return words_of(c); }, count_atom::value);
    }
  }

  /// OTP knows a dynamic child by its process, and says ok to the end of a dead one.
  void terminate(const std::string& id) {
    if (!script_.is_dynamic()) return ask("terminate " + id, terminate_atom::value, id);
    const auto at = members_.find(id);
    if (at == members_.end() || !at->second.is_alive) return;
    ask("terminate " + id, terminate_atom::value, at->second.address);
  }

  template <class... Args>
  void ask(const std::string& words, const Args&... args) {
    ask_for<std::string>(
        words, [](const std::string&) { return std::string{"ok"}; }, args...);
  }
  template <class T, class Print, class... Args>
  void ask_for(const std::string& words, Print print, const Args&... args) {
    auto pending = world_.self->request(uut_, caf::infinite, args...);
    const auto kept = std::make_shared<decltype(pending)>(std::move(pending));
    calls_.push_back({words, [this, kept, print] {
                        const auto got = world_.take<T>(*kept);
                        return got ? print(*got) : answer_of(got.error().code);
                      }});
  }

  std::string words_of(const child_counts& c) const {
    return (script_.is_dynamic() ? "-" : std::to_string(c.specs)) + " " +
           std::to_string(c.supervisors) + " " + std::to_string(c.workers);
  }
  static const char* word_of(child_state s) {
    if (s == child_state::running || s == child_state::starting) return "up";
    return s == child_state::stopped ? "stopped" : "restarting";
  }
  std::string words_of(const which_children& w) const {
    std::vector<std::string> out;
    for (const auto& [c, address] : w.children)
      out.push_back((script_.is_dynamic() ? "" : c.spec.id + "=") + word_of(c.state));
    return joined(out, script_.is_dynamic());
  }

  /// What happened, then the answers in the order of the calls.
  void take() {
    // A dynamic supervisor stops all its children at once: their order is chance.
    const auto is_stop = [](const std::string& e) { return e.starts_with("asked"); };
    if (script_.is_dynamic())
      for (auto at = events_.begin(); at != events_.end();) {
        at = std::find_if(at, events_.end(), is_stop);
        const auto end = std::find_if_not(at, events_.end(), is_stop);
        std::sort(at, end);
        at = end;
      }
    for (const auto& e : events_) log_ += "  " + e + "\n";
    for (const auto& c : calls_) log_ += "  " + c.words + ": " + c.take() + "\n";
    events_.clear();
    calls_.clear();
  }

  /// How things stand after a step.
  void stand() {
    if (ended_) {
      const auto left = std::count_if(members_.begin(), members_.end(),
                                      [](const auto& m) { return m.second.is_alive; });
      const auto kind = ended_->kind == exit_kind::shutdown ? "shutdown" : to_string(*ended_);
      log_ += "  the supervisor ended: " + kind + "\n  left: " + std::to_string(left) + "\n";
      return;
    }
    std::vector<std::string> lines;
    for (const auto& [c, address] :
         ok(world_.ask<which_children>(uut_, which_atom::value)).children)
      lines.push_back(line_of(c));
    if (script_.is_dynamic()) std::sort(lines.begin(), lines.end());
    const auto counts = ok(world_.ask<child_counts>(uut_, count_atom::value));
    lines.push_back("count " + words_of(counts) + ", " + std::to_string(counts.active) + " active");
    for (const auto& l : lines) log_ += "  " + l + "\n";
  }
  std::string line_of(const child_info& c) {
    const auto starts = std::to_string(members_[c.spec.id].starts);
    if (c.state != child_state::running) return c.spec.id + " " + std::string{to_string(c.state)};
    if (script_.is_dynamic()) return c.spec.id + " " + starts;
    return c.spec.id + (c.spec.kind == child_kind::worker ? " worker " : " supervisor ") + starts;
  }

  const supervisor_script& script_;
  std::string log_;
  std::vector<std::string> events_;
  std::vector<call> calls_;
  std::map<std::string, scripted_act> armed_;
  std::map<std::string, member> members_;
  std::string failed_last_;
  std::optional<exit_reason> ended_;
  world world_;
  caf::actor uut_;
};

std::uint64_t number_from(const char* name, std::uint64_t otherwise) {
  const char* given = std::getenv(name);
  return given ? std::strtoull(given, nullptr, 10) : otherwise;
}

std::string content_of(const std::string& file) {
  std::ostringstream out;
  out << std::ifstream{file}.rdbuf();
  return out.str();
}

/// The logs of all scripts, one after the other.
std::vector<std::string> split_logs(const std::string& all) {
  std::vector<std::string> out;
  for (std::size_t at = 0; at < all.size();) {
    const auto end = std::min(all.find("\nscript ", at), all.size() - 1) + 1;
    out.push_back(all.substr(at, end - at));
    at = end;
  }
  return out;
}

}  // namespace

TEST(supervision_otp, plays_random_scripts_as_erlangs_supervisor_does) {
  if (std::system("command -v escript >/dev/null") != 0)
    GTEST_SKIP() << "there is no Erlang: apt-get install erlang-base";
  log::set_level("off");  // Thousands of children end badly.
  const auto first = number_from("NTRACE_SEED", random_seed() % 1'000'000'000);
  const auto count = number_from("NTRACE_SCRIPTS", 1500);
  const scratch dir;
  std::vector<supervisor_script> scripts;
  std::string terms;
  for (std::uint64_t i = 0; i < count; ++i)
    terms += to_erlang(scripts.emplace_back(draw_script(first + i)));
  const auto file = dir.file("scripts", terms);
  const auto peer = std::string{NTRACE_TESTS} + "/integration/otp_peer.erl";

  subprocess_spec erlang;
  erlang.argv = {"escript", peer, file, dir / "log"};
  erlang.deadline = milliseconds{600'000};
  erlang.env = {"HOME=" + dir.path()};
  const auto played = ok(run_subprocess(erlang));

  ASSERT_TRUE(played.ok()) << "of seed " << first << ": " << played.out << played.err;
  const auto logs = split_logs(content_of(dir / "log"));
  ASSERT_EQ(logs.size(), scripts.size()) << "of seed " << first;
  for (std::size_t i = 0; i < scripts.size(); ++i) {
    const auto ours = stage{scripts[i]}.play();
    ASSERT_EQ(ours, logs[i]) << "repeat with NTRACE_SEED=" << scripts[i].seed
                             << " NTRACE_SCRIPTS=1 build/dev/bin/supervision_otp_test\n"
                             << "The first log is ours, the second OTP's, of the script\n"
                             << to_erlang(scripts[i]);
  }
}
