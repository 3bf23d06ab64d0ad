#pragma once
// Turns folders and hostile archives into a checked bundle (actors/zone/linux/bundle_format.hpp).
#include <functional>
#include <set>
#include <string>

#include "actors/runner/tree_facts.hpp"
#include "config/cancellation.hpp"
#include "config/digest.hpp"
#include "config/file.hpp"
#include "config/result.hpp"

namespace ntrace::runner {

/// A source ready to be unpacked in a zone.
struct bundle {
  unique_fd file;            ///< Positioned at its start.
  std::string digest;        ///< "sha256:…" of all its bytes.
  std::string package_json;  ///< Empty when there is none.
  tree_facts tree;           ///< What it says of itself.
  std::uint64_t entries = 0;
  std::uint64_t bytes = 0;  ///< Of the files' contents.
};

/// Writes one bundle into an unnamed file in `scratch`. Every add checks path, size and count:
/// ec::source_hostile or ec::source_limit.
class bundle_writer {
public:
  static result<bundle_writer> make(const std::string& scratch);
  result<void> add_folder(const std::string& path, unsigned mode);
  result<void> add_symlink(const std::string& path, const std::string& target);
  /// `read` fills a buffer and gives the bytes it put there; 0 ends early (an error).
  result<void> add_file(const std::string& path, unsigned mode, std::uint64_t size,
                        const std::function<result<std::size_t>(char*, std::size_t)>& read);
  result<bundle> finish();
  /// For who knows more of the tree than what was added.
  tree_facts& facts() { return facts_; }

private:
  explicit bundle_writer(unique_fd file)
      : file_{std::move(file)}, hash_{std::make_unique<sha256>()} {}
  result<void> begin(std::uint32_t kind, const std::string& path, unsigned mode,
                     std::uint64_t size);
  result<void> put(std::string_view bytes);

  unique_fd file_;
  std::unique_ptr<sha256> hash_;
  std::set<std::string> links_, files_;
  tree_facts facts_;
  std::string pending_;
  std::uint64_t entries_ = 0, bytes_ = 0;
};

/// Everything below `folder` but `.git`, in the order of names.
result<bundle> bundle_folder(const std::string& folder, const std::string& scratch,
                             const cancellation* stop);

/// A tar archive (plain, gzip, xz or zstd) read by `read`, its first `strip` path parts dropped.
/// Links that leave it, devices, FIFOs and hard links are ec::source_hostile; set-id bits are
/// dropped.
result<bundle> bundle_archive(const std::function<result<std::string_view>()>& read, unsigned strip,
                              const std::string& scratch, const cancellation* stop);

}  // namespace ntrace::runner
