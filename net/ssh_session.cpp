#include "net/ssh_session.hpp"

#include <algorithm>
#include <mutex>
#include <utility>

#include "config/log.hpp"

// The steps up to a session that is up. What it carries then is in ssh_channels.cpp.
namespace ntrace::net {
namespace {

ssh_transport& transport_of(void** abstract) { return *static_cast<ssh_transport*>(*abstract); }

ssize_t receive(libssh2_socket_t, void* to, size_t size, int, void** abstract) {
  return transport_of(abstract).give(to, size);
}
ssize_t send(libssh2_socket_t, const void* from, size_t size, int, void** abstract) {
  return transport_of(abstract).take(from, size);
}

constexpr int frees_max = 1000;  // A cut transport never asks twice; this bounds a defect.

/// Only what our library, every OpenSSH since 7 and no known attack have in common: no CBC, and no
/// cipher that CVE-2023-48795 applies to.
constexpr std::pair<int, const char*> methods[] = {
    {LIBSSH2_METHOD_KEX, "curve25519-sha256,curve25519-sha256@libssh.org,ecdh-sha2-nistp256"},
    {LIBSSH2_METHOD_CRYPT_CS, "aes128-ctr,aes256-ctr"},
    {LIBSSH2_METHOD_CRYPT_SC, "aes128-ctr,aes256-ctr"},
    {LIBSSH2_METHOD_MAC_CS, "hmac-sha2-256,hmac-sha2-512"},
    {LIBSSH2_METHOD_MAC_SC, "hmac-sha2-256,hmac-sha2-512"},
    {LIBSSH2_METHOD_COMP_CS, "none"},
    {LIBSSH2_METHOD_COMP_SC, "none"}};

constexpr std::string_view host_key_types =
    "ssh-ed25519,ecdsa-sha2-nistp256,ecdsa-sha2-nistp384,ecdsa-sha2-nistp521";

constexpr std::size_t first_bytes_max = 4096;

}  // namespace

std::string describe_offer(std::string_view packet) {
  // RFC 4253, section 6: length, padding length, then the message; 7.1: type 20, a cookie, lists.
  constexpr std::size_t before_lists = 4 + 1 + 1 + 16;
  if (packet.size() < before_lists || packet[5] != 20) return {};
  ssh_reader in{packet.substr(before_lists)};
  std::string out;
  for (const auto* what : {"key exchange", "host key", "cipher", "", "MAC"}) {
    const auto list = in.string();
    if (!list) return out;
    if (*what == '\0') continue;
    std::string text{list->substr(0, 300)};
    for (auto& c : text)
      if (c < ' ' || c > '~') c = '.';
    out += (out.empty() ? "" : "; ") + std::string{what} + " " + text;
  }
  return out;
}

std::string authorized_line(const public_key& key, const host_port& target,
                            const std::vector<reverse_forward>& reverse) {
  auto out = "restrict,port-forwarding,permitopen=\"" + target.text() + "\"";
  for (const auto& r : reverse) out += ",permitlisten=\"" + r.listen.text() + "\"";
  return out + " " + key_text(key);
}

void ssh_session::freer::operator()(LIBSSH2_SESSION* s) const {
  for (int i = 0; i < frees_max && ::libssh2_session_free(s) == LIBSSH2_ERROR_EAGAIN; ++i) {
  }
}

ssh_session::ssh_session(unique_fd socket, ssh_session_options options, time_point now)
    : options_{std::move(options)},
      dial_{options_.deadlines, now},
      transport_{std::move(socket)},
      listeners_(options_.reverse.size()),
      scratch_(64u << 10) {
  static std::once_flag once;
  std::call_once(once, [] { ::libssh2_init(0); });
  raw_.reset(::libssh2_session_init_ex(nullptr, nullptr, nullptr, &transport_));
  auto* s = raw_.get();
  if (!s) return;  // Out of memory: the first pump() says so.
  ::libssh2_session_set_blocking(s, 0);
  ::libssh2_session_callback_set(s, LIBSSH2_CALLBACK_RECV, reinterpret_cast<void*>(&receive));
  ::libssh2_session_callback_set(s, LIBSSH2_CALLBACK_SEND, reinterpret_cast<void*>(&send));
  for (const auto& [what, names] : methods) ::libssh2_session_method_pref(s, what, names);
  std::string types;
  for (const auto& t : options_.pinned.types_of(options_.to.at))
    types += (types.empty() ? "" : ",") + t;
  ::libssh2_session_method_pref(
      s, LIBSSH2_METHOD_HOSTKEY,
      types.empty() ? std::string{host_key_types}.c_str() : types.c_str());
}

ssh_session::~ssh_session() { transport_.cut(); }

std::optional<time_point> ssh_session::deadline() const {
  auto out = dial_.until();
  if (slot_) out = out ? std::min(*out, slot_->until) : slot_->until;
  for (const auto& l : listeners_)
    if (stage() == ssh_stage::up && !l.raw && l.refusals > 0)
      out = out ? std::min(*out, l.retry_at) : l.retry_at;
  return out;
}

void ssh_session::end(error why) {
  dial_.on_ended();
  events_.push_back(ssh_ended{std::move(why)});
}

std::vector<ssh_event> ssh_session::pump(time_point now, bool is_readable) {
  events_.clear();
  if (stage() == ssh_stage::ended) return {};
  transport_.flush();
  std::optional<error> problem;
  if (!raw_) problem = error{ec::defect, "libssh2 makes no session: out of memory", {}};
  if (const auto bytes = is_readable ? transport_.receive() : std::string_view{};
      !problem && !bytes.empty()) {
    has_unread_ = true;
    events_.push_back(ssh_inbound{});
    if (stage() == ssh_stage::banner) {
      const auto whole = dial_.on_bytes(now, bytes);
      if (!whole)
        problem = whole.error();
      else if (*whole)
        events_.push_back(ssh_banner{});
    }
    if (stage() == ssh_stage::key_exchange && first_bytes_.size() < first_bytes_max)
      first_bytes_ += bytes.substr(0, first_bytes_max);
  }
  if (!problem && stage() != ssh_stage::up) problem = step_dial(now);
  if (!problem && stage() == ssh_stage::up) problem = serve(now);
  transport_.flush();
  if (is_full_ && transport_.can_take()) has_leftover_ = true;
  if (!problem && transport_.has_ended())
    problem = error{ec::connection_lost, transport_.why(), {}};
  if (!problem) problem = dial_.on_tick(now);
  if (problem && stage() == ssh_stage::banner && !dial_.last_line().empty())
    problem->message += "; before that it said \"" + dial_.last_line() + "\"";
  if (problem) end(std::move(*problem));
  return std::exchange(events_, {});
}

/// What libssh2's code means for a session: docs/tunnel.md, "Codes of libssh2".
error ssh_session::failure(int code) const {
  char* text = nullptr;
  ::libssh2_session_last_error(raw_.get(), &text, nullptr, 0);
  const std::string said = text ? printable(text) : "";
  if (transport_.has_ended()) return {ec::connection_lost, transport_.why(), {}};
  switch (code) {
    case LIBSSH2_ERROR_SOCKET_DISCONNECT:
    case LIBSSH2_ERROR_SOCKET_SEND:
    case LIBSSH2_ERROR_SOCKET_RECV:
    case LIBSSH2_ERROR_BANNER_SEND:
    case LIBSSH2_ERROR_BANNER_RECV:
      return {ec::connection_lost, "the server ended the session: " + said, {}};
    case LIBSSH2_ERROR_KEX_FAILURE:
    case LIBSSH2_ERROR_KEY_EXCHANGE_FAILURE:
    case LIBSSH2_ERROR_METHOD_NOT_SUPPORTED: {
      // Behind the banner's line stands the server's first packet.
      const auto packet = first_bytes_.find('\n');
      const auto offer = describe_offer(
          packet == std::string::npos ? "" : std::string_view{first_bytes_}.substr(packet + 1));
      return {ec::bad_config,
              "no method in common with the server, or its key exchange is broken (" + said +
                  "). We offer curve25519-sha256, ecdh-sha2-nistp256; ssh-ed25519, ecdsa; "
                  "aes128-ctr, aes256-ctr; hmac-sha2-256, hmac-sha2-512. The server offers " +
                  (offer.empty() ? "nothing that can be read" : offer),
              {}};
    }
    case LIBSSH2_ERROR_HOSTKEY_INIT:
      return {ec::bad_config, "the server's host key cannot be read: " + said, {}};
    case LIBSSH2_ERROR_FILE:
    case LIBSSH2_ERROR_KEYFILE_AUTH_FAILED:
      return {ec::bad_key, "the key cannot be used (" + said + "); is its passphrase right?", {}};
    case LIBSSH2_ERROR_METHOD_NONE:
    case LIBSSH2_ERROR_AUTHENTICATION_FAILED:
    case LIBSSH2_ERROR_PUBLICKEY_UNVERIFIED:
      return {ec::key_refused,
              options_.to.text() + " does not accept our key; its authorized_keys must have: " +
                  authorized_line(options_.key.shown, options_.target, options_.reverse),
              {}};
    default:
      return {ec::ssh_failed, "libssh2 error " + std::to_string(code) + ": " + said, {}};
  }
}

std::optional<error> ssh_session::check_host_key() {
  std::size_t size = 0;
  int type = 0;
  const char* bytes = ::libssh2_session_hostkey(raw_.get(), &size, &type);
  const auto shown = bytes ? parse_key_blob({bytes, size}) : std::nullopt;
  if (!shown) return error{ec::ssh_failed, "the server shows no host key that can be read", {}};
  const auto& at = options_.to.at;
  const auto found = options_.pinned.check(at, *shown);
  const auto file = options_.known_hosts_file;
  switch (found.verdict) {
    case host_key_verdict::match:
      return {};
    case host_key_verdict::revoked:
      return error{ec::host_key_changed,
                   at.text() + " shows the key " + fingerprint(*shown) + ", which " + file + ":" +
                       std::to_string(found.line) + " revokes",
                   {}};
    case host_key_verdict::changed:
      return error{ec::host_key_changed,
                   at.text() + " shows the key " + fingerprint(*shown) + " (" + shown->type +
                       "), but " + file + ":" + std::to_string(found.line) + " pins " +
                       fingerprint(found.pinned) + " (" + found.pinned.type +
                       "). Somebody may be in between; if the server did get a new key, remove "
                       "that line, then `ntrace tunnel trust " +
                       options_.to.text() + " --fingerprint " + fingerprint(*shown) + "`",
                   {}};
    case host_key_verdict::unknown:
      break;
  }
  if (!options_.accept_first)
    return error{ec::host_key_unknown,
                 at.text() + " shows the key " + fingerprint(*shown) + " (" + shown->type +
                     "), which " + file +
                     " does not pin; compare it with the server's, then "
                     "`ntrace tunnel trust " +
                     options_.to.text() + " --fingerprint " + fingerprint(*shown) + "`",
                 {{"fingerprint", fingerprint(*shown)}, {"key", key_text(*shown)}}};
  if (auto done = trust_host_key(file, at, *shown); !done) return done.error();
  log::warn("tunnel.host_key_pinned",
            {{"server", at.text()}, {"key", fingerprint(*shown)}, {"file", file}});
  return {};
}

std::optional<error> ssh_session::step_dial(time_point now) {
  if (stage() == ssh_stage::banner || stage() == ssh_stage::key_exchange) {
    // Its banner goes out with the first call.
    const int code = ::libssh2_session_handshake(raw_.get(), transport_.fd());
    if (code == LIBSSH2_ERROR_EAGAIN) return {};
    if (code != 0) return failure(code);
    dial_.on_keys_exchanged(now);
    first_bytes_.clear();
    if (auto refused = check_host_key()) return refused;
  }
  return stage() == ssh_stage::authenticating ? authenticate(now) : std::nullopt;
}

std::optional<error> ssh_session::authenticate(time_point) {
  auto* s = raw_.get();
  const auto& user = options_.to.user;
  const auto user_size = static_cast<unsigned>(user.size());
  if (!has_asked_methods_) {
    if (!::libssh2_userauth_list(s, user.c_str(), user_size)) {
      if (::libssh2_userauth_authenticated(s))
        return error{
            ec::key_refused,
            options_.to.text() + " lets everybody in without a key; such a server is not used",
            {}};
      const int code = ::libssh2_session_last_errno(s);
      if (code == LIBSSH2_ERROR_EAGAIN) return {};
      return failure(code);
    }
    has_asked_methods_ = true;
  }
  const auto& key = options_.key.text;
  const int code = ::libssh2_userauth_publickey_frommemory(
      s, user.c_str(), user.size(), nullptr, 0, key.data(), key.size(),
      options_.passphrase.empty() ? nullptr : options_.passphrase.c_str());
  if (code == LIBSSH2_ERROR_EAGAIN) return {};
  if (code != 0) return failure(code);
  dial_.on_authenticated();
  const auto method = [s](int what) {
    const char* name = ::libssh2_session_methods(s, what);
    return std::string{name ? name : ""};
  };
  events_.push_back(ssh_authenticated{dial_.server(), method(LIBSSH2_METHOD_KEX),
                                      method(LIBSSH2_METHOD_CRYPT_CS)});
  return {};
}

void ssh_session::disconnect() {
  if (stage() == ssh_stage::up) {
    ::libssh2_session_disconnect(raw_.get(), "the tunnel is closed");
    transport_.flush();
  }
  dial_.on_ended();
}

}  // namespace ntrace::net
