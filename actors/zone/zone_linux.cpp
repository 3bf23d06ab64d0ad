#include "actors/zone/zone_linux.hpp"

#include <fcntl.h>
#include <fmt/core.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "actors/zone/linux/cgroup.hpp"
#include "actors/zone/linux/pass_descriptor.hpp"
#include "config/gauges.hpp"
#include "config/log.hpp"

namespace ntrace::zone {

zone_linux::~zone_linux() {
  if (pid_ >= 0) [[maybe_unused]]
    const auto ended = end();  // The helper ends it anyway when we are gone.
}

result<clean_receipt> zone_linux::boot(const boot_spec& spec) {
  if (auto ended = end(); !ended) return fail(ended.error());
  last_boot_ = spec;
  if (is_lease_over()) return gone();
  auto answer = helper_->call({{"op", "boot"},
                               {"uuid", uuid_},
                               {"fresh", spec.fresh},
                               {"network", spec.with_network},
                               {"memory_bytes", spec.limits.memory_bytes},
                               {"pids", spec.limits.pids},
                               {"cpu_percent", spec.limits.cpu_percent},
                               {"disk_bytes", spec.limits.disk_bytes},
                               {"disk_in_memory", spec.limits.disk_in_memory}});
  if (!answer) return fail(answer.error());
  if (answer->fds.size() != 2) return fail(ec::helper_lost, "the helper sent no control socket");
  control_ = std::move(answer->fds[0]);
  pidfd_ = std::move(answer->fds[1]);
  const auto& value = answer->value;
  if (value.contains("spare_failed")) {
    ++gauges::value("zone_spares_failed");
    log::warn("zone.spare_failed", {{"zone", uuid_}, {"reason", value.value("spare_failed", "")}});
  }
  pid_ = value.value("pid", -1);
  job_id_ = value.value("id_job", 0u);
  job_uid_ = value.value("uid", 0u);
  cgroup_ = value.value("cgroup", "");
  memory_path_ = value.value("memory_path", "");
  upper_ = value.value("upper", "");
  limits_.disk_bytes = value.value("disk_bytes", std::uint64_t{0});
  limits_.disk_in_memory = value.value("disk_in_memory", false);
  auto up = await(init_op::ready, spec.deadline);
  auto receipt = up ? prove(spec.deadline) : fail(up.error());
  if (receipt) return receipt;
  if (auto ended = end(); !ended) return fail(ended.error());
  return receipt;
}

result<clean_receipt> zone_linux::prove(milliseconds deadline) {
  const int lease = last_boot_.lease ? last_boot_.lease->fd() : -1;
  init_record record;
  record.op = init_op::lease;
  if (lease >= 0 && !send_with_descriptor(control_.get(), encode(record), lease)) return gone();
  if (lease >= 0)
    if (auto held = await(init_op::leased, deadline); !held) return fail(held.error());
  auto proof = helper_->call({{"op", "prove"}, {"uuid", uuid_}}, lease);
  if (!proof) return is_lease_over() ? gone() : fail(proof.error());
  auto receipt = receipt_from_json(proof->value);
  if (receipt.ok()) return receipt;
  std::string seen;
  for (const auto& c : receipt.checks)
    if (!c.ok) seen += fmt::format("; {}: {}", c.id, c.seen);
  return fail(ec::zone_dirty, fmt::format("zone {} is not clean: {}", uuid_,
                                          seen.empty() ? "no checks" : seen.substr(2)));
}

tl::unexpected<error> zone_linux::gone() const {
  if (!is_lease_over()) return fail(ec::init_died, "zone " + uuid_ + "'s init ended");
  return fail(ec::stale_lease, "the lease is over that zone " + uuid_ + " was booted for");
}

result<void> zone_linux::await(init_op what, milliseconds deadline) {
  const auto until = steady_clock::now() + deadline;
  for (;;) {
    pollfd one{control_.get(), POLLIN, 0};
    const auto left = std::chrono::ceil<milliseconds>(until - steady_clock::now()).count();
    const int n = ::poll(&one, 1, static_cast<int>(std::max<std::int64_t>(left, 0)));
    if (n < 0 && errno == EINTR) continue;
    if (n == 0)
      return fail(ec::timed_out,
                  fmt::format("zone {} did not come up in {} ms", uuid_, deadline.count()));
    auto record = receive();
    if (!record) return fail(record.error());
    if (record->op == what) return {};
    if (record->op == init_op::refused)
      return fail(
          ec::zone_failed,
          fmt::format(
              "zone {}: {}{}", uuid_, record->cwd,
              record->status != 0 ? std::string{": "} + std::strerror(record->status) : ""));
  }
}

result<init_record> zone_linux::receive() {
  std::string packet(init_packet_bytes_max, '\0');
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> ancillary{};
  iovec part{packet.data(), packet.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = ancillary.data();
  message.msg_controllen = ancillary.size();
  ssize_t n = 0;
  do n = ::recvmsg(control_.get(), &message, MSG_CMSG_CLOEXEC);
  while (n < 0 && errno == EINTR);
  if (n <= 0) return gone();
  int passed = -1;
  if (const auto* c = CMSG_FIRSTHDR(&message); c != nullptr && c->cmsg_type == SCM_RIGHTS)
    std::memcpy(&passed, CMSG_DATA(c), sizeof passed);
  unique_fd owned{passed};
  auto record = decode({packet.data(), static_cast<std::size_t>(n)});
  if (!record) return fail(ec::init_died, "zone " + uuid_ + "'s init speaks nonsense");
  if (record->op == init_op::listener && !listener_) listener_ = std::move(owned);
  return std::move(*record);
}

result<void> zone_linux::send(const init_record& record, const std::array<int, 3>& stdio) {
  const auto packet = encode(record);
  if (packet.empty())
    return fail(ec::bad_argument, "the command line and environment are too long");
  iovec part{const_cast<char*>(packet.data()), packet.size()};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(3 * sizeof(int))> ancillary{};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = ancillary.data();
  message.msg_controllen = ancillary.size();
  auto* c = CMSG_FIRSTHDR(&message);
  c->cmsg_level = SOL_SOCKET;
  c->cmsg_type = SCM_RIGHTS;
  c->cmsg_len = CMSG_LEN(sizeof stdio);
  std::memcpy(CMSG_DATA(c), stdio.data(), sizeof stdio);
  if (::sendmsg(control_.get(), &message, MSG_NOSIGNAL) < 0) return gone();
  return {};
}

void zone_linux::kill_all() {
  init_record record;
  record.op = init_op::kill_all;
  const auto packet = encode(record);
  // When init does not take it, it is dead, and everything with it.
  [[maybe_unused]] const auto n =
      ::send(control_.get(), packet.data(), packet.size(), MSG_NOSIGNAL);
}

result<void> zone_linux::end() {
  listener_.reset();
  if (pid_ < 0) return {};
  auto answer = helper_->call({{"op", "end"}, {"uuid", uuid_}});
  control_.reset();
  pidfd_.reset();
  pid_ = -1;
  cgroup_.clear();
  memory_path_.clear();
  if (answer) return {};
  ++gauges::value("zone_ends_failed");
  return fail(answer.error());
}

}  // namespace ntrace::zone
