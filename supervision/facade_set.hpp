#pragma once
// The façades of a supervisor's children. They belong to the child specs: those that come back with
// the supervisor keep theirs over its incarnations, all others' end with it.
#include <caf/actor.hpp>
#include <map>
#include <memory>
#include <mutex>
#include <string>

namespace ntrace::supervision {

/// Shared by the incarnations of one supervisor and its parent; may be used from any thread. What
/// is left in it ends with it.
class facade_set {
public:
  facade_set() = default;
  facade_set(const facade_set&) = delete;
  facade_set& operator=(const facade_set&) = delete;
  ~facade_set() { end_all(); }

  /// The façade of child `id`; null when it has none.
  caf::actor find(const std::string& id) const;
  /// Takes in what stands for child `id`: its façade (may be null), and the façades of its own
  /// children (null for a worker). A façade that is there already stays.
  void put(const std::string& id, const caf::actor& front,
           const std::shared_ptr<facade_set>& inner = nullptr);
  /// Child `id` is gone for good, and all below it.
  void end(const std::string& id);
  /// The supervisor is.
  void end_all();

private:
  struct entry {
    caf::actor front;
    std::shared_ptr<facade_set> inner;
  };
  static void end(const entry& one);

  mutable std::mutex guard_;
  std::map<std::string, entry> entries_;
};

}  // namespace ntrace::supervision
