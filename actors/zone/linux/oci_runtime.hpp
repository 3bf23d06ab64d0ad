#pragma once
// Zones by an OCI runtime's command line, in place of boot_zone(): the same folders, overlay, ids,
// cgroup, zone init and proof; the namespaces, mounts and the filter of system calls are the
// runtime's. docs/zones.md, "By an OCI runtime".
#include <string>

#include "actors/zone/linux/namespaces.hpp"

namespace ntrace::zone {

class oci_runtime {
public:
  /// runc, else crun, from the usual folders; ec::zone_unsupported when there is none.
  static result<oci_runtime> find();

  /// Creates and starts the container `name`; its bundle lies in the generation's folder, what the
  /// runtime notes of it in `state`. Each step is ended after ten seconds. On failure nothing is
  /// left of it but the cgroup. ec::zone_failed with the runtime's words.
  result<booted> boot(const boot_plan& plan, const std::string& name,
                      const std::string& state) const;
  /// Makes the runtime forget a container, dead or not; fine when it knows none.
  result<void> forget(const std::string& name, const std::string& state) const;

  const std::string& program() const { return program_; }

private:
  explicit oci_runtime(std::string program) : program_{std::move(program)} {}
  std::string program_;
};

}  // namespace ntrace::zone
