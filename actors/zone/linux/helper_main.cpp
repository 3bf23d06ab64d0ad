// The privileged helper's program: `ntrace-helper DATA CA_FILE ALLOW_DEGRADED BACKEND`, its socket
// at 3.
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <string_view>

#include "actors/zone/linux/helper_server.hpp"

int main(int argc, char** argv) {
  if (argc != 5) return 64;
  // A terminal's Ctrl-C goes to the whole group; the helper ends when its caller does, not before.
  ::setsid();
  ::prctl(PR_SET_NAME, "ntrace-helper");
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGPIPE}) ::signal(signal, SIG_IGN);
  ::signal(SIGCHLD, SIG_DFL);
  ntrace::zone::helper_server{{argv[1], argv[2], argv[3] == std::string_view{"yes"}, argv[4]}}.run(
      ntrace::zone::helper_socket);
  _exit(0);
}
