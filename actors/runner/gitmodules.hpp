#pragma once
// What a .gitmodules says, and where the URLs in it lead. No text can be trusted. Pure.
#include <string>
#include <string_view>
#include <vector>

namespace ntrace::runner {

struct submodule {
  std::string path, url;
};

/// The submodules that the text of a .gitmodules names: those with a path and a URL; at most
/// limits::gitmodules_max. gitmodules(5).
std::vector<submodule> parse_gitmodules(std::string_view text);

/// A URL of a submodule that is relative ("./x", "../x") against that of its repository; others
/// as they are. Empty when it leaves the host. git-submodule(1), "add".
std::string resolve_submodule_url(std::string_view parent, std::string_view url);

/// Why a submodule of a repository at `parent` is not fetched from `url`; empty when it is. One on
/// this machine must lie beside its repository: whoever may commit to that must not read others.
std::string refusal_of_submodule(std::string_view parent, std::string_view url);

/// "user@host:path" or "host:path", as scp(1) has it: where its path begins; 0 for other texts.
std::size_t path_of_scp(std::string_view url);

/// True for a path of this machine, also as a URL.
bool is_on_this_machine(std::string_view url);

}  // namespace ntrace::runner
