// The skeleton of a zone's root: what a program expects beside /usr, and nothing of the host's
// configuration but the public lists of certificate authorities, alternatives and libraries.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>

#include "actors/zone/linux/zone_store.hpp"

namespace ntrace::zone {
namespace fs = std::filesystem;
namespace {

result<void> write_plain(const std::string& path, std::string_view content) {
  const unique_fd fd{::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644)};
  if (!fd || ::fchmod(fd.get(), 0644) != 0 || !write_all(fd.get(), content))
    return fail(io_error("write", path, errno));
  return {};
}

constexpr std::pair<std::string_view, std::string_view> files[] = {
    {"/etc/passwd",
     "root:x:0:0:root:/root:/bin/sh\njob:x:1000:1000:job:/home/job:/bin/sh\n"
     "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"},
    {"/etc/group", "root:x:0:\njob:x:1000:\nnogroup:x:65534:\n"},
    {"/etc/hosts", "127.0.0.1 localhost zone\n::1 localhost\n"},
    {"/etc/host.conf", "multi on\n"},  // Else localhost is one address of the two.
    {"/etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files\n"},
    {"/etc/resolv.conf", "# No network but the proxy.\n"},
    {"/etc/hostname", "zone\n"},
};

constexpr std::pair<std::string_view, mode_t> folders[] = {
    {"/etc", 0755},  {"/etc/ssl", 0755}, {"/etc/ssl/certs", 0755}, {"/etc/alternatives", 0755},
    {"/usr", 0755},  {"/proc", 0555},    {"/dev", 0755},           {"/sys", 0555},
    {"/tmp", 01777}, {"/run", 0755},     {"/var", 0755},           {"/var/tmp", 01777},
    {"/root", 0700}, {"/home", 0755},    {"/home/job", 0755},      {"/job", 0755},
};

}  // namespace

result<void> zone_store::build_skeleton(const std::string& layer,
                                        const std::string& ca_file) const {
  ::chmod(layer.c_str(), 0755);
  for (const auto& [name, mode] : folders) {
    const auto path = layer + std::string{name};
    if (::mkdir(path.c_str(), mode) != 0 || ::chmod(path.c_str(), mode) != 0)
      return fail(io_error("mkdir", path, errno));
  }
  for (const auto& [name, content] : files)
    if (auto w = write_plain(layer + std::string{name}, content); !w) return w;
  for (const char* name : {"bin", "sbin", "lib", "lib32", "lib64", "libx32"}) {
    const auto usr = "usr/" + std::string{name};
    if (::access(("/" + usr).c_str(), F_OK) != 0) continue;
    const auto link = layer + "/" + name;
    if (::symlink(usr.c_str(), link.c_str()) != 0) return fail(io_error("link", link, errno));
  }
  std::error_code ignored;
  // Most are of manual pages: nobody reads them here, and each entry is looked at before each run.
  for (const auto& entry : fs::directory_iterator{"/etc/alternatives", ignored})
    if (entry.is_symlink(ignored) && entry.path().extension() != ".gz")
      fs::copy_symlink(entry.path(),
                       layer + "/etc/alternatives/" + entry.path().filename().string(), ignored);
  auto authorities = read_file("/etc/ssl/certs/ca-certificates.crt").value_or("");
  if (!ca_file.empty()) {
    const auto own = read_file(ca_file);
    if (!own) return fail(own.error());
    authorities += "\n" + *own;
  }
  if (auto w = write_plain(layer + "/etc/ssl/certs/ca-certificates.crt", authorities); !w) return w;
  if (const auto cache = read_file("/etc/ld.so.cache"))
    return write_plain(layer + "/etc/ld.so.cache", *cache);
  return {};
}

}  // namespace ntrace::zone
