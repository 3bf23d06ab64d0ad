#pragma once
// The helper's side of its socket: the zones it owns and what it does with them.
#include <map>
#include <nlohmann/json.hpp>

#include "actors/zone/linux/cgroup.hpp"
#include "actors/zone/linux/clean_proof.hpp"
#include "actors/zone/linux/namespaces.hpp"
#include "actors/zone/linux/privileged_helper.hpp"
#include "actors/zone/linux/zone_store.hpp"

namespace ntrace::zone {

class helper_server {
public:
  explicit helper_server(helper_options options);
  /// Serves requests from `socket` until its end, then ends every zone.
  void run(int socket);

private:
  struct live_zone {
    zone_store store;
    std::uint64_t generation = 0;
    bool keep = false;
    int pid = -1;
    unique_fd pidfd;
    std::optional<zone_cgroup> cgroup;
    bool was_absent = false, was_empty = false, is_new = false;  ///< Before its boot: P1 and P6.
    std::string broken_layer{};                                  ///< P7.
    std::optional<namespace_ids> namespaces{};
  };
  /// Who lived in namespaces of the last generation when it ended.
  struct holders {
    namespace_ids namespaces{};
    std::vector<int> pids;
  };
  using fds = std::vector<int>;

  result<nlohmann::json> serve(const nlohmann::json& request, fds& pass);
  result<nlohmann::json> create(const nlohmann::json& request);
  result<nlohmann::json> boot(const nlohmann::json& request, fds& pass);
  result<nlohmann::json> end(const std::string& uuid);
  result<zone_store*> owned(const std::string& uuid);
  result<std::optional<zone_cgroup>> make_cgroup(const std::string& name,
                                                 const nlohmann::json& request,
                                                 std::vector<std::string>& degraded);
  result<nlohmann::json> prove(const std::string& uuid);
  void sweep();
  bool is_root() const;

  helper_options options_;
  cgroup_layout layout_;
  int sweeper_ = -1;  ///< The child that deletes, if it still runs.
  bool is_sweep_due_ = false;
  unique_fd init_image_;
  std::string filter_;  ///< Of system calls; without it no zone boots.
  std::string filter_problem_;
  std::map<std::string, zone_store> stores_;  ///< Zones whose lock we hold.
  std::map<std::string, live_zone> live_;
  std::map<std::string, holders> holders_;
  std::map<std::string, std::string> boot_ids_;  ///< The machine's, when the zone was taken.
};

}  // namespace ntrace::zone
