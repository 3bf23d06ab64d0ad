#include "actors/runner/git_remote.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>

#include "actors/runner/gitmodules.hpp"
#include "actors/runner/ssh_remote.hpp"
#include "config/outage.hpp"
#include "net/http_client.hpp"

namespace ntrace::runner {
namespace {

namespace fs = std::filesystem;

constexpr std::uint16_t ssh_port = 22;

/// "[USER@]HOST[:PORT]".
git_location located(remote_kind kind, std::uint16_t port, std::string_view authority,
                     std::string_view path) {
  git_location out{kind, {"", port}, false, {}, std::string{path}};
  if (const auto at = authority.rfind('@'); at != std::string_view::npos) {
    out.user = authority.substr(0, at);
    authority.remove_prefix(at + 1);
  }
  const bool is_bracketed = authority.starts_with('[');
  const auto end = is_bracketed ? authority.find(']') : authority.find(':');
  const auto colon = end == std::string_view::npos ? end : authority.find(':', end);
  if (colon != std::string_view::npos)
    if (const auto named = parse_host_port("x" + std::string{authority.substr(colon)})) {
      out.at.port = named->port;
      out.has_port = true;
    }
  const auto host = authority.substr(0, end);
  out.at.host = is_bracketed ? host.substr(1) : host;
  return out;
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

}  // namespace

git_location parse_git_location(const std::string& text) {
  const std::string_view all{text};
  const auto end = all.find("://");
  if (end == std::string_view::npos) {
    if (const auto path = text.starts_with('/') ? 0 : path_of_scp(all); path != 0)
      return located(remote_kind::ssh, ssh_port, all.substr(0, path - 1), all.substr(path));
    return {remote_kind::local, {}, false, {}, text};
  }
  const auto scheme = all.substr(0, end);
  const auto rest = all.substr(end + 3);
  if (scheme == "file") return {remote_kind::local, {}, false, {}, std::string{rest}};
  const auto slash = std::min(rest.find('/'), rest.size());
  const auto authority = rest.substr(0, slash);
  auto path = rest.substr(slash);
  if (scheme != "ssh")
    return located(remote_kind::http, scheme == "http" ? 80 : 443, authority, path);
  if (path.starts_with("/~")) path.remove_prefix(1);  // as git does
  return located(remote_kind::ssh, ssh_port, authority, path);
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
