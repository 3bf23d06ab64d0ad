#pragma once
// SQLite writes each page of a WAL by two system calls. This layer under it gathers what a
// transaction writes, and gives it to the system at once before the sync that ends it.

namespace ntrace::sqlite {

/// The name of the layer for sqlite3_open_v2: over what is the default when a file is opened. Only
/// for connections with "pragma synchronous=full": there SQLite shows a transaction to others after
/// it has synced it, so nobody looks for pages that are still gathered.
const char* joined_log_vfs();

}  // namespace ntrace::sqlite
