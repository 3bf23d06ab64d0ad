#include "actors/runner/git_repository.hpp"

#include "actors/runner/git_remote.hpp"
#include "actors/runner/ssh_remote.hpp"
#include "config/shown_url.hpp"

namespace ntrace::runner {

result<git_repository> git_repository::make(const std::string& folder, const std::string& ca_file,
                                            milliseconds deadline, const cancellation* stop) {
  git_repository out{folder, ca_file, deadline, stop};
  if (auto made = make_folders(folder + "/repository"); !made) return fail(made.error());
  if (auto w = write_file_durably(folder + "/gitconfig", "[safe]\n\tdirectory = *\n"); !w)
    return fail(w.error());
  if (auto done = out.run({"init", "-q", "--bare", "."}); !done) return fail(done.error());
  return out;
}

void git_repository::allow_only(const std::vector<std::string>& protocols) {
  rules_ = {"-c", "protocol.allow=never"};
  for (const auto& one : protocols) {
    rules_.emplace_back("-c");
    rules_.push_back("protocol." + one + ".allow=always");
  }
}

subprocess_spec git_repository::spec(std::vector<std::string> words) const {
  subprocess_spec out;
  out.argv = {"git", "-c", "protocol.ext.allow=never", "-c", "core.hooksPath=/dev/null", "-c",
              "gc.auto=0",
              // A transfer that stands still ends.
              "-c", "http.lowSpeedLimit=1", "-c", "http.lowSpeedTime=30"};
  out.argv.insert(out.argv.end(), rules_.begin(), rules_.end());
  out.argv.insert(out.argv.end(), {"-C", folder_ + "/repository"});
  out.argv.insert(out.argv.end(), std::make_move_iterator(words.begin()),
                  std::make_move_iterator(words.end()));
  // Nobody's configuration but ours: a person's aliases and helpers must not steer a fleet.
  // Nor may a question wait for one who is not there.
  out.env = {"GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=" + folder_ + "/gitconfig",
             "GIT_TERMINAL_PROMPT=0", "GIT_ASKPASS=true",
             std::string{"GIT_SSH_COMMAND="} + git_ssh_command};
  if (!ca_file_.empty()) out.env.push_back("GIT_SSL_CAINFO=" + ca_file_);
  out.deadline = deadline_;
  return out;
}

result<std::string> git_repository::run(std::vector<std::string> words,
                                        std::size_t bytes_max) const {
  const auto verb = words.front();
  auto command = spec(std::move(words));
  command.output_bytes_max = bytes_max;
  auto done = run_subprocess(command, stop_);
  if (!done) return fail(done.error());
  if (done->cancelled) return fail(ec::cancelled, "fetching was cancelled");
  if (done->timed_out)
    return fail(ec::timed_out,
                "git " + verb + " took longer than " + std::to_string(deadline_.count()) + " ms");
  if (!done->ok())
    return fail(ec::source_failed, without_passwords("git " + verb + ": " + done->err));
  if (done->out.size() >= bytes_max)  // The rest of it was dropped.
    return fail(ec::source_limit,
                "git " + verb + " tells more than " + std::to_string(bytes_max) + " bytes");
  return std::move(done->out);
}

/// After git failed: what the remote has to say of it, or why it cannot be asked; nothing when it
/// answers well.
result<void> git_repository::remote_trouble(const std::string& url, const error& failed) const {
  if (failed.code != ec::source_failed && failed.code != ec::timed_out) return fail(failed);
  auto asked = ask_git_remote(url, {.ca_file = ca_file_, .scratch = folder_}, stop_);
  if (!asked) return asked;
  if (failed.code == ec::timed_out) return fail(failed);
  return {};
}

result<std::string> git_repository::fetch(const std::string& url,
                                          const std::string& revision) const {
  std::string wanted = "FETCH_HEAD";
  // Git waits for minutes for a server that is away.
  if (parse_git_location(url).kind == remote_kind::http)
    if (auto asked = ask_git_remote(url, {.ca_file = ca_file_, .scratch = folder_}, stop_); !asked)
      return fail(asked.error());
  auto shallow = run({"fetch", "-q", "--depth=1", "--no-tags", "--", url, revision});
  if (!shallow) {
    if (auto why = remote_trouble(url, shallow.error()); !why) return fail(why.error());
    // A server may refuse to give a bare commit: then everything is fetched, and the commit found.
    auto whole = run({"fetch", "-q", "--no-tags", "--", url, "+refs/*:refs/ntrace/*"});
    if (!whole) {
      auto why = remote_trouble(url, whole.error());
      return fail(why ? whole.error() : why.error());
    }
    wanted = revision;
  }
  auto commit = run({"rev-parse", "--verify", "-q", wanted + "^{commit}"});
  if (!commit) {
    if (auto why = remote_trouble(url, commit.error()); !why) return fail(why.error());
    return fail(ec::not_found, without_passwords(url) + " has no commit " + revision);
  }
  while (commit->ends_with('\n')) commit->pop_back();
  return commit;
}

}  // namespace ntrace::runner
