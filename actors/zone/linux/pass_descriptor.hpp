#pragma once
// One packet with one descriptor, over a local socket.
#include <sys/socket.h>

#include <cstring>
#include <string_view>

namespace ntrace::zone {

/// False, with errno, when it was not sent. Without a descriptor (-1) as send(2).
inline bool send_with_descriptor(int socket, std::string_view packet, int descriptor) {
  iovec part{const_cast<char*>(packet.data()), packet.size()};
  alignas(cmsghdr) char ancillary[CMSG_SPACE(sizeof(int))]{};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (descriptor >= 0) {
    message.msg_control = ancillary;
    message.msg_controllen = sizeof ancillary;
    auto* c = CMSG_FIRSTHDR(&message);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof descriptor);
    std::memcpy(CMSG_DATA(c), &descriptor, sizeof descriptor);
  }
  return ::sendmsg(socket, &message, MSG_NOSIGNAL) >= 0;
}

}  // namespace ntrace::zone
