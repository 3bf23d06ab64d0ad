#include "actors/runner/source.hpp"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "actors/runner/git_remote.hpp"
#include "config/json_parse.hpp"
#include "config/limits.hpp"
#include "config/outage.hpp"
#include "config/subprocess.hpp"
#include "config/temporary_folder.hpp"
#include "net/http_client.hpp"
#include "net/socket.hpp"

namespace ntrace::runner {
namespace {

constexpr std::size_t metadata_bytes_max = 8u << 20;

result<bundle> bundle_bytes(const std::string& archive, unsigned strip,
                            const source_options& options, const cancellation* stop) {
  bool given = false;
  return bundle_archive(
      [&]() -> result<std::string_view> {
        return std::exchange(given, true) ? std::string_view{} : std::string_view{archive};
      },
      strip, options.scratch, stop);
}

result<std::string> download(const std::string& url, std::size_t bytes_max,
                             const source_options& options, const cancellation* stop) {
  return net::fetch_url({url, options.ca_file, bytes_max, options.deadline}, stop);
}

result<bundle> fetch_github(const source_spec& spec, const source_options& options,
                            const cancellation* stop) {
  const auto url = options.github_url + "/" + spec.location + "/tar.gz/" + spec.revision;
  auto archive = download(url, limits::download_bytes_max, options, stop);
  if (!archive) return fail(archive.error());
  return bundle_bytes(*archive, 1, options, stop);
}

/// Subresource integrity as npm writes it, "sha512-<base64>"; the hexadecimal shasum of old
/// packages is sha1.
result<void> verify(const nlohmann::json& dist, const std::string& archive,
                    const std::string& what) {
  const auto integrity = dist.value("integrity", "");
  const auto dash = integrity.find('-');
  if (dash == std::string::npos)
    return fail(ec::source_failed, "the registry gives no integrity for " + what);
  if (digest_base64(integrity.substr(0, dash), archive) != integrity.substr(dash + 1))
    return fail(ec::source_failed,
                "the tarball of " + what + " does not match the registry's integrity");
  return {};
}

result<bundle> fetch_npm(const source_spec& spec, const source_options& options,
                         const cancellation* stop) {
  auto name = spec.location;
  if (const auto slash = name.find('/'); slash != std::string::npos) name.replace(slash, 1, "%2f");
  auto base = options.npm_registry;
  if (!base.ends_with('/')) base += '/';
  const auto text = download(base + name + "/" + spec.revision, metadata_bytes_max, options, stop);
  if (!text) return fail(text.error());
  const auto meta = parse_or_discard(*text);
  const auto dist =
      meta.is_object() ? meta.value("dist", nlohmann::json::object()) : nlohmann::json::object();
  const auto url = dist.is_object() ? dist.value("tarball", "") : "";
  if (url.empty())
    return fail(ec::source_failed, "the registry's answer for " + spec.text + " names no tarball");
  auto archive = download(url, limits::download_bytes_max, options, stop);
  if (!archive) return fail(archive.error());
  if (auto same = verify(dist, *archive, spec.text); !same) return fail(same.error());
  return bundle_bytes(*archive, 1, options, stop);
}

class git {
public:
  git(const std::string& folder, const source_options& options, const cancellation* stop)
      : folder_{folder}, ca_file_{options.ca_file}, deadline_{options.deadline}, stop_{stop} {}

  subprocess_spec spec(std::vector<std::string> words) const {
    subprocess_spec out;
    out.argv = {
        "git",       "-c", "protocol.ext.allow=never", "-c", "core.hooksPath=/dev/null", "-c",
        "gc.auto=0", "-C", folder_ + "/repository"};
    out.argv.insert(out.argv.end(), std::make_move_iterator(words.begin()),
                    std::make_move_iterator(words.end()));
    // Nobody's configuration but ours: a person's aliases and helpers must not steer a fleet.
    out.env = {"GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=" + folder_ + "/gitconfig",
               "GIT_TERMINAL_PROMPT=0", "GIT_ASKPASS=true"};
    if (!ca_file_.empty()) out.env.push_back("GIT_SSL_CAINFO=" + ca_file_);
    out.deadline = deadline_;
    return out;
  }
  result<std::string> run(std::vector<std::string> words) const {
    const auto verb = words.front();
    const auto done = run_subprocess(spec(std::move(words)), stop_);
    if (!done) return fail(done.error());
    if (done->cancelled) return fail(ec::cancelled, "fetching was cancelled");
    if (done->timed_out)
      return fail(ec::timed_out,
                  "git " + verb + " took longer than " + std::to_string(deadline_.count()) + " ms");
    if (!done->ok()) return fail(ec::source_failed, "git " + verb + ": " + done->err);
    return done->out;
  }

private:
  std::string folder_, ca_file_;
  milliseconds deadline_;
  const cancellation* stop_;
};

/// `git archive` read while it is written, so that a bomb of a repository never lands on disk
/// whole.
result<bundle> archive_commit(const git& repository, const std::string& commit,
                              const source_options& options, const cancellation* stop) {
  std::array<int, 2> fds{};
  if (::pipe2(fds.data(), O_CLOEXEC) != 0) return fail(io_error("pipe", "git archive", errno));
  const unique_fd read_end{fds[0]};
  unique_fd write_end{fds[1]};
  const auto pid = spawn_subprocess(repository.spec({"archive", "--format=tar", commit}), -1,
                                    write_end.get(), -1);
  if (!pid) return fail(pid.error());
  write_end.reset();
  const auto until = steady_clock::now() + options.deadline;
  std::array<char, 65536> block;
  auto made = bundle_archive(
      [&]() -> result<std::string_view> {
        const auto left = std::chrono::ceil<milliseconds>(until - steady_clock::now());
        if (left.count() <= 0 || !net::wait_ready(read_end.get(), false, left, stop))
          return fail(stop && stop->is_raised() ? ec::cancelled : ec::timed_out,
                      "git archive did not end in time");
        const auto n = ::read(read_end.get(), block.data(), block.size());
        if (n < 0) return fail(io_error("read", "git archive", errno));
        return std::string_view{block.data(), static_cast<std::size_t>(n)};
      },
      0, options.scratch, stop);
  ::kill(-*pid, SIGKILL);  // Ended, or of no more use; unreaped, so the number is still its own.
  ::waitpid(*pid, nullptr, 0);
  return made;
}

/// After git failed: what the remote has to say of it, or why it cannot be asked; nothing when it
/// answers well.
result<void> remote_trouble(const source_spec& spec, const error& failed,
                            const source_options& options, const cancellation* stop) {
  if (failed.code != ec::source_failed && failed.code != ec::timed_out) return fail(failed);
  auto asked = ask_git_remote(spec.location, {options.ca_file}, stop);
  if (!asked) return asked;
  if (failed.code == ec::timed_out) return fail(failed);
  return {};
}

result<bundle> fetch_git(const source_spec& spec, const source_options& options,
                         const cancellation* stop) {
  const temporary_folder folder{options.scratch, "source"};
  if (folder.path().empty()) return fail(io_error("create a folder in", options.scratch, errno));
  if (auto made = make_folders(folder.path() + "/repository"); !made) return fail(made.error());
  if (auto w = write_file_durably(folder.path() + "/gitconfig", "[safe]\n\tdirectory = *\n"); !w)
    return fail(w.error());
  const git repository{folder.path(), options, stop};
  if (auto done = repository.run({"init", "-q", "--bare", "."}); !done) return fail(done.error());
  std::string wanted = "FETCH_HEAD";
  auto shallow =
      repository.run({"fetch", "-q", "--depth=1", "--no-tags", spec.location, spec.revision});
  if (!shallow) {
    if (auto why = remote_trouble(spec, shallow.error(), options, stop); !why)
      return fail(why.error());
    // A server may refuse to give a bare commit: then everything is fetched, and the commit found.
    auto whole =
        repository.run({"fetch", "-q", "--no-tags", spec.location, "+refs/*:refs/ntrace/*"});
    if (!whole) {
      auto why = remote_trouble(spec, whole.error(), options, stop);
      return fail(why ? whole.error() : why.error());
    }
    wanted = spec.revision;
  }
  auto commit = repository.run({"rev-parse", "--verify", "-q", wanted + "^{commit}"});
  if (!commit) {
    if (auto why = remote_trouble(spec, commit.error(), options, stop); !why)
      return fail(why.error());
    return fail(ec::not_found, spec.location + " has no commit " + spec.revision);
  }
  while (commit->ends_with('\n')) commit->pop_back();
  return archive_commit(repository, *commit, options, stop);
}

}  // namespace

result<bundle> fetch_source(const source_spec& spec, const source_options& options,
                            const cancellation* stop) {
  switch (spec.kind) {
    case source_kind::dir:
      if (std::error_code code; !std::filesystem::exists(spec.location, code) && !code)
        return fail(to_error(
            {spec.location, outage_cause::absent, "there is no folder \"" + spec.location + "\""}));
      return bundle_folder(spec.location, options.scratch, stop);
    case source_kind::git:
      return fetch_git(spec, options, stop);
    case source_kind::npm:
      return fetch_npm(spec, options, stop);
    case source_kind::github:
      return fetch_github(spec, options, stop);
  }
  return fail(ec::defect, "no such source");
}

}  // namespace ntrace::runner
