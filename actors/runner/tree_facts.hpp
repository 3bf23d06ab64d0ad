#pragma once
// What a source's tree says of itself: which of its parts lie elsewhere, and how it is installed.
// Collected while its bundle is written; every text in it is hostile. Pure.
#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "actors/runner/gitmodules.hpp"

namespace ntrace::runner {

/// True for a Git LFS pointer, the text that stands in a commit for a file kept elsewhere, exactly
/// as its specification has it: `version` first, the other keys sorted, `oid` and `size` among
/// them.
bool is_lfs_pointer(std::string_view content);

/// The size of the file that a pointer stands for.
std::uint64_t lfs_size(std::string_view pointer);

class tree_facts {
public:
  /// Whether on_file wants the content of this file.
  static bool wants(std::string_view path, std::uint64_t size);
  void on_folder(const std::string& path);
  /// Each file and link; `content` is empty unless it was wanted.
  void on_file(const std::string& path, std::string_view content);
  /// A submodule that could not be had, and why.
  void on_missing(submodule part, std::string why);
  /// Of a tree that was not fetched by git: submodules whose folders are there and empty.
  void find_empty_submodules(const std::string& why);
  /// What its reader does to have the contents of pointers.
  void advise_of_pointers(const std::string& advice) { pointers_advice_ = advice; }
  /// The tree was made by somebody's `git archive`: what .gitattributes takes out is missing.
  void find_archive_attributes(const std::string& whole);

  /// The text of a file at the top: package.json, .npmrc, the locks; empty when there is none.
  const std::string& text(std::string_view name) const;
  bool has_file(std::string_view path) const { return files_.count(path) != 0; }
  /// One event for each kind of thing that the tree lacks: level, code, step, message and facts.
  std::vector<nlohmann::json> notices() const;

private:
  struct missing_part {
    submodule what;
    std::string why;
  };
  std::map<std::string, std::string, std::less<>> texts_;
  std::set<std::string, std::less<>> files_, folders_, left_out_;
  std::vector<missing_part> missing_;
  std::vector<std::string> pointers_;  ///< The first ones.
  std::uint64_t pointers_count_ = 0, missing_count_ = 0, pointers_bytes_ = 0;
  std::string pointers_advice_;
  std::string whole_;  ///< The source that has what is left out.
};

}  // namespace ntrace::runner
