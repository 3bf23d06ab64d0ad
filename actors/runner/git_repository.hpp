#pragma once
// A bare repository of our own, that git fetches single commits into. Nobody's configuration but
// ours steers it.
#include <string>
#include <vector>

#include "actors/runner/source.hpp"
#include "config/subprocess.hpp"

namespace ntrace::runner {

class git_repository {
public:
  /// Makes an empty one in `folder`, which exists. Each command may take `deadline`.
  /// `ca_file`: the authorities of HTTPS remotes; empty: the system's.
  static result<git_repository> make(const std::string& folder, const std::string& ca_file,
                                     milliseconds deadline, const cancellation* stop);

  /// Fetches what `revision` names at `url`: a commit's id. ec::not_found when there is none, an
  /// outage (config/outage.hpp) when the remote cannot be reached.
  result<std::string> fetch(const std::string& url, const std::string& revision) const;
  /// The output of one command; ec::source_limit when it is longer than `bytes_max`.
  result<std::string> run(std::vector<std::string> words, std::size_t bytes_max = 1u << 20) const;
  /// The same command, to be started by the caller.
  subprocess_spec spec(std::vector<std::string> words) const;
  /// For whoever fetches what a repository names: only these transports, as git calls them.
  void allow_only(const std::vector<std::string>& protocols);
  const std::string& folder() const { return folder_; }

private:
  git_repository(std::string folder, std::string ca_file, milliseconds deadline,
                 const cancellation* stop)
      : folder_{std::move(folder)},
        ca_file_{std::move(ca_file)},
        deadline_{deadline},
        stop_{stop} {}
  result<void> remote_trouble(const std::string& url, const error& failed) const;

  std::string folder_, ca_file_;
  milliseconds deadline_;
  const cancellation* stop_;
  std::vector<std::string> rules_;
};

}  // namespace ntrace::runner
