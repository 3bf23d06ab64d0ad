// Follows docs/extending.md: a dummy source, zone backend, store, sampler, page and output format,
// each by the interface that the page names and by nothing else.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <caf/actor_system.hpp>
#include <caf/actor_system_config.hpp>
#include <caf/scoped_actor.hpp>

#include "actors/dashboard/http_port.hpp"
#include "actors/journal/group_commit_fsm.hpp"
#include "actors/profiler/formats.hpp"
#include "actors/profiler/sampler_perf.hpp"
#include "actors/runner/bundle.hpp"
#include "actors/runner/source_spec.hpp"
#include "actors/zone/zone_actor.hpp"
#include "net/socket.hpp"
#include "tests/support/ok.hpp"
#include "tests/support/scratch.hpp"

using namespace ntrace;
using namespace std::chrono_literals;
using test::ok;

namespace {

/// Isolates nothing: it answers as a zone does.
class dummy_zone final : public zone::zone {
public:
  const std::string& uuid() const override { return uuid_; }
  result<ntrace::zone::clean_receipt> boot(const ntrace::zone::boot_spec& spec) override {
    ntrace::zone::clean_receipt receipt;
    receipt.zone = uuid_;
    receipt.backend = "dummy";
    receipt.generation = ++generation_;
    receipt.limits = spec.limits;
    receipt.checks = {{"D1", true, ""}};
    is_up_ = true;
    return receipt;
  }
  result<ntrace::zone::exec_end> exec(const ntrace::zone::exec_spec& spec,
                                      const ntrace::zone::output_limits&,
                                      const ntrace::zone::output_sink& sink, const cancellation*,
                                      int) override {
    if (!is_up_) return fail(ec::zone_failed, "zone " + uuid_ + " is down");
    sink("stdout", spec.argv.at(0));
    ntrace::zone::exec_end end;
    end.exit_code = 0;
    return end;
  }
  result<void> unpack(const std::string&, int, milliseconds, const cancellation*) override {
    return {};
  }
  result<ntrace::zone::collected> collect(const std::string&, const std::string&) override {
    return ntrace::zone::collected{};
  }
  unique_fd take_listener() override { return {}; }
  std::string cgroup_path() const override { return ""; }
  int init_pid() const override { return -1; }
  result<void> end() override {
    is_up_ = false;
    return {};
  }
  result<ntrace::zone::zone_facts> facts() override {
    return ntrace::zone::zone_facts{uuid_, generation_, "clean", {"clean"}};
  }
  result<void> snapshot(const std::string&) override { return {}; }
  result<std::vector<std::string>> rollback(const std::string&) override {
    return std::vector<std::string>{};
  }
  result<void> delete_snapshot(const std::string&) override { return {}; }
  result<void> destroy() override { return end(); }
  bool is_up() const { return is_up_; }

private:
  const std::string uuid_ = "00000000-0000-4000-8000-000000000001";
  std::uint64_t generation_ = 0;
  bool is_up_ = false;
};

/// Performs write_batches: counts them, and numbers them as a journal does.
struct dummy_store {
  result<std::vector<journal::committed>> commit(const std::vector<journal::batch>& batches) {
    std::vector<journal::committed> out;
    for (std::size_t i = 0; i < batches.size(); ++i) out.emplace_back().seq = ++seq;
    return out;
  }
  std::uint64_t seq = 0;
};

/// What docs/extending.md asks of a sampler.
template <class Sampler>
concept is_sampler = requires(const profiler::sampler_spec& spec, Sampler& uut) {
  { Sampler::start(spec) } -> std::same_as<result<std::unique_ptr<Sampler>>>;
  { uut.enable() } -> std::same_as<result<void>>;
  { uut.stop() } -> std::same_as<result<profiler::raw_capture>>;
};

/// Sees one stack, as often as it is told.
class dummy_sampler {
public:
  static result<std::unique_ptr<dummy_sampler>> start(const profiler::sampler_spec& spec) {
    return std::unique_ptr<dummy_sampler>{new dummy_sampler{spec.frequency}};
  }
  result<void> enable() {
    is_enabled_ = true;
    return {};
  }
  result<profiler::raw_capture> stop() {
    if (!is_enabled_) return fail(ec::profile_failed, "it was not enabled");
    profiler::raw_capture out;
    out.data = unique_fd{::memfd_create("capture", MFD_CLOEXEC)};
    out.event = "dummy";
    const auto text = "main;work " + std::to_string(count_) + "\n";
    if (::pwrite(out.data.get(), text.data(), text.size(), 0) != ssize_t(text.size()))
      return fail(ec::profile_failed, "its capture cannot be written");
    return out;
  }

private:
  explicit dummy_sampler(std::uint64_t count) : count_{count} {}
  std::uint64_t count_;
  bool is_enabled_ = false;
};

static_assert(is_sampler<profiler::sampler_perf>);
static_assert(is_sampler<dummy_sampler>);

/// A page by its path; the port knows nothing of it.
dashboard::http_response dummy_page(const dashboard::http_request& r) {
  if (r.path != "/hello") return {404, "no such page"};
  return {200, "hello " + r.body};
}

/// An output format.
std::string dummy_format(const profiler::stack_set& stacks) {
  std::string out;
  for (const auto& row : hottest_frames(stacks, 1))
    out = row.name + " " + profiler::percent_text(row.self, stacks.total());
  return out;
}

}  // namespace

TEST(extending, a_zone_backend_serves_its_actor_by_the_interface_alone) {
  caf::actor_system_config config;
  caf::actor_system system{config};
  caf::scoped_actor self{system};
  const auto backend = std::make_shared<dummy_zone>();
  const auto uut = zone::spawn_zone(system, backend);
  const auto unexpected = [](const caf::error& e) { FAIL() << to_string(e); };

  self->request(uut, 10s, zone::boot_request{{}, 7})
      .receive(
          [](const zone::boot_answer& a) {
            EXPECT_TRUE(a.receipt.ok());
            EXPECT_EQ(a.receipt.backend, "dummy");
          },
          unexpected);
  std::string said;
  zone::exec_request exec;
  exec.spec.argv = {"hello"};
  exec.sink = [&](std::string_view, std::string_view data) { said += data; };
  exec.token = 7;
  self->request(uut, 10s, exec)
      .receive([](const zone::exec_end& e) { EXPECT_TRUE(e.ok()); }, unexpected);
  EXPECT_EQ(said, "hello");
  self->request(uut, 10s, zone::end_atom::value).receive([](caf::ok_atom) {}, unexpected);
  EXPECT_FALSE(backend->is_up());
  self->send_exit(uut, caf::exit_reason::user_shutdown);
  self->wait_for(uut);
}

TEST(extending, a_store_performs_what_group_commit_decides) {
  journal::group_commit_fsm fsm;
  dummy_store uut;
  std::vector<std::uint64_t> told;
  const auto perform = [&](auto&& again, const journal::group_effects& todo) -> void {
    for (const auto& one : todo) {
      if (std::holds_alternative<journal::flush_soon>(one)) again(again, fsm.on_flush());
      if (const auto* w = std::get_if<journal::write_batches>(&one))
        again(again, fsm.on_written(uut.commit(w->batches)));
      if (const auto* t = std::get_if<journal::tell_writer>(&one))
        told.push_back(ok(t->outcome).seq);
    }
  };

  perform(perform, fsm.on_write(1, {journal::set_flag{"a", true}}));
  perform(perform, fsm.on_write(2, {journal::set_flag{"b", true}}));

  EXPECT_EQ(told, (std::vector<std::uint64_t>{1, 2}));
  EXPECT_TRUE(fsm.is_idle());
}

TEST(extending, a_samplers_text_becomes_stacks_by_fold) {
  profiler::sampler_spec spec;
  spec.frequency = 41;
  const auto uut = ok(dummy_sampler::start(spec));
  ok(uut->enable());
  const auto capture = ok(uut->stop());
  std::string text(64, '\0');
  text.resize(static_cast<std::size_t>(::pread(capture.data.get(), text.data(), 64, 0)));

  const auto folding = ok(profiler::fold(text, ok(profiler::detect_format(text))));

  EXPECT_EQ(folding.stacks.total(), 41u);
  EXPECT_EQ(dummy_format(folding.stacks), "work 100.0%");
}

TEST(extending, a_page_is_chosen_by_its_path) {
  dashboard::http_port uut{{10s, 1024}, dummy_page};
  const auto port = uut.listen({"127.0.0.1", 0});
  ASSERT_NE(port, 0);
  const auto ask = [&](const std::string& path) {
    const auto peer = ok(net::connect_tcp({"127.0.0.1", port}, 10s));
    const auto head = "POST " + path + " HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n";
    EXPECT_TRUE(net::send_all(peer.get(), head + "me", 10s));
    std::string out;
    char block[512];
    while (net::wait_ready(peer.get(), false, 10s)) {
      const auto n = ::recv(peer.get(), block, sizeof block, 0);
      if (n <= 0) break;
      out.append(block, static_cast<std::size_t>(n));
    }
    return out;
  };

  EXPECT_NE(ask("/hello").find("hello me"), std::string::npos);
  EXPECT_NE(ask("/other").find("404"), std::string::npos);
}

TEST(extending, a_source_gives_its_files_to_the_bundle_which_refuses_hostile_ones) {
  const test::scratch dir;
  auto uut = ok(runner::bundle_writer::make(dir.path()));
  const std::string manifest = "{}";
  const auto read = [&](char* to, std::size_t most) -> result<std::size_t> {
    return manifest.copy(to, most);
  };

  ok(uut.add_file(ok(runner::safe_path("top/package.json", 1)), 0644, manifest.size(), read));
  EXPECT_EQ(test::code_of(runner::safe_path("top/../../x", 1)), ec::source_hostile);
  EXPECT_EQ(test::code_of(uut.add_symlink("link", "../x")), ec::source_hostile);

  const auto bundle = ok(uut.finish());
  EXPECT_EQ(bundle.entries, 1u);
  EXPECT_EQ(bundle.package_json, manifest);
}
