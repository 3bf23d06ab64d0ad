#include "config/temporary_folder.hpp"

#include <cstdlib>

#include "config/gauges.hpp"
#include "config/log.hpp"
#include "config/remove_tree.hpp"

namespace ntrace {

temporary_folder::temporary_folder(const std::string& parent, const std::string& name)
    : path_{parent + "/" + name + ".XXXXXX"} {
  if (::mkdtemp(path_.data()) == nullptr) path_.clear();
}

temporary_folder::~temporary_folder() {
  if (path_.empty()) return;
  const auto deleted = remove_tree(path_);
  if (deleted) return;
  ++gauges::value("temporary_folders_left");
  log::warn("temporary_folder.left", {{"folder", path_}, {"reason", to_string(deleted.error())}});
}

}  // namespace ntrace
