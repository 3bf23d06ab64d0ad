#include "supervision/facade_set.hpp"

#include <utility>

#include "supervision/facade.hpp"

namespace ntrace::supervision {

caf::actor facade_set::find(const std::string& id) const {
  const std::lock_guard lock{guard_};
  const auto at = entries_.find(id);
  return at == entries_.end() ? nullptr : at->second.front;
}

void facade_set::put(const std::string& id, const caf::actor& front,
                     const std::shared_ptr<facade_set>& inner) {
  const std::lock_guard lock{guard_};
  auto& one = entries_[id];
  if (!one.front) one.front = front;
  if (inner) one.inner = inner;
}

// Callers are answered outside of the lock: an answer may lead back here.
void facade_set::end(const entry& one) {
  if (one.front) end_facade(one.front);
  if (one.inner) one.inner->end_all();
}

void facade_set::end(const std::string& id) {
  entry gone;
  {
    const std::lock_guard lock{guard_};
    const auto at = entries_.find(id);
    if (at == entries_.end()) return;
    gone = std::move(at->second);
    entries_.erase(at);
  }
  end(gone);
}

void facade_set::end_all() {
  std::map<std::string, entry> gone;
  {
    const std::lock_guard lock{guard_};
    gone.swap(entries_);
  }
  for (const auto& [id, one] : gone) end(one);
}

}  // namespace ntrace::supervision
