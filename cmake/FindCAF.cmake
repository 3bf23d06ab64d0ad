# Debian's libcaf-dev has headers and libraries but no CMake configuration.
# Defines CAF::core, CAF::io and CAF::openssl; fails unless the version is 0.17.x.
find_path(CAF_INCLUDE_DIR caf/actor_system.hpp)
foreach(part core io openssl)
  find_library(CAF_${part}_LIBRARY caf_${part})
  if(CAF_INCLUDE_DIR AND CAF_${part}_LIBRARY AND NOT TARGET CAF::${part})
    add_library(CAF::${part} UNKNOWN IMPORTED)
    set_target_properties(CAF::${part} PROPERTIES
      IMPORTED_LOCATION ${CAF_${part}_LIBRARY}
      INTERFACE_INCLUDE_DIRECTORIES ${CAF_INCLUDE_DIR})
  endif()
endforeach()
if(CAF_INCLUDE_DIR)
  file(STRINGS ${CAF_INCLUDE_DIR}/caf/config.hpp version_line REGEX "#define CAF_VERSION [0-9]+")
  string(REGEX MATCH "[0-9]+" CAF_VERSION_NUMBER "${version_line}")
  math(EXPR CAF_VERSION_MINOR "(${CAF_VERSION_NUMBER} / 100) % 100")
  math(EXPR CAF_VERSION_PATCH "${CAF_VERSION_NUMBER} % 100")
  set(CAF_VERSION 0.${CAF_VERSION_MINOR}.${CAF_VERSION_PATCH})
  if(NOT CAF_VERSION_MINOR EQUAL 17)
    message(FATAL_ERROR "CAF ${CAF_VERSION} found, 0.17 is needed: apt-get install libcaf-dev")
  endif()
endif()
include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(CAF
  REQUIRED_VARS CAF_INCLUDE_DIR CAF_core_LIBRARY CAF_io_LIBRARY CAF_openssl_LIBRARY
  VERSION_VAR CAF_VERSION)
if(CAF_FOUND)
  find_package(Threads REQUIRED)
  set_property(TARGET CAF::core APPEND PROPERTY INTERFACE_LINK_LIBRARIES Threads::Threads)
  set_property(TARGET CAF::io APPEND PROPERTY INTERFACE_LINK_LIBRARIES CAF::core)
  set_property(TARGET CAF::openssl APPEND PROPERTY INTERFACE_LINK_LIBRARIES CAF::io)
endif()
