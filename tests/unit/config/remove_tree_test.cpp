#include "config/remove_tree.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "config/file.hpp"
#include "tests/support/ok.hpp"
#include "tests/support/scratch.hpp"

using namespace ntrace;
namespace fs = std::filesystem;
using test::ok;

namespace {

/// No more descriptors than these, as long as it lives.
class few_descriptors {
public:
  explicit few_descriptors(rlim_t n) {
    ::getrlimit(RLIMIT_NOFILE, &before_);
    const rlimit few{n, before_.rlim_max};
    EXPECT_EQ(::setrlimit(RLIMIT_NOFILE, &few), 0);
  }
  ~few_descriptors() { ::setrlimit(RLIMIT_NOFILE, &before_); }
  few_descriptors(const few_descriptors&) = delete;
  few_descriptors& operator=(const few_descriptors&) = delete;

private:
  rlimit before_{};
};

/// Of no rights over others' files, as long as it lives.
class ordinary_user {
public:
  ordinary_user() { EXPECT_EQ(::seteuid(::getuid() == 0 ? 65534 : ::getuid()), 0); }
  ~ordinary_user() { EXPECT_EQ(::seteuid(::getuid()), 0); }
  ordinary_user(const ordinary_user&) = delete;
  ordinary_user& operator=(const ordinary_user&) = delete;
};

void make_deep(const std::string& top, int depth) {
  ok(make_folders(top));
  unique_fd at{::open(top.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  for (int i = 0; i < depth; ++i) {
    ASSERT_EQ(::mkdirat(at.get(), "d", 0700), 0);
    at = unique_fd{::openat(at.get(), "d", O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    const unique_fd file{::openat(at.get(), "file", O_WRONLY | O_CREAT | O_CLOEXEC, 0600)};
    ASSERT_TRUE(file);
  }
}

}  // namespace

TEST(remove_tree, deletes_a_tree_that_is_deeper_than_descriptors_and_paths_go) {
  const test::scratch dir;
  make_deep(dir / "deep", 6000);
  const few_descriptors few{32};
  EXPECT_TRUE(remove_tree(dir / "deep"));
  EXPECT_FALSE(fs::exists(dir / "deep"));
}

TEST(remove_tree, deletes_files_links_and_what_is_not_there) {
  const test::scratch dir;
  std::ofstream{dir / "file"} << "x";
  fs::create_symlink(dir / "file", dir / "link");
  EXPECT_TRUE(remove_tree(dir / "link"));
  EXPECT_TRUE(fs::exists(dir / "file")) << "what a link leads to stays";
  EXPECT_TRUE(remove_tree(dir / "file"));
  EXPECT_TRUE(remove_tree(dir / "file"));
  EXPECT_TRUE(fs::is_empty(dir.path()));
}

TEST(remove_tree, follows_no_link_out_of_the_tree) {
  const test::scratch dir, elsewhere;
  std::ofstream{elsewhere / "file"} << "x";
  ok(make_folders(dir / "top/sub"));
  fs::create_symlink(elsewhere.path(), dir / "top/link");
  fs::create_symlink(elsewhere.path(), dir / "top/sub/link");
  EXPECT_TRUE(remove_tree(dir / "top"));
  EXPECT_TRUE(fs::exists(elsewhere / "file"));
}

TEST(remove_tree, is_not_misled_by_names_of_its_own) {
  const test::scratch dir;
  for (int i = 1; i < 200; ++i) {
    const auto way = dir / ("top/.removed-" + std::to_string(i));
    if (i % 3 == 0) {
      std::ofstream{way} << "x";
    } else {
      ok(make_folders(way + "/full/of/it"));
    }
  }
  EXPECT_TRUE(remove_tree(dir / "top"));
  EXPECT_FALSE(fs::exists(dir / "top"));
}

TEST(remove_tree, makes_way_through_folders_that_forbid_it) {
  const test::scratch dir;
  ASSERT_EQ(::chmod(dir.path().c_str(), 0777), 0);
  const ordinary_user nobody;
  for (const auto* sealed : {"top/a/b", "top/a", "top/c"}) {
    ok(make_folders(dir / sealed));
    std::ofstream{dir / (std::string{sealed} + "/file")} << "x";
  }
  for (const auto* sealed : {"top/a/b", "top/a", "top/c"})
    ASSERT_EQ(::chmod((dir / sealed).c_str(), 0), 0);
  EXPECT_TRUE(remove_tree(dir / "top"));
  EXPECT_FALSE(fs::exists(dir / "top"));
}

TEST(remove_tree, names_what_stays_and_deletes_all_else) {
  if (::geteuid() != 0) GTEST_SKIP() << "mounts need root";
  const test::scratch dir;
  make_deep(dir / "top", 5);
  ok(make_folders(dir / "top/held/inside"));
  ASSERT_EQ(::mount("ntrace-test", (dir / "top/held").c_str(), "tmpfs", 0, nullptr), 0);
  const auto done = remove_tree(dir / "top");
  EXPECT_EQ(::umount2((dir / "top/held").c_str(), MNT_DETACH), 0);
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().code, ec::io);
  EXPECT_FALSE(fs::exists(dir / "top/d"));
  EXPECT_TRUE(fs::exists(dir / "top/held"));
}
