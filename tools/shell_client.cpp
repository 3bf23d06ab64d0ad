#include "tools/shell_client.hpp"

#include <fmt/core.h>
#include <pwd.h>
#include <unistd.h>
#include <caf/io/middleman.hpp>
#include <caf/openssl/manager.hpp>
#include <caf/openssl/remote_actor.hpp>
#include <caf/scoped_actor.hpp>

#include <algorithm>

#include "actors/shell/shell_commands.hpp"
#include "config/json_parse.hpp"
#include "supervision/caf_types.hpp"
#include "tools/command.hpp"
#include "tools/serve.hpp"

namespace ntrace::tools {
namespace {

constexpr milliseconds connect_max{10'000};     // TLS handshake and hello included
constexpr std::chrono::seconds answer_max{30};  // above what the server waits for itself

bool is_encrypted(const shell_credentials& own) {
  return !own.cert_file.empty() || !own.key_file.empty() || !own.ca_file.empty();
}

/// Names a missing file: with it the handshake would fail without a reason.
result<void> check(const shell_credentials& own) {
  if (!is_encrypted(own)) return {};
  for (const auto& [flag, path] :
       {std::pair{"--cert", &own.cert_file}, {"--key", &own.key_file}, {"--ca", &own.ca_file}}) {
    if (path->empty())
      return fail(ec::bad_config, std::string{flag} +
                                      " is missing: with certificates all of "
                                      "--cert, --key and --ca are needed");
    if (::access(path->c_str(), R_OK) != 0)
      return fail(ec::bad_config, std::string{flag} + ": " + *path + " cannot be read");
  }
  return {};
}

/// The name for the audit, as this machine gives it.
std::string who_asks() {
  char host[256] = "";
  ::gethostname(host, sizeof host - 1);
  const auto* user = ::getpwuid(::getuid());
  return (user ? user->pw_name : std::to_string(::getuid())) + std::string{"@"} + host;
}

std::string as_text(const json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_null()) return "-";
  return value.dump(-1, ' ', false, json::error_handler_t::replace);
}

/// A list of objects; anything else is shown by lines.
bool is_table(const json& value) {
  return value.is_array() && !value.empty() &&
         std::all_of(value.begin(), value.end(), [](const json& one) { return one.is_object(); });
}

/// The columns of all rows: names first, then in the order of their first use.
std::vector<std::string> columns_of(const json& rows) {
  std::vector<std::string> out;
  const auto add = [&](const std::string& name) {
    if (std::find(out.begin(), out.end(), name) == out.end()) out.push_back(name);
  };
  for (const char* first : {"actor", "id", "run", "uuid", "name"})
    if (rows[0].contains(first)) add(first);
  for (const auto& row : rows)
    for (const auto& [name, value] : row.items()) add(name);
  return out;
}

std::string show_table(const json& rows) {
  const auto columns = columns_of(rows);
  std::vector<std::vector<std::string>> out;
  auto& head = out.emplace_back();
  for (auto name : columns) {
    std::transform(name.begin(), name.end(), name.begin(), [](char c) {
      return c == '_' ? ' ' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
    });
    head.push_back(std::move(name));
  }
  for (const auto& row : rows) {
    auto& line = out.emplace_back();
    for (const auto& name : columns) line.push_back(row.contains(name) ? as_text(row[name]) : "-");
  }
  return table(out);
}

std::string indented(const std::string& text) {
  std::string out;
  std::size_t at = 0;
  while (at < text.size()) {
    const auto end = std::min(text.find('\n', at), text.size());
    out += "  " + text.substr(at, end - at) + "\n";
    at = end + 1;
  }
  return out;
}

std::string show_object(const json& value) {
  std::size_t width = 0;
  for (const auto& [name, one] : value.items()) width = std::max(width, name.size());
  std::string out;
  for (const auto& [name, one] : value.items()) {
    const bool has_lines = is_table(one) || (one.is_object() && !one.empty());
    if (has_lines)
      out += name + "\n" + indented(show_answer(one));
    else
      out += fmt::format("{}{}{}\n", name, std::string(width - name.size() + 2, ' '), as_text(one));
  }
  return out;
}

}  // namespace

shell_client::config::config(const shell_credentials& own) {
  load<caf::io::middleman>();
  if (!is_encrypted(own)) return;
  openssl_certificate = own.cert_file;
  openssl_key = own.key_file;
  openssl_cafile = own.ca_file;
  load<caf::openssl::manager>();
}

result<std::unique_ptr<shell_client>> shell_client::connect(const host_port& at,
                                                            const shell_credentials& own) {
  if (auto fine = check(own); !fine) return fail(fine.error());
  std::unique_ptr<shell_client> out{new shell_client{own}};
  {
    // CAF waits for ever for a silent server.
    const hard_deadline limit{connect_max, 3};
    auto reached = is_encrypted(own) ? caf::openssl::remote_actor(out->system_, at.host, at.port)
                                     : out->system_.middleman().remote_actor(at.host, at.port);
    if (!reached)
      return fail(ec::unreachable, fmt::format("no shell answers at {} ({}): is `shell` set there, "
                                               "and does it take this certificate?",
                                               at.text(), out->system_.render(reached.error())));
    out->server_ = *reached;
  }
  auto hello = out->call("hello", {});
  if (!hello) return fail(hello.error());
  out->hello_ = std::move(*hello);
  return out;
}

result<json> shell_client::call(const std::string& command, const std::vector<std::string>& args) {
  const json request{{"versions", {shell::protocol_version}},
                     {"command", command},
                     {"args", args},
                     {"by", who_asks()}};
  result<json> out = fail(ec::connection_lost, "the shell's server is gone");
  caf::scoped_actor self{system_};
  self->request(server_, answer_max, request.dump(-1, ' ', false, json::error_handler_t::replace))
      .receive(
          [&](const std::string& text) {
            const auto answer = parse_or_discard(text);
            if (!answer.is_object())
              out = fail(ec::version_mismatch, "the server's answer is no object");
            else if (const auto problem = answer.value("error", json::object()); !problem.empty())
              out = fail(ec_from_string(problem.value("code", "")), problem.value("message", ""));
            else
              out = answer.value("value", json());
          },
          [&](const caf::error& e) {
            out = fail(ec::connection_lost,
                       "the shell's server does not answer: " + system_.render(e));
          });
  return out;
}

std::string show_answer(const json& value) {
  if (value.is_object() && value.contains("children") && value.contains("strategy"))
    return show_tree(value);
  if (is_table(value)) return for_terminal(show_table(value));
  if (value.is_object()) return for_terminal(show_object(value));
  if (value.is_array() && value.empty()) return "none\n";
  return for_terminal(as_text(value)) + "\n";
}

}  // namespace ntrace::tools
