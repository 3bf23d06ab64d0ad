#include "actors/runner/source.hpp"

#include <cerrno>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "actors/runner/git_tree.hpp"
#include "config/json_parse.hpp"
#include "config/limits.hpp"
#include "config/outage.hpp"
#include "config/temporary_folder.hpp"
#include "net/http_client.hpp"

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

/// A text of what a registry has answered; empty when there is none of that name.
std::string text_of(const nlohmann::json& object, const char* name) {
  const auto at = object.is_object() ? object.find(name) : object.end();
  return object.is_object() && at != object.end() && at->is_string() ? at->get<std::string>() : "";
}

/// Subresource integrity as npm writes it, "sha512-<base64>"; the hexadecimal shasum of old
/// packages is sha1.
result<void> verify(const nlohmann::json& dist, const std::string& archive,
                    const std::string& what) {
  const auto integrity = text_of(dist, "integrity");
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
  const auto url = text_of(dist, "tarball");
  if (url.empty())
    return fail(ec::source_failed, "the registry's answer for " + spec.text + " names no tarball");
  auto archive = download(url, limits::download_bytes_max, options, stop);
  if (!archive) return fail(archive.error());
  if (auto same = verify(dist, *archive, spec.text); !same) return fail(same.error());
  return bundle_bytes(*archive, 1, options, stop);
}

result<bundle> fetch_git(const source_spec& spec, const source_options& options,
                         const cancellation* stop) {
  const temporary_folder folder{options.scratch, "source"};
  if (folder.path().empty()) return fail(io_error("create a folder in", options.scratch, errno));
  const auto repository =
      git_repository::make(folder.path(), options.ca_file, options.deadline, stop);
  if (!repository) return fail(repository.error());
  const auto commit = repository->fetch(spec.location, spec.revision);
  if (!commit) return fail(commit.error());
  return bundle_commit(*repository, *commit, spec.location, options, stop);
}

result<bundle> fetch_any(const source_spec& spec, const source_options& options,
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

}  // namespace

result<bundle> fetch_source(const source_spec& spec, const source_options& options,
                            const cancellation* stop) {
  auto got = fetch_any(spec, options, stop);
  if (!got) return got;
  const bool is_folder = spec.kind == source_kind::dir;
  got->tree.advise_of_pointers(is_folder ? "run `git lfs pull` in the folder"
                                         : "commit them as plain files (`git lfs migrate export`), "
                                           "or profile a folder after `git lfs pull`");
  if (spec.kind == source_kind::git) return got;
  got->tree.find_empty_submodules(is_folder ? "run `git submodule update --init` in the folder"
                                            : "an archive holds none; git+URL#REV fetches them");
  if (spec.kind == source_kind::github)
    got->tree.find_archive_attributes("git+https://github.com/" + spec.location + "#" +
                                      spec.revision);
  return got;
}

}  // namespace ntrace::runner
