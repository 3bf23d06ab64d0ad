#include "actors/runner/bundle.hpp"

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>
#include <memory>

#include "actors/runner/source_spec.hpp"
#include "actors/zone/linux/bundle_format.hpp"
#include "config/limits.hpp"

namespace ntrace::runner {
namespace fs = std::filesystem;
using zone::bundle_header;
using zone::bundle_kind;
using zone::bundle_magic;
namespace {

constexpr std::size_t flush_bytes = 1u << 20;

struct archive_source {
  const std::function<result<std::string_view>()>& read;
  std::string piece;
  error failed;
};

la_ssize_t on_read(archive* a, void* context, const void** out) {
  auto& source = *static_cast<archive_source*>(context);
  auto piece = source.read();
  if (!piece) {
    source.failed = piece.error();
    archive_set_error(a, EIO, "%s", source.failed.message.c_str());
    return ARCHIVE_FATAL;
  }
  *out = piece->data();
  return static_cast<la_ssize_t>(piece->size());
}

/// Entries that are dropped count, too: the reader unpacks them to get past them.
class passed_entries {
public:
  result<void> count(archive_entry* entry) {
    const auto size =
        static_cast<std::uint64_t>(std::max<la_int64_t>(archive_entry_size(entry), 0));
    bytes_ += std::min(size, limits::source_bytes_max + 1);
    if (++entries_ > limits::source_entries_max || bytes_ > limits::source_bytes_max)
      return fail(ec::source_limit, "the archive has more than " +
                                        std::to_string(limits::source_entries_max) +
                                        " entries, or unpacks to more than " +
                                        std::to_string(limits::source_bytes_max) + " bytes");
    return {};
  }

private:
  std::uint64_t entries_ = 0, bytes_ = 0;
};

result<void> add_entry(bundle_writer& to, archive* a, archive_entry* entry, unsigned strip) {
  const char* raw = archive_entry_pathname(entry);
  if (raw == nullptr) return fail(ec::source_hostile, "the source holds an entry without a name");
  auto path = safe_path(raw, strip);
  if (!path) return fail(path.error());
  if (path->empty()) return {};
  const auto mode = static_cast<unsigned>(archive_entry_perm(entry));
  if (archive_entry_hardlink(entry) != nullptr)
    return fail(ec::source_hostile, "the source holds the hard link \"" + *path +
                                        "\"; only files, folders and symbolic links are unpacked");
  switch (archive_entry_filetype(entry)) {
    case AE_IFDIR:
      return to.add_folder(*path, mode);
    case AE_IFLNK: {
      const char* target = archive_entry_symlink(entry);
      return to.add_symlink(*path, target ? target : "");
    }
    case AE_IFREG:
      return to.add_file(
          *path, mode,
          static_cast<std::uint64_t>(std::max<la_int64_t>(archive_entry_size(entry), 0)),
          [a](char* into, std::size_t size) -> result<std::size_t> {
            const auto n = archive_read_data(a, into, size);
            if (n < 0)
              return fail(ec::source_failed,
                          std::string{"the archive is damaged: "} + archive_error_string(a));
            return static_cast<std::size_t>(n);
          });
    default:
      return fail(ec::source_hostile,
                  "the source holds \"" + *path + "\", which is a device, socket or FIFO");
  }
}

}  // namespace

result<bundle_writer> bundle_writer::make(const std::string& scratch) {
  unique_fd file{::open(scratch.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600)};
  if (!file) {
    auto name = scratch + "/bundle.XXXXXX";
    file = unique_fd{::mkostemp(name.data(), O_CLOEXEC)};
    if (!file) return fail(io_error("create", name, errno));
    ::unlink(name.c_str());
  }
  return bundle_writer{std::move(file)};
}

result<void> bundle_writer::put(std::string_view bytes) {
  hash_->add(bytes);
  pending_.append(bytes);
  if (pending_.size() < flush_bytes) return {};
  if (!write_all(file_.get(), pending_))
    return fail(io_error("write", "the source's bundle", errno));
  pending_.clear();
  return {};
}

result<void> bundle_writer::begin(std::uint32_t kind, const std::string& path, unsigned mode,
                                  std::uint64_t size) {
  if (++entries_ > limits::source_entries_max)
    return fail(ec::source_limit, "the source has more than " +
                                      std::to_string(limits::source_entries_max) + " entries");
  for (auto slash = path.find('/'); slash != std::string::npos; slash = path.find('/', slash + 1))
    if (const auto above = path.substr(0, slash);
        links_.count(above) != 0 || files_.count(above) != 0)
      return fail(ec::source_hostile,
                  "the source holds \"" + path + "\" below \"" + above + "\", which is no folder");
  if (links_.count(path) != 0 ||
      (kind != static_cast<std::uint32_t>(bundle_kind::folder) && !files_.insert(path).second))
    return fail(ec::source_hostile, "the source holds \"" + path + "\" twice");
  const bundle_header head{bundle_magic, static_cast<bundle_kind>(kind), mode & 0777u,
                           static_cast<std::uint32_t>(path.size()), size};
  if (auto w = put({reinterpret_cast<const char*>(&head), sizeof head}); !w) return w;
  return put(path);
}

result<void> bundle_writer::add_folder(const std::string& path, unsigned mode) {
  facts_.on_folder(path);
  return begin(static_cast<std::uint32_t>(bundle_kind::folder), path, mode, 0);
}

result<void> bundle_writer::add_symlink(const std::string& path, const std::string& target) {
  if (auto inside = check_link(path, target); !inside) return inside;
  if (auto w = begin(static_cast<std::uint32_t>(bundle_kind::symlink), path, 0777, target.size());
      !w)
    return w;
  links_.insert(path);
  facts_.on_file(path, {});
  return put(target);
}

result<void> bundle_writer::add_file(
    const std::string& path, unsigned mode, std::uint64_t size,
    const std::function<result<std::size_t>(char*, std::size_t)>& read) {
  bytes_ += size;
  if (size > limits::source_bytes_max || bytes_ > limits::source_bytes_max)
    return fail(ec::source_limit, "the source unpacks to more than " +
                                      std::to_string(limits::source_bytes_max) + " bytes");
  if (auto w = begin(static_cast<std::uint32_t>(bundle_kind::file), path, mode, size); !w) return w;
  const bool is_wanted = tree_facts::wants(path, size);
  std::string content;
  std::array<char, 65536> block;
  for (auto left = size; left > 0;) {
    const auto got =
        read(block.data(), static_cast<std::size_t>(std::min<std::uint64_t>(left, block.size())));
    if (!got) return fail(got.error());
    if (*got == 0)
      return fail(ec::source_failed,
                  "\"" + path + "\" ends before its size of " + std::to_string(size) + " bytes");
    if (is_wanted) content.append(block.data(), *got);
    if (auto w = put({block.data(), *got}); !w) return w;
    left -= *got;
  }
  facts_.on_file(path, content);
  return {};
}

result<bundle> bundle_writer::finish() {
  const bundle_header end{bundle_magic, bundle_kind::end, 0, 0, 0};
  if (auto w = put({reinterpret_cast<const char*>(&end), sizeof end}); !w) return fail(w.error());
  if (!write_all(file_.get(), pending_) || ::lseek(file_.get(), 0, SEEK_SET) != 0)
    return fail(io_error("write", "the source's bundle", errno));
  auto package_json = facts_.text("package.json");
  return bundle{std::move(file_),
                "sha256:" + hash_->hex(),
                std::move(package_json),
                std::move(facts_),
                entries_,
                bytes_};
}

result<bundle> bundle_folder(const std::string& folder, const std::string& scratch,
                             const cancellation* stop) {
  std::error_code code;
  if (!fs::is_directory(folder, code))
    return fail(ec::not_found, "\"" + folder + "\" is not a folder");
  auto writer = bundle_writer::make(scratch);
  if (!writer) return fail(writer.error());
  std::vector<fs::path> paths;
  for (fs::recursive_directory_iterator at{folder, code}, end; !code && at != end;
       at.increment(code)) {
    if (at->path().filename() == ".git") {
      at.disable_recursion_pending();
      continue;
    }
    paths.push_back(at->path());
    if (paths.size() > limits::source_entries_max)
      return fail(ec::source_limit, "\"" + folder + "\" has more than " +
                                        std::to_string(limits::source_entries_max) + " entries");
  }
  if (code) return fail(ec::source_failed, "cannot read \"" + folder + "\": " + code.message());
  std::sort(paths.begin(), paths.end());
  for (const auto& path : paths) {
    if (stop && stop->is_raised()) return fail(ec::cancelled, "fetching was cancelled");
    const auto name = path.lexically_relative(folder).generic_string();
    auto safe = safe_path(name, 0);
    if (!safe) return fail(safe.error());
    struct stat facts {};
    if (::lstat(path.c_str(), &facts) != 0) return fail(io_error("read", path.string(), errno));
    result<void> added{};
    if (S_ISDIR(facts.st_mode)) {
      added = writer->add_folder(*safe, facts.st_mode);
    } else if (S_ISLNK(facts.st_mode)) {
      added = writer->add_symlink(*safe, fs::read_symlink(path, code).string());
    } else if (S_ISREG(facts.st_mode)) {
      const unique_fd file{::open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC)};
      if (!file) return fail(io_error("open", path.string(), errno));
      added = writer->add_file(*safe, facts.st_mode, static_cast<std::uint64_t>(facts.st_size),
                               [&](char* into, std::size_t size) -> result<std::size_t> {
                                 const auto n = ::read(file.get(), into, size);
                                 if (n < 0) return fail(io_error("read", path.string(), errno));
                                 return static_cast<std::size_t>(n);
                               });
    } else {
      added = fail(ec::source_hostile, "\"" + name + "\" is a device, socket or FIFO");
    }
    if (!added) return fail(added.error());
  }
  return writer->finish();
}

result<bundle> bundle_archive(const std::function<result<std::string_view>()>& read, unsigned strip,
                              const std::string& scratch, const cancellation* stop) {
  auto writer = bundle_writer::make(scratch);
  if (!writer) return fail(writer.error());
  const std::unique_ptr<archive, int (*)(archive*)> reader{archive_read_new(), &archive_read_free};
  auto* a = reader.get();
  archive_read_support_filter_gzip(a);
  archive_read_support_filter_xz(a);
  archive_read_support_filter_zstd(a);
  archive_read_support_format_tar(a);
  archive_source source{read, {}, {}};
  const auto damaged = [&]() -> tl::unexpected<error> {
    if (source.failed.code != ec::none) return fail(source.failed);
    const char* words = archive_error_string(a);
    return fail(ec::source_failed,
                std::string{"not a readable tar archive: "} + (words ? words : "no content"));
  };
  if (archive_read_open(a, &source, nullptr, on_read, nullptr) != ARCHIVE_OK) return damaged();
  // A filter each, and the one that reads: nobody packs twice but to make a bomb.
  if (archive_filter_count(a) > 2)
    return fail(ec::source_hostile, "the archive is compressed more than once");
  passed_entries passed;
  for (;;) {
    if (stop && stop->is_raised()) return fail(ec::cancelled, "fetching was cancelled");
    archive_entry* entry = nullptr;
    const int code = archive_read_next_header(a, &entry);
    if (code == ARCHIVE_EOF) break;
    if (code != ARCHIVE_OK && code != ARCHIVE_WARN) return damaged();
    if (auto within = passed.count(entry); !within) return fail(within.error());
    if (auto added = add_entry(*writer, a, entry, strip); !added) {
      if (source.failed.code != ec::none) return fail(source.failed);
      return fail(added.error());
    }
  }
  return writer->finish();
}

}  // namespace ntrace::runner
