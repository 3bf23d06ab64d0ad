# Precompiled headers: of the standard library and of others' libraries only, never of our own, so
# that a forbidden or missing include of ours is an error as before. A source includes what it uses:
# the clang preset builds without these headers (NTRACE_PCH=OFF) and fails on an include that they
# would hide. They are named in angle brackets here, not in a file of ours: no path enters the
# compiler's input, and ccache finds what another clone has built. clang writes paths into them, so
# it has them only when told to.
set(pch_default OFF)
if(CMAKE_CXX_COMPILER_ID STREQUAL GNU)
  set(pch_default ON)
endif()
option(NTRACE_PCH "Compile the large headers of others once, not once a source" ${pch_default})

set(pch_base
  <algorithm> <array> <atomic> <cerrno> <charconv> <chrono> <condition_variable> <cstdint> <cstring>
  <deque> <filesystem> <fstream> <functional> <future> <iomanip> <iostream> <map> <memory> <mutex>
  <optional> <set> <span> <sstream> <string> <string_view> <thread> <unordered_map> <utility>
  <variant> <vector> <nlohmann/json.hpp> <tl/expected.hpp>)
set(pch_actors
  ${pch_base} <caf/actor.hpp> <caf/actor_system.hpp> <caf/actor_system_config.hpp>
  <caf/event_based_actor.hpp> <caf/message.hpp> <caf/scoped_actor.hpp> <caf/send.hpp>
  <caf/stateful_actor.hpp> <caf/typed_actor.hpp> <caf/typed_event_based_actor.hpp>)
set(pch_tests ${pch_base} <gtest/gtest.h>)
set(pch_actor_tests ${pch_actors} <gtest/gtest.h>)

# ntrace_precompiled(target family): `family` is one of the lists above; each is compiled once, for
# the first target that asks for it.
function(ntrace_precompiled target family)
  if(NOT NTRACE_PCH)
    return()
  endif()
  set(owner ntrace_pch_${family})
  if(NOT TARGET ${owner})
    set(source ${CMAKE_BINARY_DIR}/generated/${owner}.cpp)
    file(CONFIGURE OUTPUT ${source} CONTENT "")
    add_library(${owner} OBJECT ${source})
    target_link_libraries(${owner} PRIVATE ntrace_build nlohmann_json::nlohmann_json tl::expected)
    if(family MATCHES tests)
      target_link_libraries(${owner} PRIVATE GTest::gtest)
    endif()
    target_precompile_headers(${owner} PRIVATE ${pch_${family}})
  endif()
  target_precompile_headers(${target} REUSE_FROM ${owner})
  if(CMAKE_CXX_COMPILER_ID STREQUAL GNU)  # What ccache preprocesses keeps the header's name only.
    target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:CXX>:-fpch-preprocess>)
    # g++ 12 forgets that inlined code came from a precompiled system header, and reports sums
    # of strings (PR 105651, as in warnings.cmake); clang and the sanitizers look for real ones.
    target_compile_options(${target} PRIVATE "$<$<COMPILE_LANGUAGE:CXX>:\
-Wno-array-bounds;-Wno-stringop-overflow;-Wno-stringop-overread>")
  endif()
endfunction()
