#pragma once
// A program that ntrace carries in itself, put there by the assembler (CMakeLists.txt).
#include "config/file.hpp"
#include "config/result.hpp"

namespace ntrace::zone {

/// A memory file with the bytes from `begin` to `end`, which nobody can change any more
/// (memfd_create(2)). `name` is for people. ec::io.
result<unique_fd> make_sealed_program(const char* name, const char* begin, const char* end);

}  // namespace ntrace::zone
