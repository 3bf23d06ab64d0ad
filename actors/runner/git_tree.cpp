#include "actors/runner/git_tree.hpp"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <optional>

#include "actors/runner/git_remote.hpp"
#include "actors/runner/source_spec.hpp"
#include "config/limits.hpp"
#include "config/outage.hpp"
#include "config/temporary_folder.hpp"
#include "net/socket.hpp"

namespace ntrace::runner {
namespace {

constexpr std::size_t listing_bytes_max = 64u << 20;
constexpr std::size_t gitmodules_bytes_max = 1u << 20;

struct tree_entry {
  std::string mode, id, path;
};

/// The output of `git ls-tree -z`: "mode type id\tpath\0".
result<std::vector<tree_entry>> parse_listing(std::string_view text) {
  std::vector<tree_entry> out;
  while (!text.empty()) {
    const auto end = text.find('\0');
    const auto record = text.substr(0, end);
    const auto tab = record.find('\t'), first = record.find(' '),
               second = record.find(' ', first == record.npos ? first : first + 1);
    if (end == text.npos || tab == record.npos || second == record.npos || second > tab)
      return fail(ec::source_failed, "git ls-tree gave no list of a tree");
    text.remove_prefix(end + 1);
    out.push_back({std::string{record.substr(0, first)},
                   std::string{record.substr(second + 1, tab - second - 1)},
                   std::string{record.substr(tab + 1)}});
    if (out.size() > limits::source_entries_max)
      return fail(ec::source_limit, "the commit has more than " +
                                        std::to_string(limits::source_entries_max) + " entries");
  }
  return out;
}

/// A part of the path is ".git", in letters of any case.
bool has_git_folder(std::string_view path) {
  while (!path.empty()) {
    const auto end = std::min(path.find('/'), path.size());
    const auto part = path.substr(0, end);
    if (part.size() == 4 && part[0] == '.' && (part[1] | 32) == 'g' && (part[2] | 32) == 'i' &&
        (part[3] | 32) == 't')
      return true;
    path.remove_prefix(std::min(end + 1, path.size()));
  }
  return false;
}

/// `git cat-file --batch`, read while it writes, so that a bomb of a repository never lies
/// unpacked on the disk.
class blob_reader {
public:
  blob_reader(milliseconds deadline, const cancellation* stop)
      : until_{steady_clock::now() + deadline}, stop_{stop} {}
  ~blob_reader() {
    if (pid_ <= 0) return;
    ::kill(-pid_, SIGKILL);  // Ended, or of no more use; unreaped, so the number is its own.
    ::waitpid(pid_, nullptr, 0);
  }
  blob_reader(const blob_reader&) = delete;
  blob_reader& operator=(const blob_reader&) = delete;

  /// The blobs come in the order of `ids`, one a line.
  result<void> start(const git_repository& repository, const std::string& ids) {
    const auto list = repository.folder() + "/blobs";
    if (auto put = write_file_durably(list, ids); !put) return put;
    const unique_fd in{::open(list.c_str(), O_RDONLY | O_CLOEXEC)};
    std::array<int, 2> fds{};
    if (!in || ::pipe2(fds.data(), O_CLOEXEC) != 0)
      return fail(io_error("read", "git cat-file", errno));
    from_ = unique_fd{fds[0]};
    const unique_fd to{fds[1]};
    const auto pid =
        spawn_subprocess(repository.spec({"cat-file", "--batch"}), in.get(), to.get(), -1);
    if (!pid) return fail(pid.error());
    pid_ = *pid;
    return {};
  }

  /// The head "id type size" of the next one; its size.
  result<std::uint64_t> next(const std::string& id) {
    std::string head;
    for (char c = 0; head.size() < 256; head += c) {
      const auto got = read(&c, 1);
      if (!got) return fail(got.error());
      if (*got == 0 || c == '\n') break;
    }
    std::uint64_t size = 0;
    const auto blank = head.rfind(' ');
    const bool is_blob = head.starts_with(id + " blob ");
    const auto parsed =
        is_blob ? std::from_chars(head.data() + blank + 1, head.data() + head.size(), size)
                : std::from_chars_result{nullptr, std::errc::invalid_argument};
    if (parsed.ec != std::errc{})
      return fail(ec::source_failed, "the repository has no blob " + id + ": \"" + head + "\"");
    return size;
  }
  result<std::size_t> read(char* into, std::size_t size) {
    if (at_ == filled_) {
      const auto left = std::chrono::ceil<milliseconds>(until_ - steady_clock::now());
      if (left.count() <= 0 || !net::wait_ready(from_.get(), false, left, stop_))
        return fail(stop_ && stop_->is_raised() ? ec::cancelled : ec::timed_out,
                    "git cat-file did not end in time");
      const auto n = ::read(from_.get(), block_.data(), block_.size());
      if (n < 0) return fail(io_error("read", "git cat-file", errno));
      at_ = 0;
      filled_ = static_cast<std::size_t>(n);
    }
    const auto given = std::min(size, filled_ - at_);
    std::copy_n(block_.data() + at_, given, into);
    at_ += given;
    return given;
  }

private:
  std::chrono::steady_clock::time_point until_;
  const cancellation* stop_;
  unique_fd from_;
  int pid_ = -1;
  std::array<char, 65536> block_;
  std::size_t at_ = 0, filled_ = 0;
};

/// A repository, and where its tree lies in the whole.
struct part {
  const git_repository& repository;
  std::string commit, url, above;
  std::size_t depth = 0;
};

class whole_tree {
public:
  whole_tree(bundle_writer& to, const source_options& options, const cancellation* stop)
      : to_{to}, options_{options}, stop_{stop} {}

  result<void> add(const part& from) {
    const auto listing = from.repository.run(
        {"ls-tree", "-r", "-t", "-z", "--full-tree", from.commit}, listing_bytes_max);
    if (!listing) return fail(listing.error());
    auto entries = parse_listing(*listing);
    if (!entries) return fail(entries.error());
    for (auto& entry : *entries) {
      auto path = safe_path(entry.path, 0);
      if (!path) return fail(path.error());
      if (has_git_folder(*path))
        return fail(ec::source_hostile, "the commit holds \"" + path->substr(0, 200) +
                                            "\", which git itself refuses to check out");
      // The whole of it, too: parts of parts grow long, and "." is no name.
      auto whole = safe_path(from.above + *path, 0);
      if (!whole) return fail(whole.error());
      if (path->empty())
        return fail(ec::source_hostile, "the commit holds an entry without a name");
      entry.path = std::move(*whole);
    }
    if (auto added = add_blobs(from, *entries); !added) return added;
    return add_submodules(from, *entries);
  }

private:
  static bool is_blob(const tree_entry& entry) {
    return entry.mode != "160000" && entry.mode != "040000";
  }

  result<void> add_blobs(const part& from, const std::vector<tree_entry>& entries) {
    std::string ids;
    for (const auto& entry : entries)
      if (is_blob(entry)) ids += entry.id + "\n";
    blob_reader blobs{options_.deadline, stop_};
    if (auto started = blobs.start(from.repository, ids); !started) return started;
    for (const auto& entry : entries) {
      if (stop_ && stop_->is_raised()) return fail(ec::cancelled, "fetching was cancelled");
      auto added = is_blob(entry) ? add_blob(blobs, entry) : to_.add_folder(entry.path, 0755);
      if (!added) return added;
    }
    return {};
  }

  result<void> add_blob(blob_reader& blobs, const tree_entry& entry) {
    const auto size = blobs.next(entry.id);
    if (!size) return fail(size.error());
    result<void> added{};
    if (entry.mode == "120000") {
      std::string target(std::min<std::uint64_t>(*size, limits::path_bytes_max), '\0');
      for (std::size_t at = 0; at < target.size();) {
        const auto got = blobs.read(target.data() + at, target.size() - at);
        if (!got) return fail(got.error());
        if (*got == 0) return fail(ec::source_failed, "git cat-file ended early");
        at += *got;
      }
      added = to_.add_symlink(entry.path, target);
    } else {
      added = to_.add_file(entry.path, entry.mode == "100755" ? 0755 : 0644, *size,
                           [&](char* into, std::size_t room) { return blobs.read(into, room); });
    }
    if (!added) return added;
    char newline = 0;
    const auto got = blobs.read(&newline, 1);
    if (!got) return fail(got.error());
    return {};
  }

  /// What .gitmodules of that commit says; a commit without one names none, nor does a link.
  static result<std::vector<submodule>> modules_of(const part& from,
                                                   const std::vector<tree_entry>& entries) {
    const auto at = std::find_if(entries.begin(), entries.end(), [&](const tree_entry& entry) {
      return entry.path == from.above + ".gitmodules" && entry.mode.starts_with("100");
    });
    if (at == entries.end()) return std::vector<submodule>{};
    const auto text = from.repository.run({"cat-file", "blob", at->id}, gitmodules_bytes_max);
    if (!text) return fail(text.error());
    return parse_gitmodules(*text);
  }

  result<void> add_submodules(const part& from, const std::vector<tree_entry>& entries) {
    std::optional<result<std::vector<submodule>>> modules;
    for (const auto& entry : entries) {
      if (entry.mode != "160000") continue;
      if (!modules) modules = modules_of(from, entries);
      const bool is_too_long = !*modules && modules->error().code == ec::source_limit;
      if (!*modules && !is_too_long) return fail(modules->error());
      if (is_too_long)
        to_.facts().on_missing(
            {entry.path, ""},
            ".gitmodules is longer than " + std::to_string(gitmodules_bytes_max) + " bytes");
      else if (auto added = add_submodule(from, entry, **modules); !added)
        return added;
    }
    return {};
  }

  result<void> add_submodule(const part& from, const tree_entry& entry,
                             const std::vector<submodule>& modules) {
    const auto known = std::find_if(modules.begin(), modules.end(), [&](const submodule& one) {
      return from.above + one.path == entry.path;
    });
    submodule named{entry.path, known == modules.end() ? "" : known->url};
    const auto missing = [&](const std::string& why) -> result<void> {
      to_.facts().on_missing(named, why);
      return {};
    };
    if (known == modules.end()) return missing(".gitmodules does not name it");
    const auto url = resolve_submodule_url(from.url, named.url);
    if (const auto why = refusal_of_submodule(from.url, url); !why.empty()) return missing(why);
    if (const auto why = refusal_of_address(from.url, url); !why.empty()) return missing(why);
    if (from.depth == limits::submodule_depth_max)
      return missing("it is more than " + std::to_string(limits::submodule_depth_max) +
                     " submodules below the top");
    if (++count_ > limits::submodules_max)
      return missing("there are more than " + std::to_string(limits::submodules_max));
    const auto left = std::chrono::ceil<milliseconds>(until_ - steady_clock::now());
    if (left.count() <= 0) return missing("the time for fetching them has passed");
    const temporary_folder folder{options_.scratch, "submodule"};
    if (folder.path().empty()) return fail(io_error("create a folder in", options_.scratch, errno));
    auto repository = git_repository::make(folder.path(), options_.ca_file, left, stop_);
    if (!repository) return fail(repository.error());
    repository->allow_only(is_on_this_machine(from.url)
                               ? std::vector<std::string>{"file", "https", "http", "ssh"}
                               : std::vector<std::string>{"https", "http", "ssh"});
    const auto commit = repository->fetch(url, entry.id);
    // A run waits for a submodule's server as for its own. A missing path of this machine is no
    // outage: its repository lies in the same folder, and that is there.
    auto away = commit ? std::nullopt : outage_of(commit.error());
    // What went wrong here says nothing of the submodule.
    if (!commit && (commit.error().code == ec::cancelled || commit.error().code == ec::io))
      return fail(commit.error());
    if (away && away->cause != outage_cause::absent) {
      away->message.insert(0, "the submodule " + entry.path + ": ");
      return fail(to_error(*away));
    }
    if (!commit) return missing(commit.error().message.substr(0, 500));
    return add({*repository, *commit, url, entry.path + "/", from.depth + 1});
  }

  /// A commit must not make the runner call what only the machine's own network can.
  std::string refusal_of_address(const std::string& parent, const std::string& url) const {
    const auto to = parse_git_location(url);
    if (to.kind == remote_kind::local || to.at.host == parse_git_location(parent).at.host)
      return "";
    const auto* entry = net::find_allowed(options_.allow, to.at.host, to.at.port);
    net::socket_addresses found;
    if ((entry && entry->allow_private) || net::look_up(to.at, 0, found) != 0) return "";
    const bool is_private = std::any_of(found.begin(), found.end(), [](const auto& at) {
      return net::is_private_address(at.get());
    });
    if (!is_private) return "";
    return "its host has a private address; to allow it add \"" + to.at.text() +
           "\" to the settings network_allow and network_allow_private";
  }

  bundle_writer& to_;
  const source_options& options_;
  const cancellation* stop_;
  std::chrono::steady_clock::time_point until_ = steady_clock::now() + options_.deadline;
  std::size_t count_ = 0;
};

}  // namespace

result<bundle> bundle_commit(const git_repository& repository, const std::string& commit,
                             const std::string& url, const source_options& options,
                             const cancellation* stop) {
  auto writer = bundle_writer::make(options.scratch);
  if (!writer) return fail(writer.error());
  whole_tree tree{*writer, options, stop};
  if (auto added = tree.add({repository, commit, url, "", 0}); !added) return fail(added.error());
  return writer->finish();
}

}  // namespace ntrace::runner
