#include "tools/command.hpp"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <iostream>

#include "actors/rpc/messages/stream_data.hpp"
#include "config/zstd.hpp"
#include "tools/command_tree.hpp"

namespace ntrace::tools {
namespace {

constexpr std::size_t folded_bytes_max = 2u << 30;  // of one run's stacks, unpacked

/// Root's is the system's (hier(7)), a user's is below the XDG data folder's default.
std::string default_data() {
  if (::geteuid() == 0) return "/var/lib/ntrace";
  const char* home = std::getenv("HOME");
  return std::string{home ? home : "/tmp"} + "/.local/share/ntrace";
}

}  // namespace

namespace {

struct text_kind {
  text_setting of;
  const char* shown;
};
constexpr text_kind text_kinds[]{{"data", "DIR"},
                                 {"dispatcher", "ADDRESS"},
                                 {"runner", "ADDRESS"},
                                 {"webhook", "ADDRESS"},
                                 {"shell", "ADDRESS"},
                                 {"shell_operator", "ADDRESS"},
                                 {"tunnel_listen", "ADDRESS"},
                                 {"tunnel", "URL"},
                                 {"github_url", "URL"},
                                 {"npm_registry", "URL"},
                                 {"runner_name", "NAME"},
                                 {"source_template", "SPEC"}};

/// What kind of text a setting is.
const char* text_kind_of(std::string_view key) {
  for (const auto& kind : text_kinds)
    if (kind.of.spec().key == key) return kind.shown;
  return key.ends_with("_file") ? "FILE" : "WORD";  // One of the words in the help text.
}

/// The placeholder of the value in --help, and its unit in the help text.
std::pair<const char*, const char*> kind_of(const setting_spec& spec) {
  switch (spec.type) {
    case setting_type::duration_ms:
      return {"MS", " (milliseconds)"};
    case setting_type::bytes:
      return {"BYTES", " (bytes, KiB, MiB or GiB)"};
    case setting_type::count:
      return {"N", ""};
    case setting_type::list:
      return {"LIST", " (with commas)"};
    case setting_type::flag:
    case setting_type::text:
      break;
  }
  return {text_kind_of(spec.key), ""};
}

}  // namespace

setting_flags::setting_flags(cli::app sub, const std::vector<setting_key>& common) : sub_{sub} {
  sub.add_option("--config", file_, "TOML file with settings")
      .type_name("FILE")
      .envname("NTRACE_CONFIG");
  for (const auto& spec : setting_table) {
    const std::string key{spec.key};
    const bool is_common = std::any_of(common.begin(), common.end(),
                                       [&](setting_key c) { return c.spec().key == key; });
    const auto* group = is_common ? settings_group : rare_group;
    const auto [value, unit] = kind_of(spec);
    const auto help = std::string{spec.help} + unit;
    if (spec.type == setting_type::flag)
      sub.add_flag(setting_flag(key), values_[key], help).group(group);
    else
      sub.add_option(setting_flag(key), values_[key], help)
          .group(group)
          .type_name(value)
          .default_str(std::string{spec.fallback});
  }
}

result<settings> setting_flags::load() const {
  std::map<std::string, std::string> given;
  for (const auto& [key, value] : values_)
    if (sub_.count(setting_flag(key)) > 0) given[key] = value;
  const auto env = [](const std::string& name) -> std::optional<std::string> {
    const char* value = std::getenv(name.c_str());
    return value ? std::optional<std::string>{value} : std::nullopt;
  };
  auto loaded = settings::load(file_, env, given);
  if (!loaded) return loaded;
  if (loaded->text("data").empty()) {
    const auto with_data = [env](const std::string& name) {
      return name == "NTRACE_DATA" ? std::optional{default_data()} : env(name);
    };
    if (given.count("data") == 0 || given["data"].empty()) given.erase("data");
    loaded = settings::load(file_, with_data, given);
    if (loaded) loaded->set_origin("data", "default");
  }
  return loaded;
}

int report(const error& e, bool as_json) {
  if (as_json)
    std::cout << json{{"error", net::to_json(e)}}.dump() << "\n";
  else
    std::cerr << "ntrace: " << for_terminal(to_string(e)) << "\n";
  return exit_code(e.code);
}

void server_flags::add(cli::app sub, text_setting server) {
  add_address(sub, server);
  sub.add_flag("--json", as_json, "print JSON");
}

void server_flags::add_address(cli::app sub, text_setting server) {
  name = server.spec().key;
  at = server.spec().fallback;
  sub.add_option("--" + name, at, "HOST:PORT of the " + name)
      .type_name("ADDRESS")
      .envname(setting_variable(name))
      .capture_default_str();
}

result<net::rpc_client> server_flags::connect() const {
  const auto to = parse_host_port(at);
  if (!to) return fail(to.error());
  auto client = net::rpc_client::connect(*to);
  if (!client)
    return fail(ec::unreachable,
                client.error().message + "; start it with `ntrace up`, or name it with --" + name);
  return client;
}

result<json> server_flags::call(std::string_view method, const json& args,
                                milliseconds deadline) const {
  auto client = connect();
  if (!client) return fail(client.error());
  return client->call(method, args, deadline);
}

int server_flags::print(const result<json>& answer,
                        const std::function<void(const json&)>& as_text) const {
  if (!answer) return report(answer.error(), as_json);
  if (as_json)
    std::cout << answer->dump() << "\n";
  else
    as_text(*answer);
  return 0;
}

int run_exit_code(const std::string& state, const std::string& reason) {
  if (state == "done" || state == "passed") return 0;
  const auto code = ec_from_string(reason.substr(0, reason.find(':')));
  if (state == "failed" || state == "script_failed" || state == "source_failed")
    return code == ec::none ? 1 : exit_code(code);
  // An outage that no command waited for.
  return code == ec::unreachable ? exit_code(code) : 5;
}

std::string no_profile(const json& receipt) {
  return receipt.is_object() ? receipt.value("profile_failed", "") : "";
}

void add_require_profile(cli::app sub, bool& value) {
  sub.add_flag("--require-profile,!--no-require-profile", value,
               std::string{"exit code 5 when the script passed and there is no flame graph; "} +
                   (value ? "the default" : "else 0"));
}

int with_profile(int code, const std::string& missing, bool is_required) {
  return code == 0 && is_required && !missing.empty() ? exit_code(ec::profile_failed) : code;
}

std::string chunk_text(const json& chunk) {
  const auto data = rpc::chunk_data(chunk);
  return data ? *data : "[" + to_string(data.error()) + "]";
}

std::size_t terminal_width() {
  winsize size{};
  return ::isatty(1) && ::ioctl(1, TIOCGWINSZ, &size) == 0 ? size.ws_col : 0;
}

result<std::string> unzstd(const std::string& packed) {
  // Our runners send one frame. Consumers of the old protocol send one for each document.
  auto out = zstd_unpacked(packed, folded_bytes_max);
  if (!out) return fail(ec::truncated, "the stacks are not whole zstd frames");
  return out;
}

}  // namespace ntrace::tools
