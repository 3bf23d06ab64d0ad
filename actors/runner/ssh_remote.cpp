#include "actors/runner/ssh_remote.hpp"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <charconv>

#include "config/backoff.hpp"
#include "config/outage.hpp"
#include "config/subprocess.hpp"
#include "net/reachability.hpp"
#include "net/socket.hpp"

namespace ntrace::runner {
namespace {

constexpr int refusals_wanted = 3;
constexpr backoff_policy between_refusals{milliseconds{1000}, milliseconds{4000}};
constexpr std::size_t greeting_bytes_max = 4096;

/// False when it was cancelled meanwhile.
bool pause(milliseconds wait, const cancellation* stop) {
  pollfd raised{stop ? stop->fd() : -1, POLLIN, 0};
  return ::poll(&raised, 1, static_cast<int>(wait.count())) == 0;
}

result<void> expect_greeting(const host_port& at, milliseconds deadline, const cancellation* stop) {
  const auto fd = net::dial(at, deadline, stop);
  if (!fd) return fail(fd.error());
  std::string sent;
  while (!has_ssh_greeting(sent)) {
    if (!net::wait_ready(fd->get(), false, deadline, stop))
      return fail(to_error({at.host, outage_cause::silent, at.text() + " says nothing"}));
    std::array<char, 512> words{};
    const auto n = ::recv(fd->get(), words.data(), words.size(), 0);
    if (n <= 0 || sent.size() > greeting_bytes_max)
      return fail(to_error(
          {at.host, outage_cause::connection_lost, at.text() + " gave no greeting of SSH"}));
    sent.append(words.data(), static_cast<std::size_t>(n));
  }
  return {};
}

/// A word that the server's shell takes as it is.
std::string quoted(const std::string& text) {
  std::string out = "'";
  for (const char c : text) out += c == '\'' ? std::string{"'\\''"} : std::string{c};
  return out + "'";
}

subprocess_spec ssh_to(const git_location& to, std::vector<std::string> options,
                       milliseconds deadline) {
  subprocess_spec out;
  out.argv = {"ssh", "-o", "BatchMode=yes", "-o", "ConnectTimeout=15"};
  out.argv.insert(out.argv.end(), options.begin(), options.end());
  if (to.has_port) out.argv.insert(out.argv.end(), {"-p", std::to_string(to.at.port)});
  out.argv.insert(out.argv.end(), {"--", (to.user.empty() ? "" : to.user + "@") + to.at.host});
  out.output_bytes_max = 64u << 10;
  out.deadline = deadline;
  return out;
}

}  // namespace

std::optional<ssh_route> parse_ssh_route(std::string_view text) {
  ssh_route out;
  out.at.port = 0;
  while (!text.empty()) {
    const auto end = std::min(text.find('\n'), text.size());
    const auto line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    const auto space = std::min(line.find(' '), line.size());
    const auto name = line.substr(0, space);
    const auto value = line.substr(std::min(space + 1, line.size()));
    if (name == "hostname") out.at.host = value;
    if (name == "port") std::from_chars(value.data(), value.data() + value.size(), out.at.port);
    if (name == "proxyjump" || name == "proxycommand") out.is_proxied = value != "none";
  }
  return out.at.host.empty() || out.at.port == 0 ? std::nullopt : std::optional{out};
}

bool has_ssh_greeting(std::string_view sent) {
  return sent.starts_with("SSH-") || sent.find("\nSSH-") != std::string_view::npos;
}

result<void> ssh_answer(const host_port& at, const ssh_end& end) {
  if (end.has_output) return {};
  const auto words = end.said.substr(0, 500);
  if (end.exit_code != 255)
    return fail(ec::not_found, "the server gives no such repository: " + words);
  if (!end.saw_host_key)
    return fail(to_error({at.host, outage_cause::connection_lost,
                          at.text() + " hung up before it named its key: " + words}));
  return fail(ec::forbidden,
              "ssh was refused; its key must be allowed there, and the server's host key known "
              "here: " +
                  words);
}

result<void> ask_ssh(const git_location& to, const remote_options& options,
                     const cancellation* stop) {
  // Git decodes such a path, and ssh would take such a name for an option.
  if (to.path.find('%') != std::string::npos || to.user.starts_with('-') ||
      to.at.host.starts_with('-'))
    return {};
  const auto told = run_subprocess(ssh_to(to, {"-G"}, options.deadline), stop);
  const auto route = told && told->ok() ? parse_ssh_route(told->out) : std::nullopt;
  if (!route || route->is_proxied) return {};
  // ssh calls this once it has the server's key: it leaves a file named HOSTNAME or ADDRESS.
  const auto files = {options.scratch + "/host-key-HOSTNAME",
                      options.scratch + "/host-key-ADDRESS"};
  auto ask = ssh_to(to, {"-o", "KnownHostsCommand=/usr/bin/touch host-key-%I"}, options.deadline);
  ask.cwd = options.scratch;
  ask.argv.push_back("git-upload-pack " + quoted(to.path));
  random_source random{random_seed()};
  for (int refusals = 0;;) {
    if (auto greets = expect_greeting(route->at, options.deadline, stop); !greets) return greets;
    const auto done = run_subprocess(ask, stop);
    if (!done) return fail(done.error());
    if (done->cancelled) return fail(ec::cancelled, "fetching was cancelled");
    if (done->timed_out || done->exit_code < 0)
      return fail(
          to_error({route->at.host, outage_cause::silent, route->at.text() + " does not answer"}));
    bool saw_host_key = false;
    for (const auto& file : files) saw_host_key = ::unlink(file.c_str()) == 0 || saw_host_key;
    auto answer =
        ssh_answer(route->at, {done->exit_code, !done->out.empty(), saw_host_key, done->err});
    const bool is_refused = !answer && answer.error().code == ec::forbidden;
    if (!is_refused || ++refusals == refusals_wanted) return answer;
    // A server may drop one connection of many, and its users' accounts be away for a moment.
    const auto wait = between_refusals.min / 2 +
                      backoff_wait(between_refusals, static_cast<unsigned>(refusals), random);
    if (!pause(wait, stop)) return fail(ec::cancelled, "fetching was cancelled");
  }
}

}  // namespace ntrace::runner
