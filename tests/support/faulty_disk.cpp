#include "tests/support/faulty_disk.hpp"

#include <sqlite3.h>

#include <cstdlib>

namespace ntrace::test {
namespace {

faulty_disk* the_disk = nullptr;
sqlite3_vfs* below = nullptr;

/// Ours in front, the system's file behind it.
struct file {
  sqlite3_file base;
  bool is_log;
  sqlite3_file* real() { return reinterpret_cast<sqlite3_file*>(this + 1); }
};
file* of(sqlite3_file* f) { return reinterpret_cast<file*>(f); }
const sqlite3_io_methods* under(sqlite3_file* f) { return of(f)->real()->pMethods; }

bool has(disk_fault one) { return the_disk && the_disk->fault == one; }

int write(sqlite3_file* f, const void* data, int n, sqlite3_int64 at) {
  if (has(disk_fault::full)) return SQLITE_FULL;
  if (has(disk_fault::read_only)) return SQLITE_READONLY;
  if (the_disk && of(f)->is_log) ++the_disk->log_writes;
  return under(f)->xWrite(of(f)->real(), data, n, at);
}
int sync(sqlite3_file* f, int flags) {
  if (has(disk_fault::sync)) {
    ++the_disk->syncs_failed;
    return SQLITE_IOERR_FSYNC;
  }
  return under(f)->xSync(of(f)->real(), flags);
}

const sqlite3_io_methods methods{
    3,
    [](sqlite3_file* f) { return under(f)->xClose(of(f)->real()); },
    [](sqlite3_file* f, void* to, int n, sqlite3_int64 at) {
      return under(f)->xRead(of(f)->real(), to, n, at);
    },
    write,
    [](sqlite3_file* f, sqlite3_int64 n) { return under(f)->xTruncate(of(f)->real(), n); },
    sync,
    [](sqlite3_file* f, sqlite3_int64* n) { return under(f)->xFileSize(of(f)->real(), n); },
    [](sqlite3_file* f, int lock) { return under(f)->xLock(of(f)->real(), lock); },
    [](sqlite3_file* f, int lock) { return under(f)->xUnlock(of(f)->real(), lock); },
    [](sqlite3_file* f, int* out) { return under(f)->xCheckReservedLock(of(f)->real(), out); },
    [](sqlite3_file* f, int op, void* arg) {
      return under(f)->xFileControl(of(f)->real(), op, arg);
    },
    [](sqlite3_file* f) { return under(f)->xSectorSize(of(f)->real()); },
    [](sqlite3_file* f) { return under(f)->xDeviceCharacteristics(of(f)->real()); },
    [](sqlite3_file* f, int page, int size, int extend, void volatile** out) {
      return under(f)->xShmMap(of(f)->real(), page, size, extend, out);
    },
    [](sqlite3_file* f, int from, int n, int flags) {
      return under(f)->xShmLock(of(f)->real(), from, n, flags);
    },
    [](sqlite3_file* f) { under(f)->xShmBarrier(of(f)->real()); },
    [](sqlite3_file* f, int drop) { return under(f)->xShmUnmap(of(f)->real(), drop); },
    [](sqlite3_file* f, sqlite3_int64 at, int n, void** out) {
      return under(f)->xFetch(of(f)->real(), at, n, out);
    },
    [](sqlite3_file* f, sqlite3_int64 at, void* p) {
      return under(f)->xUnfetch(of(f)->real(), at, p);
    }};

int open(sqlite3_vfs*, const char* name, sqlite3_file* f, int flags, int* out) {
  f->pMethods = nullptr;
  of(f)->is_log = (flags & SQLITE_OPEN_WAL) != 0;
  const int code = below->xOpen(below, name, of(f)->real(), flags, out);
  if (of(f)->real()->pMethods) f->pMethods = &methods;
  return code;
}

sqlite3_vfs make_layer() {
  below = sqlite3_vfs_find(nullptr);
  sqlite3_vfs out = *below;
  out.zName = "faulty";
  out.szOsFile = static_cast<int>(sizeof(file)) + below->szOsFile;
  out.pNext = nullptr;
  out.xOpen = open;
  return out;
}

sqlite3_vfs& layer() {
  static sqlite3_vfs out = make_layer();
  return out;
}

}  // namespace

faulty_disk::faulty_disk() {
  the_disk = this;
  // SQLite itself says how this can fail: not at all, once it is initialised.
  if (sqlite3_initialize() != SQLITE_OK || sqlite3_vfs_register(&layer(), 1) != SQLITE_OK)
    std::abort();
}

faulty_disk::~faulty_disk() {
  sqlite3_vfs_unregister(&layer());
  sqlite3_vfs_register(below, 1);
  the_disk = nullptr;
}

}  // namespace ntrace::test
