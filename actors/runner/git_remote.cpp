#include "actors/runner/git_remote.hpp"

#include <sys/socket.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>

#include "config/outage.hpp"
#include "config/subprocess.hpp"
#include "net/http_client.hpp"
#include "net/reachability.hpp"
#include "net/socket.hpp"

namespace ntrace::runner {
namespace {

namespace fs = std::filesystem;

constexpr std::uint16_t ssh_port = 22;

/// "[USER@]HOST[:PORT]".
host_port host_of(std::string_view authority) {
  std::uint16_t port = ssh_port;
  if (const auto at = authority.rfind('@'); at != std::string_view::npos)
    authority.remove_prefix(at + 1);
  const bool is_bracketed = authority.starts_with('[');
  const auto end = is_bracketed ? authority.find(']') : authority.find(':');
  const auto colon = end == std::string_view::npos ? end : authority.find(':', end);
  if (colon != std::string_view::npos)
    if (const auto named = parse_host_port("x" + std::string{authority.substr(colon)}))
      port = named->port;
  const auto host = authority.substr(0, end);
  return {std::string{is_bracketed ? host.substr(1) : host}, port};
}

error absent(const std::string& path, const std::string& message) {
  return to_error({path, outage_cause::absent, message});
}

bool is_there(const fs::path& path) {
  std::error_code code;
  return fs::exists(path, code) && !code;
}

bool is_empty_folder(const fs::path& path) {
  std::error_code code;
  return fs::is_directory(path, code) && fs::is_empty(path, code) && !code;
}

bool has_refs(const fs::path& git) {
  std::error_code code;
  if (is_there(git / "packed-refs")) return true;
  for (fs::recursive_directory_iterator at{git / "refs", code}, end; !code && at != end;
       at.increment(code))
    if (at->is_regular_file(code)) return true;
  return false;
}

/// A folder that `git clone` has begun: its skeleton, and no ref yet.
bool is_being_cloned(const fs::path& git) {
  const bool is_begun = is_there(git / "hooks") || is_there(git / "info") || is_there(git / "refs");
  if (!is_there(git / "HEAD")) return is_begun;
  const auto config = read_file((git / "config").string());
  return !has_refs(git) && (!config || config->find("[remote ") != std::string::npos);
}

/// A path that is not there says nothing of the commit: a file system may not be mounted, a mirror
/// may just be made.
result<void> ask_local(const std::string& path) {
  struct stat facts {};
  if (::stat(path.c_str(), &facts) != 0) {
    const auto message = "\"" + path + "\": " + std::strerror(errno);
    if (errno == EACCES || errno == EPERM) return fail(ec::forbidden, message);
    return fail(absent(path, message));
  }
  if (!S_ISDIR(facts.st_mode)) {  // Git reads bundles, too, and says itself what is wrong with one.
    if (::access(path.c_str(), R_OK) != 0)
      return fail(ec::forbidden, "\"" + path + "\" is not ours to read");
    return {};
  }
  if (::access(path.c_str(), R_OK | X_OK) != 0)
    return fail(ec::forbidden, "the folder \"" + path + "\" is not ours to read");
  if (is_empty_folder(path)) return fail(absent(path, "the folder \"" + path + "\" is empty"));
  for (const auto& git : {fs::path{path} / ".git", fs::path{path}}) {
    if (is_being_cloned(git))
      return fail(absent(path, "the repository \"" + path + "\" is still being made"));
    if (is_there(git / "HEAD") || fs::is_regular_file(git)) return {};
  }
  return fail(ec::not_found, "the folder \"" + path + "\" is no git repository");
}

result<void> ask_http(const std::string& url, const remote_options& options,
                      const cancellation* stop) {
  auto base = url;
  while (base.ends_with('/')) base.pop_back();
  const auto answer = net::fetch_url(
      {base + "/info/refs?service=git-upload-pack", options.ca_file, 0, options.deadline, true},
      stop);
  if (!answer) return fail(answer.error());
  return {};
}

/// An SSH server speaks first. One that hangs up before it did has no room for us.
result<void> expect_ssh(const host_port& at, const remote_options& options,
                        const cancellation* stop) {
  const auto fd = net::dial(at, options.deadline, stop);
  if (!fd) return fail(fd.error());
  if (!net::wait_ready(fd->get(), false, options.deadline, stop))
    return fail(to_error({at.host, outage_cause::silent, at.text() + " says nothing"}));
  std::array<char, 4> words{};
  const auto n = ::recv(fd->get(), words.data(), words.size(), 0);
  if (n <= 0)
    return fail(
        to_error({at.host, outage_cause::connection_lost, at.text() + " closed the connection"}));
  return {};
}

/// A word that the server's shell takes as it is.
std::string quoted(const std::string& text) {
  std::string out = "'";
  for (const char c : text) out += c == '\'' ? std::string{"'\\''"} : std::string{c};
  return out + "'";
}

result<void> ask_ssh(const git_location& to, const remote_options& options,
                     const cancellation* stop) {
  auto asked = expect_ssh(to.at, options, stop);
  // Git decodes such a path, and ssh would take such a name for an option.
  const bool is_plain = to.path.find('%') == std::string::npos && !to.user.starts_with('-') &&
                        !to.at.host.starts_with('-');
  if (!asked || !is_plain) return asked;
  subprocess_spec ssh;
  ssh.argv = {"ssh", "-o", "BatchMode=yes", "-o", "ConnectTimeout=15"};
  ssh.argv.insert(ssh.argv.end(), {"-p", std::to_string(to.at.port), "--"});
  ssh.argv.push_back((to.user.empty() ? "" : to.user + "@") + to.at.host);
  ssh.argv.push_back("git-upload-pack " + quoted(to.path));
  ssh.output_bytes_max = 4096;
  ssh.deadline = options.deadline;
  // A server may drop one connection of many: one refusal alone says little.
  for (int tries = 0; tries < 2; ++tries) {
    const auto done = run_subprocess(ssh, stop);
    if (!done) return fail(done.error());
    if (done->cancelled) return fail(ec::cancelled, "fetching was cancelled");
    if (done->timed_out || done->exit_code < 0)
      return fail(to_error({to.at.host, outage_cause::silent, to.at.text() + " does not answer"}));
    auto answer = ssh_answer(done->exit_code, !done->out.empty(), done->err);
    if (answer || answer.error().code != ec::forbidden || tries == 1) return answer;
    if (auto still = expect_ssh(to.at, options, stop); !still) return still;
  }
  return {};
}

}  // namespace

result<void> ssh_answer(int exit_code, bool has_output, const std::string& said) {
  if (has_output) return {};
  const auto words = said.substr(0, 500);
  if (exit_code == 255)
    return fail(ec::forbidden,
                "ssh was refused; its key must be allowed there, and the server's "
                "host key known here: " +
                    words);
  return fail(ec::not_found, "the server gives no such repository: " + words);
}

git_location parse_git_location(const std::string& text) {
  const std::string_view all{text};
  const auto end = all.find("://");
  if (end == std::string_view::npos) return {remote_kind::local, {}, {}, text};
  const auto scheme = all.substr(0, end);
  const auto rest = all.substr(end + 3);
  if (scheme == "file") return {remote_kind::local, {}, {}, std::string{rest}};
  if (scheme != "ssh") return {remote_kind::http, {}, {}, {}};
  const auto slash = std::min(rest.find('/'), rest.size());
  const auto authority = rest.substr(0, slash);
  auto path = rest.substr(slash);
  if (path.starts_with("/~")) path.remove_prefix(1);  // as git does
  const auto at = authority.rfind('@');
  return {remote_kind::ssh, host_of(authority),
          std::string{at == std::string_view::npos ? "" : authority.substr(0, at)},
          std::string{path}};
}

result<void> ask_git_remote(const std::string& location, const remote_options& options,
                            const cancellation* stop) {
  const auto to = parse_git_location(location);
  switch (to.kind) {
    case remote_kind::http:
      return ask_http(location, options, stop);
    case remote_kind::ssh:
      return ask_ssh(to, options, stop);
    case remote_kind::local:
      return ask_local(to.path);
  }
  return {};
}

}  // namespace ntrace::runner
