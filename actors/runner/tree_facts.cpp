#include "actors/runner/tree_facts.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>

#include "config/ascii.hpp"
#include "config/limits.hpp"
#include "config/shown_url.hpp"

namespace ntrace::runner {
namespace {

constexpr std::size_t lfs_pointer_bytes_max = 1023;  // The specification: below 1024.
constexpr std::size_t attributes_bytes_max = 64u << 10;
constexpr std::size_t named_max = 5;  // Paths in one message.

/// What decides how the tree is installed, and how much of it is read.
constexpr std::pair<std::string_view, std::uint64_t> top_files[] = {
    {"package.json", 1u << 20},
    {".npmrc", 64u << 10},
    {".yarnrc", 64u << 10},
    {".yarnrc.yml", 64u << 10},
    {"pnpm-workspace.yaml", 64u << 10},
    {"bunfig.toml", 64u << 10},
    {"yarn.lock", 16u << 20},
    {"package-lock.json", 16u << 20},
    {"npm-shrinkwrap.json", 16u << 20}};

std::string_view base_name(std::string_view path) {
  return path.substr(path.rfind('/') == path.npos ? 0 : path.rfind('/') + 1);
}

bool is_hex(std::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

bool is_number(std::string_view text) {
  return !text.empty() && text.size() <= 19 &&
         std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

std::string listed(const std::vector<std::string>& names, std::uint64_t count) {
  std::string out;
  for (const auto& name : names) out += (out.empty() ? "" : ", ") + name;
  return count > names.size() ? out + " and " + std::to_string(count - names.size()) + " more"
                              : out;
}

nlohmann::json notice(const char* code, std::string message) {
  return {{"level", "warn"}, {"code", code}, {"step", "fetch"}, {"message", std::move(message)}};
}

}  // namespace

bool is_lfs_pointer(std::string_view content) {
  if (content.size() > lfs_pointer_bytes_max || !content.ends_with('\n')) return false;
  std::string_view last;
  bool has_oid = false, has_size = false;
  for (bool is_first = true; !content.empty(); is_first = false) {
    const auto end = content.find('\n');
    const auto line = content.substr(0, end);
    content.remove_prefix(end + 1);
    const auto blank = line.find(' ');
    if (blank == line.npos || blank == 0) return false;
    const auto key = line.substr(0, blank), value = line.substr(blank + 1);
    if (is_first) {
      // The second is what it was before its specification had a home.
      if (key != "version" || (value != "https://git-lfs.github.com/spec/v1" &&
                               value != "https://hawser.github.com/spec/v1"))
        return false;
      continue;
    }
    if (!last.empty() && key <= last) return false;
    last = key;
    if (key == "oid")
      has_oid = value.starts_with("sha256:") && value.size() == 71 && is_hex(value.substr(7));
    else if (key == "size")
      has_size = is_number(value);
    else if (!key.starts_with("ext-"))
      return false;
  }
  return has_oid && has_size;
}

std::uint64_t lfs_size(std::string_view pointer) {
  std::uint64_t out = 0;
  const auto at = pointer.find("\nsize ");
  if (at != pointer.npos)
    std::from_chars(pointer.data() + at + 6, pointer.data() + pointer.size(), out);
  return out;
}

bool tree_facts::wants(std::string_view path, std::uint64_t size) {
  if (size <= lfs_pointer_bytes_max) return true;
  for (const auto& [name, bytes_max] : top_files)
    if (path == name) return size <= bytes_max;
  const auto name = base_name(path);
  return (name == ".gitmodules" || name == ".gitattributes") && size <= attributes_bytes_max;
}

void tree_facts::on_folder(const std::string& path) { folders_.insert(path); }

void tree_facts::on_file(const std::string& path, std::string_view content) {
  files_.insert(path);
  if (content.empty()) return;
  if (is_lfs_pointer(content)) {
    if (++pointers_count_ <= named_max) pointers_.push_back(path);
    const auto size = lfs_size(content);
    pointers_bytes_ += std::min(size, std::numeric_limits<std::uint64_t>::max() - pointers_bytes_);
    return;
  }
  const auto name = base_name(path);
  const bool is_top = std::any_of(std::begin(top_files), std::end(top_files),
                                  [&](const auto& one) { return path == one.first; });
  const bool is_of_git = name == ".gitmodules" || name == ".gitattributes";
  if (is_top || (is_of_git && texts_.size() < limits::tree_texts_max))
    texts_.emplace(path, content);
}

void tree_facts::on_missing(submodule part, std::string why) {
  if (++missing_count_ <= limits::submodules_max)
    missing_.push_back({std::move(part), std::move(why)});
}

void tree_facts::find_empty_submodules(const std::string& why) {
  for (const auto& [path, content] : texts_) {
    if (base_name(path) != ".gitmodules") continue;
    const auto above = path.substr(0, path.size() - std::string_view{".gitmodules"}.size());
    for (auto& one : parse_gitmodules(content)) {
      one.path.insert(0, above);
      const auto below = files_.lower_bound(one.path + "/");
      const bool has_files = below != files_.end() && below->starts_with(one.path + "/");
      if (folders_.count(one.path) != 0 && !has_files) on_missing(std::move(one), why);
    }
  }
}

void tree_facts::find_archive_attributes(const std::string& whole) {
  whole_ = whole;
  for (const auto& [path, content] : texts_) {
    if (base_name(path) != ".gitattributes") continue;
    std::string_view rest = content;
    while (!rest.empty()) {
      auto line = trimmed(take_line(rest));
      const auto blank = line.find_first_of(" \t");
      if (line.starts_with('#') || blank == line.npos) continue;
      const auto attributes = " " + std::string{line.substr(blank + 1)} + " ";
      for (const char* word : {" export-ignore ", " export-subst "})
        if (attributes.find(word) != attributes.npos && left_out_.size() < limits::tree_texts_max)
          left_out_.insert(std::string{line.substr(0, blank)});
    }
  }
}

const std::string& tree_facts::text(std::string_view name) const {
  static const std::string none;
  const auto at = texts_.find(name);
  return at == texts_.end() ? none : at->second;
}

std::vector<nlohmann::json> tree_facts::notices() const {
  std::vector<nlohmann::json> out;
  for (const auto& [what, why] : missing_) {
    auto one =
        notice("submodule_missing", "the folder " + what.path + " is empty: the submodule " +
                                        without_passwords(what.url) + " was not fetched: " + why);
    one["path"] = what.path;
    one["url"] = without_passwords(what.url);
    out.push_back(std::move(one));
  }
  if (missing_count_ > missing_.size())
    out.push_back(notice("submodule_missing",
                         std::to_string(missing_count_ - missing_.size()) +
                             " more submodules were not fetched; their folders are empty"));
  if (pointers_count_ > 0) {
    const bool is_one = pointers_count_ == 1;
    auto one = notice(
        "lfs_missing",
        (is_one ? "a file is a pointer" : std::to_string(pointers_count_) + " files are pointers") +
            std::string{" of Git LFS, "} + (is_one ? "its content" : "their contents") + " (" +
            std::to_string(pointers_bytes_) + " bytes) " + (is_one ? "was" : "were") +
            " not fetched: " + listed(pointers_, pointers_count_) +
            (pointers_advice_.empty() ? "" : "; " + pointers_advice_));
    one["count"] = pointers_count_;
    one["paths"] = pointers_;
    one["bytes"] = pointers_bytes_;
    out.push_back(std::move(one));
  }
  if (!left_out_.empty()) {
    std::vector<std::string> first;
    for (auto at = left_out_.begin(); at != left_out_.end() && first.size() < named_max; ++at)
      first.push_back(*at);
    out.push_back(notice("archive_not_whole",
                         "an archive is no whole tree: .gitattributes has export-ignore or "
                         "export-subst for " +
                             listed(first, left_out_.size()) + "; the whole one is " + whole_));
  }
  return out;
}

}  // namespace ntrace::runner
