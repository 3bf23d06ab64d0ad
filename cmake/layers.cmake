# ntrace_library(name LINKS … SOURCES …): one target per folder, `ntrace::name`.
# Every target sees only its own folder's tree root through its links: a target's include path is a
# directory of links to exactly the folders that its layer may know, so that a forbidden include
# does not compile.
function(ntrace_view target)
  set(view ${CMAKE_BINARY_DIR}/views/${target})
  file(MAKE_DIRECTORY ${view})
  foreach(folder IN LISTS ARGN)
    get_filename_component(parent ${view}/${folder} DIRECTORY)
    file(MAKE_DIRECTORY ${parent})
    if(NOT EXISTS ${view}/${folder})
      file(CREATE_LINK ${CMAKE_SOURCE_DIR}/${folder} ${view}/${folder} SYMBOLIC)
    endif()
  endforeach()
  target_include_directories(${target} PRIVATE ${view})
endfunction()

function(ntrace_library name)
  cmake_parse_arguments(arg "" "" "LINKS;SOURCES;KNOWS" ${ARGN})
  add_library(ntrace_${name} STATIC ${arg_SOURCES})
  add_library(ntrace::${name} ALIAS ntrace_${name})
  target_link_libraries(ntrace_${name} PUBLIC ${arg_LINKS} PRIVATE ntrace_build)
  ntrace_view(ntrace_${name} ${arg_KNOWS})
  # Who knows supervision has actors, but for the pure part of a folder.
  if(supervision IN_LIST arg_KNOWS AND NOT name MATCHES "_core$")
    ntrace_precompiled(ntrace_${name} actors)
  else()
    ntrace_precompiled(ntrace_${name} base)
  endif()
endfunction()
