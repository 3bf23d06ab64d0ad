#pragma once
// Places where a crash test ends the process, as if the machine had lost its power there: between
// a write and the word about it, a lease and its use. Only a build with NTRACE_CRASH_POINTS has
// them; in all others, the release among them, nothing of them is left.
#include <string_view>

namespace ntrace {

#ifdef NTRACE_CRASH_POINTS
/// Ends the process with SIGKILL when the variable NTRACE_CRASH is "<name>:<n>" and this is the
/// n-th time that `name` is passed.
void crash_point(std::string_view name) noexcept;
#else
inline void crash_point(std::string_view) noexcept {}
#endif

}  // namespace ntrace
