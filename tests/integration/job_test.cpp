// What a job finds in its folder and its environment, and what its run is told of its source.
#include "tests/support/program_parts.hpp"

using namespace ntrace;
using namespace std::chrono_literals;
using nlohmann::json;
using test::in;
using test::ok;
using test::run_ntrace;
using test::scratch;

namespace {

/// Profiles the folder `name` of `dir`; what the script wrote.
std::string output_of(const scratch& dir, const std::string& name,
                      std::vector<std::string> more = {}) {
  std::vector<std::string> words{"profile", dir / name, "-o", dir / "out"};
  words.insert(words.end(), more.begin(), more.end());
  const auto done = run_ntrace(in(dir, words), 120s);
  EXPECT_EQ(done.exit_code, 0) << done.out << done.err;
  return ok(read_file(dir / "out/output.log"));
}

}  // namespace

TEST(job_folder, holds_nothing_of_ours_while_node_programs_and_their_threads_run) {
  NTRACE_NEEDS_ZONES();
  const scratch dir;
  dir.file("tidy/package.json", json{{"name", "tidy"},
                                     {"version", "1.0.0"},
                                     {"scripts", {{"benchmark", "ls -A; node look.js"}}}}
                                    .dump());
  dir.file("tidy/look.js",
           "const {readdirSync} = require('fs'), {Worker} = require('worker_threads');\n"
           "const look = who => console.log(who, readdirSync('.').sort().join(' '));\n"
           "look('main');\n"
           "const worker = new Worker(`require('worker_threads').parentPort.postMessage(\n"
           "  require('fs').readdirSync('.').sort().join(' '))`, {eval: true});\n"
           "worker.on('message', seen => { console.log('thread', seen);\n"
           "  require('child_process').execFileSync(process.execPath, ['-e',\n"
           "    'console.log(\"child\", fs.readdirSync(\".\").sort().join(\" \"))'],\n"
           "    {stdio: 'inherit'});\n"
           "  look('after'); });\n");
  const std::string both = "look.js package.json\n";
  EXPECT_EQ(output_of(dir, "tidy"), "look.js\npackage.json\nmain " + both + "thread " + both +
                                        "child " + both + "after " + both);
}

TEST(job_folder, keeps_the_log_that_a_programs_own_flags_ask_for) {
  NTRACE_NEEDS_ZONES();
  const scratch dir;
  dir.file("logs/package.json",
           json{{"name", "logs"},
                {"version", "1.0.0"},
                {"scripts", {{"benchmark", "node --prof -e 1; ls -A | grep -c v8.log"}}}}
               .dump());
  EXPECT_EQ(output_of(dir, "logs"), "1\n");
}

TEST(job_environment, says_that_nobody_watches) {
  NTRACE_NEEDS_ZONES();
  const scratch dir;
  dir.file(
      "env/package.json",
      json{{"name", "env"}, {"version", "1.0.0"}, {"scripts", {{"benchmark", "echo $CI $NTRACE"}}}}
          .dump());
  EXPECT_EQ(output_of(dir, "env"), "true true\n");
}

namespace {

/// Profiles the folder of a package; its summary as JSON.
json summary_of(const scratch& dir, const std::string& name, std::vector<std::string> more = {}) {
  std::vector<std::string> words{"profile", dir / name, "-o", dir / "out", "--json"};
  words.insert(words.end(), more.begin(), more.end());
  const auto done = run_ntrace(in(dir, words), 120s);
  return json::parse(ok(read_file(dir / "out/run.json")));
}

bool has_event(const json& summary, const std::string& code, const std::string& words) {
  for (const auto& event : summary["events"])
    if (event.value("code", "") == code &&
        event.value("message", "").find(words) != std::string::npos)
      return true;
  return false;
}

}  // namespace

TEST(job_install, refuses_a_registry_that_is_not_allowed_and_says_what_to_add) {
  NTRACE_NEEDS_ZONES();
  const scratch dir;
  dir.file("own/.npmrc", "registry=https://npm.corp.example/\n");
  dir.file("own/package.json", R"({"name":"own","version":"1.0.0","scripts":{"test":"true"},)"
                               R"("dependencies":{"ms":"2.1.3"}})");
  const auto refused = summary_of(dir, "own");
  EXPECT_EQ(refused["verdict"], "script_failed");
  EXPECT_EQ(refused["reason"].get<std::string>().find("forbidden: "), 0u) << refused["reason"];
  EXPECT_NE(refused["reason"].get<std::string>().find(
                "add \"npm.corp.example:443\" to the setting network_allow"),
            std::string::npos)
      << refused["reason"];
}

TEST(job_install, uses_the_projects_registry_and_by_default_ours) {
  NTRACE_NEEDS_ZONES();
  const scratch dir;
  const auto package =
      json{{"name", "own"},
           {"version", "1.0.0"},
           {"scripts",
            {{"test", "true"}, {"preinstall", "echo registry $(npm config get registry)"}}}}
          .dump();
  dir.file("own/package.json", package);
  summary_of(dir, "own", {"--npm-registry", "https://mirror.example/"});
  EXPECT_NE(ok(read_file(dir / "out/output.log")).find("registry https://mirror.example/"),
            std::string::npos);
  dir.file("own/.npmrc", "registry=https://npm.corp.example/\n");
  summary_of(dir, "own", {"--npm-registry", "https://mirror.example/"});
  EXPECT_NE(ok(read_file(dir / "out/output.log")).find("registry https://npm.corp.example/"),
            std::string::npos);
}

TEST(job_install, uses_the_registries_that_the_files_of_other_managers_name) {
  NTRACE_NEEDS_ZONES();
  const scratch dir;
  dir.file("own/package.json",
           json{{"name", "own"},
                {"version", "1.0.0"},
                {"scripts",
                 {{"test", "true"},
                  {"preinstall",
                   "echo $(npm config get registry) $(npm config get @corp:registry) "
                   "$(npm config get noproxy) $(npm config get https-proxy)"}}}}
               .dump());
  dir.file("own/.yarnrc.yml",
           "npmRegistryServer: https://npm.corp.example/\nnpmScopes:\n  corp:\n    "
           "npmRegistryServer: https://scope.corp.example/\n");
  dir.file("own/.npmrc", "noproxy=corp.example\nhttps-proxy=http://proxy.corp.example\n");
  const auto seen = summary_of(dir, "own");
  const auto output = ok(read_file(dir / "out/output.log"));
  EXPECT_NE(output.find("https://npm.corp.example/ https://scope.corp.example/ nothing.invalid "
                        "http://127.0.0.1:3128"),
            std::string::npos)
      << output;
  EXPECT_TRUE(has_event(seen, "npmrc_unused", ".npmrc, line 1 (noproxy)"));
  EXPECT_TRUE(has_event(seen, "npmrc_unused", ".npmrc, line 2 (https-proxy)"));
}

TEST(job_install, refuses_what_a_yarn_lock_takes_from_elsewhere) {
  NTRACE_NEEDS_ZONES();
  const scratch dir;
  dir.file("own/package.json", R"({"name":"own","version":"1.0.0","scripts":{"test":"true"},)"
                               R"("dependencies":{"ms":"2.1.3"}})");
  dir.file("own/yarn.lock",
           "ms@2.1.3:\n  version \"2.1.3\"\n  resolved "
           "\"https://art.corp.example/ms-2.1.3.tgz\"\n");
  const auto reason = summary_of(dir, "own")["reason"].get<std::string>();
  EXPECT_NE(reason.find("yarn.lock, line 3 names art.corp.example:443"), std::string::npos)
      << reason;
}

TEST(job_install, names_the_lock_that_is_not_used_and_npms_own_error) {
  NTRACE_NEEDS_ZONES();
  const scratch dir;
  dir.file("ws/package.json", R"({"name":"ws","version":"1.0.0","packageManager":"pnpm@9.0.0",)"
                              R"("scripts":{"test":"true"},"dependencies":{"a":"workspace:*"}})");
  dir.file("ws/pnpm-lock.yaml", "lockfileVersion: '9.0'\n");
  const auto seen = summary_of(dir, "ws");
  EXPECT_TRUE(has_event(seen, "lock_unused", "pnpm-lock.yaml, packageManager pnpm@9.0.0"))
      << seen["events"].dump(1);
  EXPECT_NE(seen["reason"].get<std::string>().find("EUNSUPPORTEDPROTOCOL"), std::string::npos)
      << seen["reason"];
}

TEST(job_install, builds_a_native_add_on_without_the_network) {
  NTRACE_NEEDS_ZONES();
  if (::access("/usr/include/node/config.gypi", R_OK) != 0)
    GTEST_SKIP() << "needs node's headers in /usr/include/node and a compiler";
  const scratch dir;
  dir.file("addon/package.json", R"x({"name":"addon","version":"1.0.0","scripts":{"test":)x"
                                 R"x("node -p \"require('./build/Release/a.node').six\""}})x");
  dir.file("addon/binding.gyp", R"({"targets":[{"target_name":"a","sources":["a.c"]}]})");
  dir.file("addon/a.c",
           "#include <node_api.h>\nNAPI_MODULE_INIT() {\n  napi_value six;\n"
           "  napi_create_int32(env, 6, &six);\n"
           "  napi_set_named_property(env, exports, \"six\", six);\n  return exports;\n}\n");
  EXPECT_TRUE(output_of(dir, "addon", {"--network-allow", "nowhere.example"}).ends_with("\n6\n"));
}

TEST(job_tree, is_told_of_what_it_lacks) {
  NTRACE_NEEDS_ZONES();
  const scratch dir;
  dir.file("half/package.json", R"({"name":"half","version":"1.0.0","scripts":{"test":"true"}})");
  dir.file("half/.gitmodules", "[submodule \"x\"]\n\tpath = x\n\turl = ../x.git\n");
  std::filesystem::create_directories(dir / "half/x");
  EXPECT_TRUE(has_event(summary_of(dir, "half"), "submodule_missing", "../x.git"));
}
