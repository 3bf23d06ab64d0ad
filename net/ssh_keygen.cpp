#include "net/ssh_keygen.hpp"

#include <fmt/core.h>
#include <libssh/libssh.h>
#include <string.h>
#include <unistd.h>

#include <memory>

#include "config/file.hpp"
#include "net/ssh_key.hpp"

namespace ntrace::net {
namespace {

struct freed {
  void operator()(::ssh_key key) const { ::ssh_key_free(key); }
  void operator()(char* text) const {
    ::explicit_bzero(text, ::strlen(text));
    ::ssh_string_free_char(text);
  }
};

}  // namespace

result<key_pair> make_ed25519_key() {
  ::ssh_key made = nullptr;
  const bool is_made = ::ssh_pki_generate(SSH_KEYTYPE_ED25519, 0, &made) == SSH_OK;
  const std::unique_ptr<std::remove_pointer_t<::ssh_key>, freed> key{made};
  char* written = nullptr;
  const bool is_written = is_made && ::ssh_pki_export_privkey_base64(key.get(), nullptr, nullptr,
                                                                     nullptr, &written) == SSH_OK;
  const std::unique_ptr<char, freed> text{written};
  if (!is_written) return fail(ec::defect, "no key could be made: libssh gives none");
  // Through our own reader: what it refuses is never written, and lines are as ssh-keygen has them.
  auto read = parse_private_key(text.get(), "of libssh");
  if (!read) return fail(ec::defect, read.error().message);
  return key_pair{std::move(read->text), std::move(read->shown)};
}

result<public_key> write_new_key(const std::string& path, const std::string& comment) {
  for (const auto& name : {path, path + ".pub"})
    if (::access(name.c_str(), F_OK) == 0)
      return fail(ec::bad_key,
                  name + " is there already; remove it if the key is not used any more");
  if (const auto slash = path.rfind('/'); slash != std::string::npos && slash > 0)
    if (auto made = make_folders(path.substr(0, slash)); !made) return fail(made.error());
  const auto pair = make_ed25519_key();
  if (!pair) return fail(pair.error());
  if (auto done = write_file_durably(path, pair->private_text, 0600); !done)
    return fail(done.error());
  if (auto done = write_file_durably(path + ".pub",
                                     fmt::format("{} {}\n", key_text(pair->shown), comment), 0644);
      !done)
    return fail(done.error());
  return pair->shown;
}

}  // namespace ntrace::net
