// What an operator does about the journal, with the program itself.
#include <gtest/gtest.h>

#include <fstream>

#include "config/sqlite.hpp"
#include "tests/support/by_hand.hpp"
#include "tests/support/program_parts.hpp"

using namespace ntrace;
using namespace ntrace::test;
using namespace std::chrono_literals;

namespace {

/// A push without a worker, so that it waits.
std::string push(server& to, int n) {
  const json options{{"source", "dir:/tmp"}, {"key", "k" + std::to_string(n)}};
  return ok(to.call("push", json::array({"o", "r", sha, options})))["run"];
}

/// The pages that hold the table's rows; https://sqlite.org/dbstat.html.
std::vector<std::int64_t> leaves_of(const std::string& path, const std::string& table) {
  const auto db = ok(sqlite::connection::open({}, path, sqlite::role::reader, {}));
  std::vector<std::int64_t> out;
  sqlite::statement s{*db, "select pageno from dbstat where name=? and pagetype='leaf'"};
  ok(s.bind(table).each([&](const sqlite::statement& row) { out.push_back(row.number(0)); }));
  return out;
}

}  // namespace

TEST(journal, is_checked_and_copied_while_the_dispatcher_works) {
  const scratch dir;
  server uut{dir, {"dispatcher"}};
  for (int n = 0; n < 20; ++n) push(uut, n);
  const auto checked = run_ntrace({"journal", "check", "--data", dir / "data"});
  EXPECT_EQ(checked.exit_code, 0) << checked.out << checked.err;
  EXPECT_NE(checked.out.find("is whole"), std::string::npos);
  const auto copied =
      run_ntrace({"journal", "backup", dir / "copy", "--data", dir / "data", "--json"});
  EXPECT_EQ(copied.exit_code, 0) << copied.out << copied.err;
  const auto again = run_ntrace({"journal", "check", dir / "copy", "--json"});
  EXPECT_TRUE(json::parse(again.out)["whole"]) << again.out;
  EXPECT_EQ(run_ntrace({"journal", "backup", dir / "copy", "--data", dir / "data"}).exit_code, 4)
      << "it overwrites nothing";
}

TEST(push, is_refused_when_its_key_belongs_to_another_push) {
  const scratch dir;
  const auto push = [](const server& to, std::vector<std::string> words) {
    words.insert(words.begin(), "push");
    words.insert(words.end(), {"--key", "K", "--dispatcher", to.dispatcher});
    return run_ntrace(words);
  };
  const std::vector<std::string> one{"a", "b", sha, "--priority", "5"};
  std::string run;
  {
    server uut{dir, {"dispatcher"}};
    run = push(uut, one).out.substr(0, 26);
    EXPECT_EQ(uut.stop(SIGKILL), 128 + SIGKILL);
  }
  server uut{dir, {"dispatcher"}};
  const std::vector<std::vector<std::string>> others{
      {"other", "thing", std::string(40, 'b')},
      {"a", "b", sha},
      {"a", "b", sha, "--priority", "4"},
      {"a", "b", sha, "--priority", "5", "--source", "/tmp"},
      {"a", "b", sha, "--priority", "5", "--deadline-ms", "60000"}};
  for (const auto& words : others) {
    const auto no = push(uut, words);
    EXPECT_EQ(no.exit_code, 4) << no.out << no.err;
    EXPECT_NE(no.err.find("key_conflict: the key \"K\" belongs to run " + run), std::string::npos)
        << no.err;
  }
  auto capitals = one;
  capitals[2] = std::string(40, 'A');
  for (const auto& words : {one, capitals}) {
    const auto again = push(uut, words);
    EXPECT_EQ(again.exit_code, 0) << again.err;
    EXPECT_EQ(again.out, run + " queued (pushed before)\n");
  }
  const auto no = push(uut, {"a", "c", sha, "--json"});
  const auto why = json::parse(no.out)["error"];
  EXPECT_EQ(why.value("belongs_to", ""), run) << why;
  EXPECT_EQ(why.value("differs", ""), "repo, priority") << why;
  const auto kept = ok(uut.call("why", json::array({why.value("run", "")})));
  EXPECT_EQ(kept["state"], "refused") << kept;
  EXPECT_EQ(kept["repo"], "c") << kept;
  EXPECT_EQ(ok(uut.call("runs", json::array())).size(), 1u);
  EXPECT_EQ(uut.stop(), 0);
}

/// With nc: many in one write, so that they share a transaction; and a forge's payload, whose
/// `uuid` is the key.
TEST(push, is_refused_for_its_key_among_pushes_that_come_together) {
  const scratch dir;
  server uut{dir, {"dispatcher"}};
  const auto payload = [](const std::string& repo) {
    return json{{"after", sha},
                {"uuid", "U"},
                {"repository", {{"name", repo}, {"owner", {{"name", "o"}}}}}};
  };
  std::string lines;
  for (int i = 0; i < 20; ++i)
    lines += json{"push", {"o", "r" + std::to_string(i), sha, {{"key", "K"}}}, i}.dump() + "\n";
  for (const auto* repo : {"x", "x", "y"})
    lines += json{"push", json::array({payload(repo)}), lines.size()}.dump() + "\n";
  dir.file("lines", lines);
  subprocess_spec spec;
  const auto at = ok(parse_host_port(uut.dispatcher));
  spec.argv = {"sh", "-c",
               "nc -N " + at.host + " " + std::to_string(at.port) + " < " + (dir / "lines")};
  const auto said = ok(run_subprocess(spec)).out;
  int taken = 0, refused = 0, again = 0;
  std::istringstream in{said};
  for (std::string line; std::getline(in, line);) {
    const auto answer = json::parse(line)[0];
    if (answer.size() == 1)
      refused += answer[0].value("code", "") == "key_conflict" ? 1 : 0;
    else
      ++(answer[1].value("duplicate", false) ? again : taken);
  }
  EXPECT_EQ(taken, 2) << said;
  EXPECT_EQ(refused, 20) << said;
  EXPECT_EQ(again, 1) << said;
  EXPECT_EQ(uut.stop(), 0);
}

TEST(why, tells_of_a_push_that_was_refused) {
  const scratch dir;
  server uut{dir, {"dispatcher"}};
  ok(uut.call("drain", json::array()));
  const auto no = run_ntrace({"push", "o", "r", sha, "--dispatcher", uut.dispatcher, "--json"});
  EXPECT_NE(no.exit_code, 0);
  const auto run = json::parse(no.out)["error"].value("run", "");
  const auto seen_by_people = run_ntrace({"push", "o", "r", sha, "--dispatcher", uut.dispatcher});
  EXPECT_NE(seen_by_people.err.find("ntrace why 01"), std::string::npos) << seen_by_people.err;
  uut.stop(SIGKILL);
  server again{dir, {"dispatcher"}};
  const auto why = ok(again.call("why", json::array({run})));
  EXPECT_EQ(why["state"], "refused");
  EXPECT_TRUE(why["reason"].get<std::string>().starts_with("draining: ")) << why;
  EXPECT_EQ(why["repo"], "r");
  EXPECT_EQ(why["events"][0]["event"], "push_refused");
  EXPECT_NE(run_ntrace({"why", run, "--dispatcher", again.dispatcher}).out.find("drains"),
            std::string::npos);
  const auto list = ok(again.call("runs", json::array()));
  EXPECT_TRUE(list.empty()) << "it is no run";
}

TEST(journal_monitor, shows_a_broken_invariant_in_doctor_and_stops_nothing) {
  const scratch dir;
  server uut{dir, {"dispatcher"}};
  const auto doctor = [&] {
    return run_ntrace({"doctor", "dispatcher", "--dispatcher", uut.dispatcher});
  };
  const auto sound = push(uut, 1), broken = push(uut, 2);
  ok(uut.call("cancel", json::array({sound})));
  const auto found = [&] { return ok(uut.call("status", json::array()))["invariants"]; };
  eventually(10s, [&] { return found()["runs_checked"] == 1; });
  EXPECT_EQ(found()["violations"], 0);
  const auto before = doctor();
  EXPECT_EQ(before.exit_code, 0) << before.out;
  EXPECT_NE(before.out.find("0 violations in 1 checks"), std::string::npos) << before.out;

  const auto wrong = "update run set state='done', verdict='passed' where id='" + broken +
                     "'; insert into event(run, attempt, token, at_ms, actor, what, detail) "
                     "values('" +
                     broken + "', 0, 0, 1, 'hand', 'nothing', '')";
  change_by_hand(dir / "data/journal.sqlite", wrong);

  eventually(10s, [&] { return found()["violations"] == 1; });
  EXPECT_EQ(found()["list"][0]["invariant"], "S2");
  EXPECT_EQ(found()["list"][0]["run"], broken);
  const auto after = doctor();
  EXPECT_NE(after.exit_code, 0);
  EXPECT_NE(after.out.find("S2"), std::string::npos) << after.out;
  EXPECT_NE(uut.log().find("invariant.violated"), std::string::npos);
  EXPECT_EQ(ok(uut.call("status", json::array()))["gauges"]["invariant_violations"], 1);
  push(uut, 3);
}

TEST(retention, deletes_what_ended_long_ago_while_the_dispatcher_works) {
  const scratch dir;
  server uut{dir, {"dispatcher"}, {"--retain-days", "1"}};
  const auto ended = push(uut, 1);
  ok(uut.call("cancel", json::array({ended})));
  // A thousand newer ones, so that its age decides.
  change_by_hand(dir / "data/journal.sqlite",
                 "update run set updated_ms=1000; with recursive n(i) as (select 1 union all "
                 "select i+1 from n where i<1001) insert into run(id, key, owner, repo, sha, "
                 "source, priority, payload, state, attempts, token, created_ms, updated_ms) "
                 "select 'r'||i, 'r'||i, 'o', 'r', '', '', 0, '', 'done', 0, 0, 0, "
                 "9999999999999 from n");
  eventually(
      30s, [&] { return test::code_of(uut.call("show", json::array({ended}))) == ec::not_found; });
  EXPECT_EQ(ok(uut.call("status", json::array()))["gauges"]["journal_runs_deleted"], 1);
  EXPECT_TRUE(push(uut, 1) != ended) << "its key is free again";
}

TEST(recovery, takes_pushes_at_once_and_all_else_when_a_long_queue_is_known) {
  const scratch dir;
  std::string first;
  {
    server uut{dir, {"dispatcher"}};
    first = push(uut, 1);
    EXPECT_EQ(uut.stop(), 0);
  }
  change_by_hand(dir / "data/journal.sqlite",
                 "with recursive n(i) as (select 1 union all select i+1 from n where i<300000) "
                 "insert into run(id, key, owner, repo, sha, source, priority, payload, state, "
                 "attempts, token, created_ms, updated_ms) select printf('01M876B6J4%016d',i), i, "
                 "'o', 'r', '" +
                     sha + "', 'dir:/tmp', 0, '', 'queued', 0, 0, 9000000000000+i, 1 from n");
  server uut{dir, {"dispatcher"}};
  const auto pushed = push(uut, 2);
  EXPECT_NE(pushed, first);
  EXPECT_EQ(push(uut, 1), first) << "its key is known before its queue is";
  // The last to be read: only who knows them all can say that it is there.
  const json last = json::array({"01M876B6J40000000000300000"});
  EXPECT_EQ(ok(uut.call("cancel", last))["state"], "cancelled");
  EXPECT_EQ(ok(uut.call("status", json::array()))["open"], 300'001);
  EXPECT_EQ(ok(uut.call("cancel", json::array({pushed})))["state"], "cancelled");
}

TEST(journal, is_refused_when_damaged_and_goes_on_once_it_was_salvaged) {
  const scratch dir;
  const auto file = dir / "data/journal.sqlite";
  std::vector<std::string> runs;
  {
    server uut{dir, {"dispatcher"}};
    for (int n = 0; n < 200; ++n) runs.push_back(push(uut, n));
    EXPECT_EQ(uut.stop(), 0);
  }
  const auto pages = leaves_of(file, "run");
  ASSERT_GT(pages.size(), 5u);
  {
    std::fstream out{file, std::ios::in | std::ios::out | std::ios::binary};
    for (std::size_t i = 1; i < pages.size(); i += 3) {
      out.seekp((pages[i] - 1) * 4096);
      out << std::string(4096, '\x5a');
    }
  }
  const auto refused =
      run_ntrace({"dispatcher", "--data", dir / "data", "--dispatcher", "127.0.0.1:0"});
  EXPECT_EQ(refused.exit_code, 2) << refused.err;
  EXPECT_NE(refused.err.find("ntrace journal salvage " + file), std::string::npos) << refused.err;
  EXPECT_EQ(run_ntrace({"journal", "check", file}).exit_code, 5);
  const auto saved = run_ntrace({"journal", "salvage", file, dir / "new", "--json"});
  ASSERT_EQ(saved.exit_code, 0) << saved.out << saved.err;
  const auto told = json::parse(saved.out);
  EXPECT_GT(told["unreadable"], 0);
  EXPECT_EQ(told["runs"].get<std::size_t>() + told["lost_runs"].size(), runs.size());
  for (const auto* side : {"", "-wal", "-shm"}) std::filesystem::remove(file + side);
  std::filesystem::rename(dir / "new", file);
  server uut{dir, {"dispatcher"}};
  const auto status = ok(uut.call("status", json::array()));
  EXPECT_EQ(status["open"], told["runs"]);
}

TEST(journal_program, refuses_pushes_while_its_disk_is_full_and_goes_on_when_there_is_room) {
  if (::geteuid() != 0) GTEST_SKIP() << "a disk of a few megabytes is mounted: run as root";
  const scratch dir;
  const auto to = "127.0.0.1:" + std::to_string(free_port());
  std::filesystem::create_directories(dir / "data");
  subprocess_spec spec;
  // A disk of its own, gone with the process.
  spec.argv = {"unshare",
               "-m",
               "sh",
               "-c",
               "mount -t tmpfs -o size=3m tmpfs \"$1\" && exec \"$0\" dispatcher --data \"$1\" "
               "--dispatcher \"$2\"",
               program_path(),
               dir / "data",
               to};
  const unique_fd log{
      ::open((dir / "log").c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600)};
  const int pid = ok(spawn_guarded(spec, -1, log.get(), log.get()));
  int n = 0;
  const auto push = [&]() -> result<json> {
    auto c = net::rpc_client::connect(ok(parse_host_port(to)));
    if (!c) return fail(c.error());
    return c->call("push", json::array({"o", "r", sha, {{"key", "k" + std::to_string(n++)}}}), 10s);
  };
  eventually(20s, [&] { return push().has_value(); });
  const auto before = n;
  const auto filler = "/proc/" + std::to_string(pid) + "/root" + (dir / "data") + "/filler";
  shell("dd if=/dev/zero of=" + filler + " bs=64k 2>/dev/null || true");
  // What SQLite has in its file already is used up first.
  std::string code;
  eventually(20s, [&] {
    const auto refused = push();
    if (!refused) code = to_string(refused.error().code);
    return !refused;
  });
  EXPECT_EQ(code, "journal_full");
  std::filesystem::remove(filler);
  EXPECT_TRUE(push());
  EXPECT_GT(n, before);
  ::kill(pid, SIGTERM);
  int status = 0;
  eventually(20s, [&] { return ::waitpid(pid, &status, WNOHANG) != 0; });
  EXPECT_TRUE(WIFEXITED(status)) << read_file(dir / "log").value_or("");
}
