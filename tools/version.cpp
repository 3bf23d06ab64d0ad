#include "tools/command.hpp"

namespace ntrace::tools {

// Alone in its file: each commit changes it.
const char* program_version() { return "ntrace " NTRACE_VERSION " (" NTRACE_COMMIT ")"; }

}  // namespace ntrace::tools
