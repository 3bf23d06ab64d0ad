#pragma once
// The helper's side of its socket: the zones it owns and what it does with them.
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "actors/zone/linux/cgroup.hpp"
#include "actors/zone/linux/clean_proof.hpp"
#include "actors/zone/linux/lease_watchdog.hpp"
#include "actors/zone/linux/namespaces.hpp"
#include "actors/zone/linux/oci_runtime.hpp"
#include "actors/zone/linux/privileged_helper.hpp"
#include "actors/zone/linux/zone_store.hpp"

namespace ntrace::zone {

inline constexpr std::size_t trash_max = 64;  ///< Dead generations of a zone.

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
    int pid = -1;  ///< Of its init; -1 once that is reaped.
    unique_fd pidfd{};
    bool is_ending = false;  ///< Its end was begun, and is tried again until it succeeds.
    std::optional<zone_cgroup> cgroup{};
    std::vector<int> cpus{};  ///< That it is held to; empty: all.
    bool was_absent = false, was_empty = false, is_new = false;  ///< Before its boot: P1 and P6.
    std::string broken_layer{};                                  ///< P7.
    clean_receipt receipt{};                                     ///< To be completed by prove().
    leftovers left{};                                            ///< P3 and P4.
    ended_generation self{};                                     ///< What will be left of it.
    std::optional<lease_watchdog> watchdog{};                    ///< Of one that has a lease.
    /// Of its cgroup and container.
    std::string name() const { return store.uuid() + "." + std::to_string(generation); }
  };
  /// A generation that is ready to be booted.
  struct prepared_root {
    zone_store::root_plan plan;
    std::uint64_t tmpfs_bytes = 0;
    unique_fd upper{};  ///< Its writable layer, wherever that is.
    /// Detached; none when ids are shared: the zone mounts them itself.
    unique_fd overlay{}, usr{}, devices{};
  };
  using fds = std::vector<int>;

  /// `given` came with the request.
  result<nlohmann::json> serve(const nlohmann::json& request, unique_fd given, fds& pass);
  result<nlohmann::json> create(const nlohmann::json& request);
  result<nlohmann::json> boot(const nlohmann::json& request, fds& pass);
  result<nlohmann::json> end(const std::string& uuid);
  result<void> expect_down(const std::string& uuid);
  result<zone_store*> owned(const std::string& uuid);
  result<void> hold_parents();
  result<void> expect_room() const;
  result<std::optional<zone_cgroup>> make_cgroup(const std::string& name, clean_receipt& receipt);
  std::vector<int> cpus_for(const std::string& uuid, std::uint64_t percent) const;
  result<booted> start_init(const boot_plan& plan, live_zone& zone);
  std::string runtime_state(const std::string& uuid) const;
  result<nlohmann::json> prove(const std::string& uuid, unique_fd lease);
  result<prepared_root> prepare(const zone_store& store, zone_store::root_plan plan,
                                bool is_volatile, std::uint64_t tmpfs_bytes) const;
  result<prepared_root> take_root(zone_store& store, bool fresh, std::uint64_t tmpfs_bytes);
  void make_spare(const std::string& uuid, std::uint64_t tmpfs_bytes);
  void drop_spare(const std::string& uuid);
  void await_request(int socket);
  void plan_sweep();
  void sweep();
  bool is_root() const;

  helper_options options_;
  cgroup_layout layout_;
  std::optional<cgroup_parents> parents_;            ///< Once there was a zone that needed them.
  int sweeper_ = -1;                                 ///< The child that deletes, if it still runs.
  std::map<std::string, prepared_root> spares_;      ///< Of zones, for their next boots.
  std::map<std::string, std::uint64_t> spares_due_;  ///< With their tmpfs_bytes.
  std::map<std::string, std::string> spare_problems_;  ///< To be told by the next boot.
  std::optional<time_point> sweep_at_;  ///< When what lies in the trash is to be deleted.
  unique_fd init_image_;
  std::string filter_;  ///< Of system calls; without it no zone boots.
  std::string filter_problem_;
  std::optional<oci_runtime> runtime_;        ///< Of options_.backend "oci", once one was found.
  std::map<std::string, zone_store> stores_;  ///< Zones whose lock we hold.
  std::map<std::string, live_zone> live_;
  std::set<std::string> unreaped_;  ///< Zones whose last init waitpid(2) did not give: P2.
  std::map<std::string, std::vector<ended_generation>> ended_;  ///< Since the last good P4.
  std::map<std::string, std::string> boot_ids_;  ///< The machine's, when the zone was taken.
};

}  // namespace ntrace::zone
