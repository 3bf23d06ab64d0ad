#include "tests/bench/push_peers.hpp"

#include <arpa/inet.h>
#include <fcntl.h>
#include <pwd.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "config/subprocess.hpp"
#include "tests/bench/push_load.hpp"
#include "tests/support/free_port.hpp"
#include "tests/support/guardian.hpp"

namespace ntrace::bench {
namespace {

namespace fs = std::filesystem;
using test::free_port;

/// About what a push carries: the item that every broker keeps.
std::string item(std::uint64_t n) {
  auto sha = std::to_string(n);
  sha.insert(0, 40 - std::min<std::size_t>(40, sha.size()), '0');
  return "[\"push\",[\"owner\",\"repo\",\"" + sha + "\"]," + std::to_string(n) + "]";
}

class ntrace_speaker : public speaker {
public:
  std::string request(std::uint64_t n) override { return item(n) + "\n"; }
  result<unsigned> answers(std::string& heard) override {
    unsigned out = 0;
    for (std::size_t end; (end = heard.find('\n')) != std::string::npos; ++out) {
      if (!heard.starts_with("[[null,")) return fail(ec::io, heard.substr(0, end));
      heard.erase(0, end + 1);
    }
    return out;
  }
};

/// beanstalkd's protocol.txt, "put".
class beanstalkd_speaker : public speaker {
public:
  std::string request(std::uint64_t n) override {
    const auto body = item(n);
    return "put 0 0 60 " + std::to_string(body.size()) + "\r\n" + body + "\r\n";
  }
  result<unsigned> answers(std::string& heard) override {
    unsigned out = 0;
    for (std::size_t end; (end = heard.find("\r\n")) != std::string::npos; ++out) {
      if (!heard.starts_with("INSERTED ")) return fail(ec::io, heard.substr(0, end));
      heard.erase(0, end + 2);
    }
    return out;
  }
};

std::string big_endian(std::uint64_t value, int bytes) {
  std::string out;
  for (int i = bytes - 1; i >= 0; --i) out += static_cast<char>(value >> (8 * i) & 0xff);
  return out;
}
std::uint64_t read_big_endian(std::string_view from, std::size_t bytes) {
  std::uint64_t out = 0;
  for (std::size_t i = 0; i < bytes; ++i) out = out << 8 | static_cast<unsigned char>(from[i]);
  return out;
}

/// PostgreSQL's frontend/backend protocol 3.0; each insert is a transaction of its own.
class postgres_speaker : public speaker {
public:
  result<void> greet(int fd) override {
    const std::string body =
        big_endian(196608, 4) + std::string("user\0postgres\0database\0postgres\0\0", 33);
    if (!say(fd, big_endian(body.size() + 4, 4) + body)) return fail(ec::io, "cannot greet");
    std::string heard;
    for (;;) {
      auto done = answers(heard);
      if (!done) return fail(done.error());
      if (*done > 0) return {};
      if (!hear(fd, heard)) return fail(ec::io, "postgres hung up: " + heard);
    }
  }
  std::string request(std::uint64_t n) override {
    return query("insert into item(body) values('" + item(n) + "')");
  }
  static std::string query(const std::string& sql) {
    return "Q" + big_endian(sql.size() + 5, 4) + sql + std::string(1, '\0');
  }
  /// A request is answered by several messages, of which ReadyForQuery ('Z') is the last.
  result<unsigned> answers(std::string& heard) override {
    unsigned out = 0;
    while (heard.size() >= 5) {
      const auto length = read_big_endian(std::string_view{heard}.substr(1), 4);
      if (heard.size() < length + 1) break;
      if (heard[0] == 'E') return fail(ec::io, heard.substr(5, length - 4));
      if (heard[0] == 'Z') ++out;
      heard.erase(0, length + 1);
    }
    return out;
  }
};

/// AMQP 0-9-1 as RabbitMQ speaks it: a durable queue, persistent messages, publisher confirms.
class rabbitmq_speaker : public speaker {
public:
  result<void> greet(int fd) override {
    std::string heard;
    const auto next = [&](std::string_view what, const std::string& reply) -> result<void> {
      if (!say(fd, reply)) return fail(ec::io, "cannot say " + std::string{what});
      while (heard.size() < 8 ||
             heard.size() < read_big_endian(std::string_view{heard}.substr(3), 4) + 8)
        if (!hear(fd, heard)) return fail(ec::io, "rabbitmq hung up at " + std::string{what});
      heard.erase(0, read_big_endian(std::string_view{heard}.substr(3), 4) + 8);
      return {};
    };
    const std::string none = big_endian(0, 4);  // an empty table
    const std::string login{"\0guest\0guest", 12};
    const std::pair<const char*, std::string> steps[] = {
        {"header", std::string{"AMQP\0\0\x09\x01", 8}},
        {"start-ok", method(0, 10, 11, none + shortstr("PLAIN") + longstr(login) + shortstr("C"))},
        {"tune-ok, open",
         method(0, 10, 31, big_endian(2047, 2) + big_endian(131072, 4) + big_endian(0, 2)) +
             method(0, 10, 40, shortstr("/") + shortstr("") + std::string(1, '\0'))},
        {"channel.open", method(1, 20, 10, shortstr(""))},
        {"queue.declare", method(1, 50, 10, big_endian(0, 2) + shortstr("pushes") + "\x02" + none)},
        {"confirm.select", method(1, 85, 10, std::string(1, '\0'))}};
    for (const auto& [what, bytes] : steps)
      if (auto done = next(what, bytes); !done) return done;
    return {};
  }
  std::string request(std::uint64_t n) override {
    const auto body = item(n);
    // Properties: delivery-mode (bit 12) is 2, persistent.
    const auto header = big_endian(60, 2) + big_endian(0, 2) + big_endian(body.size(), 8) +
                        big_endian(0x1000, 2) + big_endian(2, 1);
    return method(1, 60, 40,
                  big_endian(0, 2) + shortstr("") + shortstr("pushes") + std::string(1, '\0')) +
           frame(2, 1, header) + frame(3, 1, body);
  }
  result<unsigned> answers(std::string& heard) override {
    unsigned out = 0;
    while (heard.size() >= 8) {
      const auto length = read_big_endian(std::string_view{heard}.substr(3), 4);
      if (heard.size() < length + 8) break;
      const bool is_ack = heard[0] == 1 && length >= 13 &&
                          read_big_endian(std::string_view{heard}.substr(7), 4) == (60u << 16 | 80);
      if (heard[0] == 1 && !is_ack) return fail(ec::io, "rabbitmq did not confirm");
      out += is_ack ? 1 : 0;
      heard.erase(0, length + 8);
    }
    return out;
  }

private:
  static std::string shortstr(const std::string& s) { return big_endian(s.size(), 1) + s; }
  static std::string longstr(const std::string& s) { return big_endian(s.size(), 4) + s; }
  static std::string frame(int type, int channel, const std::string& payload) {
    return big_endian(static_cast<std::uint64_t>(type), 1) +
           big_endian(static_cast<std::uint64_t>(channel), 2) + big_endian(payload.size(), 4) +
           payload + "\xce";
  }
  static std::string method(int channel, int cls, int id, const std::string& args) {
    return frame(1, channel,
                 big_endian(static_cast<std::uint64_t>(cls), 2) +
                     big_endian(static_cast<std::uint64_t>(id), 2) + args);
  }
};

template <class Speaker>
std::unique_ptr<speaker> make() {
  return std::make_unique<Speaker>();
}

bool is_installed(const std::string& path) { return ::access(path.c_str(), X_OK) == 0; }

/// PostgreSQL refuses to run as root: then its folder and processes are its package's user's.
std::vector<std::string> as_postgres(std::vector<std::string> argv) {
  if (::geteuid() != 0) return argv;
  std::vector<std::string> out{"setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"};
  out.insert(out.end(), argv.begin(), argv.end());
  return out;
}

std::string newest_postgres() {
  std::string out;
  std::error_code ignored;  // Not installed is no error.
  for (const auto& one : fs::directory_iterator{"/usr/lib/postgresql", ignored})
    if (is_installed(one.path() / "bin/postgres"))
      out = std::max(out, one.path().string() + "/bin");
  return out;
}

result<broker_spec> postgres(const std::string& dir, const std::string& bin) {
  const auto data = dir + "/postgres";
  fs::create_directories(data);
  if (::geteuid() == 0) {
    const auto* user = ::getpwnam("postgres");
    if (!user || ::chown(data.c_str(), user->pw_uid, user->pw_gid) != 0)
      return fail(ec::io, "the user postgres, whose the server must be, is not there");
  }
  subprocess_spec init;
  init.argv = as_postgres({bin + "/initdb", "-D", data, "-U", "postgres", "-A", "trust"});
  init.cwd = "/";
  auto made = run_subprocess(init);
  if (!made) return fail(made.error());
  if (!made->ok()) return fail(ec::io, "initdb: " + made->err);
  broker_spec out;
  out.name = "postgresql";
  out.note = "one insert a transaction, synchronous_commit and fsync on";
  out.port = free_port();
  out.speak = &make<postgres_speaker>;
  out.prepare = postgres_speaker::query("create table item(id bigserial primary key, body text)");
  out.argv = as_postgres({bin + "/postgres", "-D", data, "-p", std::to_string(out.port), "-h",
                          "127.0.0.1", "-k", "", "-c", "max_connections=100"});
  return out;
}

broker_spec beanstalkd(const std::string& dir) {
  const auto data = dir + "/beanstalkd";
  fs::create_directories(data);
  broker_spec out;
  out.name = "beanstalkd";
  out.note = "-f0: fsync after each write";
  out.port = free_port();
  out.speak = &make<beanstalkd_speaker>;
  out.argv = {"beanstalkd", "-b", data, "-f0", "-l", "127.0.0.1", "-p", std::to_string(out.port)};
  return out;
}

broker_spec rabbitmq(const std::string& dir) {
  const auto data = dir + "/rabbitmq";
  fs::create_directories(data);
  broker_spec out;
  out.name = "rabbitmq";
  out.note = "durable queue, persistent messages, publisher confirms";
  out.port = free_port();
  out.speak = &make<rabbitmq_speaker>;
  out.argv = {"/usr/lib/rabbitmq/bin/rabbitmq-server"};
  // A node alone: neither epmd nor another port than that of its clients.
  out.env = {"HOME=" + data,
             "RABBITMQ_BASE=" + data,
             "RABBITMQ_MNESIA_BASE=" + data,
             "RABBITMQ_LOG_BASE=" + data,
             "RABBITMQ_LOGS=-",
             "RABBITMQ_CONFIG_FILE=" + data + "/none",
             "RABBITMQ_ENABLED_PLUGINS_FILE=" + data + "/plugins",
             "RABBITMQ_PID_FILE=" + data + "/pid",
             "RABBITMQ_NODENAME=ntrace_bench@localhost",
             "RABBITMQ_NODE_IP_ADDRESS=127.0.0.1",
             "RABBITMQ_NODE_PORT=" + std::to_string(out.port),
             "RABBITMQ_DIST_PORT=" + std::to_string(free_port()),
             "ERL_EPMD_PORT=" + std::to_string(free_port())};
  out.helper = {"epmd", "-address", "127.0.0.1", "-port",
                out.env.back().substr(out.env.back().find('=') + 1)};
  return out;
}

broker_spec ours(const std::string& dir) {
  broker_spec out;
  out.name = "ntrace";
  out.note = "the journal: SQLite, WAL, synchronous=full, group commit";
  out.port = free_port();
  out.speak = &make<ntrace_speaker>;
  out.argv = {fs::read_symlink("/proc/self/exe").string(),
              "dispatcher",
              "--data",
              dir + "/ntrace",
              "--dispatcher",
              "127.0.0.1:" + std::to_string(out.port),
              "--log-level",
              "warn"};
  return out;
}

}  // namespace

result<std::vector<broker_spec>> push_brokers(const std::string& dir, bool with_peers,
                                              std::vector<std::string>& missing) {
  std::vector<broker_spec> out{ours(dir)};
  if (!with_peers) return out;
  if (is_installed("/usr/bin/beanstalkd"))
    out.push_back(beanstalkd(dir));
  else
    missing.emplace_back("beanstalkd");
  if (is_installed("/usr/lib/rabbitmq/bin/rabbitmq-server"))
    out.push_back(rabbitmq(dir));
  else
    missing.emplace_back("rabbitmq");
  if (const auto bin = newest_postgres(); !bin.empty()) {
    auto spec = postgres(dir, bin);
    if (!spec) return fail(spec.error());
    out.push_back(std::move(*spec));
  } else {
    missing.emplace_back("postgresql");
  }
  return out;
}

result<std::unique_ptr<started_broker>> started_broker::start(const broker_spec& spec,
                                                              const std::string& log) {
  const unique_fd out_fd{::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600)};
  std::unique_ptr<started_broker> out{new started_broker};
  for (const auto& argv : {spec.helper, spec.argv}) {
    if (argv.empty()) continue;
    subprocess_spec program;
    program.argv = argv;
    program.env = spec.env;
    program.cwd = "/";
    auto pid = test::spawn_guarded(program, -1, out_fd.get(), out_fd.get());
    if (!pid) return fail(pid.error());
    out->pids_.push_back(*pid);
  }
  // RabbitMQ listens before it serves: a greeting that is answered is what counts.
  const auto end = steady_now() + milliseconds{60'000};
  std::string why;
  while (steady_now() < end) {
    auto greeted = greet_once(spec);
    if (greeted) return out;
    why = to_string(greeted.error());
    if (::waitpid(out->pids_.back(), nullptr, WNOHANG) != 0) {
      out->pids_.pop_back();
      return fail(ec::io, spec.name + " ended at once; see " + log);
    }
    wait_a_moment();
  }
  return fail(ec::timed_out, spec.name + " does not serve: " + why + "; see " + log);
}

started_broker::~started_broker() {
  for (auto at = pids_.rbegin(); at != pids_.rend(); ++at) {
    ::kill(-*at, SIGTERM);  // Its process group, which is its own.
    const auto end = steady_now() + milliseconds{10'000};
    while (::waitpid(*at, nullptr, WNOHANG) == 0) {
      if (steady_now() > end) ::kill(-*at, SIGKILL);
      wait_a_moment();
    }
  }
}

}  // namespace ntrace::bench
