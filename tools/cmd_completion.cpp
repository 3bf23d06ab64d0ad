// complete, man: the calls of the shells' completion, and the manual pages. Both are for scripts
// and packages; --help does not list them.
#include <fmt/core.h>
#include <iostream>

#include "config/file.hpp"
#include "tools/command.hpp"
#include "tools/completion.hpp"
#include "tools/man_page.hpp"

namespace ntrace::tools {
namespace {

/// A person at the tabulator key does not wait for a server that does not answer.
constexpr milliseconds answer_deadline{400};
constexpr int runs_offered = 30;  // a screen of them; older ones have to be typed

std::string address(const std::vector<std::string>& words, text_setting of) {
  const std::string server{of.spec().key};
  for (std::size_t i = 0; i < words.size(); ++i) {
    if (words[i] == "--" + server && i + 1 < words.size()) return words[i + 1];
    if (words[i].rfind("--" + server + "=", 0) == 0) return words[i].substr(server.size() + 3);
  }
  const char* variable = std::getenv(setting_variable(server).c_str());
  return variable ? variable : std::string{of.spec().fallback};
}

/// An answer of a server, or null: a shell has no place for an error.
json ask(const std::string& at, std::string_view method, const json& args) {
  const auto to = parse_host_port(at);
  if (!to) return {};
  auto client = net::rpc_client::connect(*to, answer_deadline);
  if (!client) return {};
  return client->call(method, args, answer_deadline).value_or(json{});
}

std::vector<candidate> values_of(const std::string& name, const std::vector<std::string>& words) {
  std::vector<candidate> out;
  if (name == "RUN") {
    for (const auto& r :
         ask(address(words, "dispatcher"), "runs", json::array({json{{"limit", runs_offered}}})))
      out.push_back({r.value("run", ""),
                     fmt::format("{} {}/{} {}", r.value("state", ""), r.value("owner", ""),
                                 r.value("repo", ""), r.value("sha", "").substr(0, 10))});
  } else if (name == "UUID" && (words.front() == "expel" || words.front() == "enroll")) {
    for (const auto& w : ask(address(words, "runner"), "workers", json::array()))
      out.push_back({w.value("uuid", ""), w.value("state", "")});
  }
  return out;
}

int write_pages(const command& of, const std::string& folder) {
  const std::string version{program_version()};
  if (auto made = make_folders(folder, 0755); !made) return report(made.error());
  const auto to = folder + "/" + man_page_file(of);
  const auto page = man_page(of, version.substr(0, version.find(" (")));
  if (auto written = write_file_durably(to, page, 0644); !written) return report(written.error());
  for (const auto& one : of.commands)
    if (const int code = write_pages(one, folder); code != 0) return code;
  return 0;
}

}  // namespace

void add_completion(cli::app app, outcome& out) {
  const auto sub = app.add_subcommand("complete", "Completes the last of the words after --");
  sub.group("");
  auto words = std::make_shared<std::vector<std::string>>();
  sub.add_option("WORDS", *words).required();
  sub.callback([app, &out, words] {
    out.run = [app, words] {
      for (const auto& one : complete(read_command(app.parsed()), *words, values_of))
        std::cout << for_terminal(one.word) << "\t" << for_terminal(one.text) << "\n";
      return 0;
    };
  });
  const auto man = app.add_subcommand("man", "Writes the manual pages into a folder");
  man.group("");
  auto folder = std::make_shared<std::string>();
  man.add_option("FOLDER", *folder).required();
  man.callback([app, &out, folder] {
    out.run = [app, folder] { return write_pages(read_command(app.parsed()), *folder); };
  });
}

}  // namespace ntrace::tools
