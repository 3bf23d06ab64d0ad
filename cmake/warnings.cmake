# Warnings are errors in our own code, on both compilers.
add_library(ntrace_build INTERFACE)
target_compile_options(ntrace_build INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Werror)
if(CMAKE_CXX_COMPILER_ID STREQUAL GNU)
  # g++ 12 at -O2 sees uninitialised members in moved variants and overlaps in string sums that are
  # not there (gcc.gnu.org PR 105562, PR 105651); clang and the sanitizers look for the real ones.
  target_compile_options(ntrace_build INTERFACE -Wno-maybe-uninitialized -Wno-restrict)
  # g++ collects its garbage from 128 MB on, again and again, which is a tenth of its time; with
  # this it begins at 512 MB, which few sources reach.
  target_compile_options(ntrace_build INTERFACE
    "$<$<COMPILE_LANGUAGE:CXX>:SHELL:--param ggc-min-heapsize=524288>")
endif()
if(NTRACE_SANITIZE)
  # CAF's headers bind a null reference when a function-based actor is spawned without arguments.
  target_compile_options(ntrace_build INTERFACE -fsanitize=${NTRACE_SANITIZE}
    -fno-omit-frame-pointer -fno-sanitize-recover=all)
  if(NTRACE_SANITIZE MATCHES undefined)
    target_compile_options(ntrace_build INTERFACE -fno-sanitize=null,vptr)
  endif()
  target_link_options(ntrace_build INTERFACE -fsanitize=${NTRACE_SANITIZE})
  if(NTRACE_SANITIZE MATCHES address)  # gcc and clang tell it in different ways.
    target_compile_definitions(ntrace_build INTERFACE NTRACE_SANITIZES_ADDRESSES)
  endif()
endif()

# Where crash tests end the process, and bugs to be found; a build for people has none of them
# (config/crash_point.hpp, config/mutation.hpp).
option(NTRACE_CRASH_POINTS
  "Let NTRACE_CRASH end the process at a named point, NTRACE_PLANT plant a bug: the tests need it"
  ON)
if(NTRACE_CRASH_POINTS)
  target_compile_definitions(ntrace_build INTERFACE NTRACE_CRASH_POINTS)
endif()
