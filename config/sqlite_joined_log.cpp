#include "config/sqlite_joined_log.hpp"

#include <sqlite3.h>

#include <cstddef>
#include <memory>
#include <vector>

namespace ntrace::sqlite {
namespace {

/// SQLite never writes more at once than its largest page, and the layers below rely on that.
constexpr std::size_t gathered_max_bytes = 65'536;
/// Room that SQLite gives for each file; the system's own layer takes some 120 bytes.
constexpr int file_bytes = 1024;

class joined_log {
public:
  explicit joined_log(int real_bytes)
      : real_{new std::byte[static_cast<std::size_t>(real_bytes)]{}} {}

  /// The file in the layer below.
  sqlite3_file* real() { return reinterpret_cast<sqlite3_file*>(real_.get()); }
  const sqlite3_io_methods& below() { return *real()->pMethods; }

  int write(const char* data, std::size_t size, sqlite3_int64 at) {
    const auto end = at_ + static_cast<sqlite3_int64>(gathered_.size());
    if (at != end || gathered_.size() + size > gathered_max_bytes)
      if (const int code = pass_on(); code != SQLITE_OK) return code;
    if (gathered_.empty()) at_ = at;
    gathered_.insert(gathered_.end(), data, data + size);
    return SQLITE_OK;
  }
  /// Before anything that depends on what the file holds.
  int pass_on() {
    if (gathered_.empty()) return SQLITE_OK;
    const int code =
        below().xWrite(real(), gathered_.data(), static_cast<int>(gathered_.size()), at_);
    gathered_.clear();
    return code;
  }

private:
  std::unique_ptr<std::byte[]> real_;
  std::vector<char> gathered_;
  sqlite3_int64 at_ = 0;  ///< Of gathered_ in the file.
};

/// What SQLite has of a log.
struct log_file {
  sqlite3_file base;
  joined_log* log;
};
static_assert(sizeof(log_file) <= file_bytes);

joined_log& log_of(sqlite3_file* f) { return *reinterpret_cast<log_file*>(f)->log; }

/// Passes on what is gathered, then does `what` with the file below.
template <class F>
int settled(sqlite3_file* f, F what) {
  auto& log = log_of(f);
  if (const int code = log.pass_on(); code != SQLITE_OK) return code;
  return what(log.below(), log.real());
}

/// As a log is used: it is never locked, and its index belongs to the main file.
const sqlite3_io_methods methods{
    1,
    [](sqlite3_file* f) {
      // What is still gathered belongs to a transaction that did not end.
      const std::unique_ptr<joined_log> log{&log_of(f)};
      return log->below().xClose(log->real());
    },
    [](sqlite3_file* f, void* to, int n, sqlite3_int64 at) {
      return settled(f, [&](auto& m, auto* real) { return m.xRead(real, to, n, at); });
    },
    [](sqlite3_file* f, const void* data, int n, sqlite3_int64 at) {
      return log_of(f).write(static_cast<const char*>(data), static_cast<std::size_t>(n), at);
    },
    [](sqlite3_file* f, sqlite3_int64 n) {
      return settled(f, [&](auto& m, auto* real) { return m.xTruncate(real, n); });
    },
    [](sqlite3_file* f, int flags) {
      return settled(f, [&](auto& m, auto* real) { return m.xSync(real, flags); });
    },
    [](sqlite3_file* f, sqlite3_int64* n) {
      return settled(f, [&](auto& m, auto* real) { return m.xFileSize(real, n); });
    },
    [](sqlite3_file* f, int lock) { return log_of(f).below().xLock(log_of(f).real(), lock); },
    [](sqlite3_file* f, int lock) { return log_of(f).below().xUnlock(log_of(f).real(), lock); },
    [](sqlite3_file* f, int* out) {
      return log_of(f).below().xCheckReservedLock(log_of(f).real(), out);
    },
    [](sqlite3_file* f, int op, void* arg) {
      return settled(f, [&](auto& m, auto* real) { return m.xFileControl(real, op, arg); });
    },
    [](sqlite3_file* f) { return log_of(f).below().xSectorSize(log_of(f).real()); },
    [](sqlite3_file* f) { return log_of(f).below().xDeviceCharacteristics(log_of(f).real()); },
    // Not of version 1.
    nullptr, nullptr, nullptr, nullptr, nullptr, nullptr};

int open(sqlite3_vfs*, const char* name, sqlite3_file* f, int flags, int* out) {
  f->pMethods = nullptr;
  auto* below = sqlite3_vfs_find(nullptr);
  if (below->szOsFile > file_bytes) return SQLITE_ERROR;
  if ((flags & SQLITE_OPEN_WAL) == 0) return below->xOpen(below, name, f, flags, out);
  auto log = std::make_unique<joined_log>(below->szOsFile);
  const int code = below->xOpen(below, name, log->real(), flags, out);
  if (code != SQLITE_OK) return code;
  f->pMethods = &methods;
  reinterpret_cast<log_file*>(f)->log = log.release();
  return code;
}

}  // namespace

const char* joined_log_vfs() {
  static sqlite3_vfs layer = [] {
    sqlite3_vfs out = *sqlite3_vfs_find(nullptr);
    out.zName = "joined_log";
    out.szOsFile = file_bytes;
    out.pNext = nullptr;
    out.xOpen = open;
    return out;
  }();
  [[maybe_unused]] static const int once = sqlite3_vfs_register(&layer, 0);
  return layer.zName;
}

}  // namespace ntrace::sqlite
