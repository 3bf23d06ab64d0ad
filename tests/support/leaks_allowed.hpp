#pragma once
// For calls of a library that loses memory of its own.
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define NTRACE_FINDS_LEAKS
#endif
#endif
#ifdef NTRACE_FINDS_LEAKS
#include <sanitizer/lsan_interface.h>
#endif

namespace ntrace::test {

/// While it lives, what its thread allocates may be lost without a word of the leak sanitizer.
struct leaks_allowed {
  leaks_allowed(const leaks_allowed&) = delete;
  leaks_allowed& operator=(const leaks_allowed&) = delete;
#ifdef NTRACE_FINDS_LEAKS
  leaks_allowed() { __lsan_disable(); }
  ~leaks_allowed() { __lsan_enable(); }
#else
  leaks_allowed() {}
  ~leaks_allowed() {}
#endif
};

}  // namespace ntrace::test
