#pragma once
// Zones of Linux: namespaces and overlay generations, made by the privileged helper, or by an OCI
// runtime at its command (helper_options::backend).
#include <array>
#include <functional>
#include <optional>

#include "actors/zone/linux/init_wire.hpp"
#include "actors/zone/linux/privileged_helper.hpp"
#include "actors/zone/zone.hpp"

namespace ntrace::zone {

class zone_linux final : public zone {
public:
  zone_linux(std::shared_ptr<privileged_helper> helper, std::string uuid)
      : helper_{std::move(helper)}, uuid_{std::move(uuid)} {}
  ~zone_linux() override;

  const std::string& uuid() const override { return uuid_; }
  result<clean_receipt> boot(const boot_spec& spec) override;
  result<exec_end> exec(const exec_spec& spec, const output_limits& limits, const output_sink& sink,
                        const cancellation* stop, int stdin_fd) override;
  /// As exec(), for a person: `terminal` is its stdin, stdout and stderr, and controls it.
  result<exec_end> attend(const exec_spec& spec, unique_fd terminal);
  result<void> unpack(const std::string& folder, int bundle_fd, milliseconds deadline,
                      const cancellation* stop) override;
  result<collected> collect(const std::string& folder, const std::string& prefix) override;
  unique_fd take_listener() override { return std::move(listener_); }
  std::string cgroup_path() const override { return cgroup_; }
  int init_pid() const override { return pid_; }
  result<void> end() override;
  result<zone_facts> facts() override;
  result<void> snapshot(const std::string& name) override;
  result<std::vector<std::string>> rollback(const std::string& name) override;
  result<void> delete_snapshot(const std::string& name) override;
  result<void> destroy() override;

private:
  struct pumped;
  result<void> await(init_op what, milliseconds deadline);
  result<clean_receipt> prove(milliseconds deadline);
  bool is_lease_over() const { return last_boot_.lease && last_boot_.lease->is_over(); }
  /// Why init does not answer.
  tl::unexpected<error> gone() const;
  result<init_record> receive();
  result<exec_end> start_and_pump(init_record record, const std::array<int, 3>& stdio,
                                  pumped& streams, milliseconds deadline, const cancellation* stop);
  result<bool> on_init_answer(std::uint32_t id, exec_end& out);
  result<void> send(const init_record& record, const std::array<int, 3>& stdio);
  void kill_all();
  void give_to_job(int fd) const;
  bool is_disk_full() const;
  init_record record_of(init_op op, const exec_spec& spec) const;
  result<nlohmann::json> call_while_down(const char* op, const std::string& name);

  std::shared_ptr<privileged_helper> helper_;
  std::string uuid_;
  unique_fd control_, pidfd_, listener_;
  std::string cgroup_, memory_path_;
  boot_spec last_boot_;
  zone_limits limits_;  ///< As the helper set them.
  std::string upper_;   ///< The writable layer.
  int pid_ = -1;
  std::uint32_t job_id_ = 0;   ///< On the host.
  std::uint32_t job_uid_ = 0;  ///< In the zone.
  std::uint32_t next_exec_ = 1;
};

}  // namespace ntrace::zone
