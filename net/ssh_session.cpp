#include "net/ssh_session.hpp"

#include <fcntl.h>
#include <fmt/core.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <utility>

#include "config/base64.hpp"
#include "config/log.hpp"
#include "net/ssh_offer.hpp"
#include "net/ssh_session_impl.hpp"

// The steps up to a session that is up. What it carries then is in ssh_channels.cpp.
namespace ntrace::net {
namespace {

/// Only what our library, every OpenSSH since 7 and no known attack have in common: no CBC, and no
/// cipher that CVE-2023-48795 applies to. AES-GCM first: it costs a third of CTR with a MAC.
constexpr const char* key_exchanges =
    "curve25519-sha256,curve25519-sha256@libssh.org,ecdh-sha2-nistp256";
constexpr const char* ciphers =
    "aes128-gcm@openssh.com,aes256-gcm@openssh.com,aes128-ctr,aes256-ctr";
constexpr const char* macs = "hmac-sha2-256,hmac-sha2-512";
constexpr const char* host_key_types =
    "ssh-ed25519,ecdsa-sha2-nistp256,ecdsa-sha2-nistp384,ecdsa-sha2-nistp521";
constexpr int descriptor_max = 0xffff;  // libssh cuts larger ones
constexpr int unsent_in_kernel_max = 128 << 10;
constexpr std::size_t read_bytes = 4096;  // libssh reads no more at once
constexpr int reads_max = 64;             // of one turn, for fairness
constexpr std::size_t first_bytes_max = 4096;

}  // namespace

std::string authorized_line(const public_key& key, const host_port& target,
                            const std::vector<reverse_forward>& reverse) {
  auto out = "restrict,port-forwarding,permitopen=\"" + target.text() + "\"";
  for (const auto& r : reverse) out += ",permitlisten=\"" + r.listen.text() + "\"";
  return out + " " + key_text(key);
}

ssh_session::ssh_session(unique_fd socket, ssh_session_options options, time_point now)
    : impl_{std::make_unique<impl>(std::move(socket), std::move(options), now)} {}
ssh_session::~ssh_session() = default;
int ssh_session::fd() const { return impl_->fd(); }
bool ssh_session::wants_write() const { return impl_->wants_write(); }
bool ssh_session::is_busy() const { return impl_->is_busy(); }
void ssh_session::acknowledge() { impl_->acknowledge(); }
std::optional<time_point> ssh_session::deadline() const { return impl_->deadline(); }
std::vector<ssh_event> ssh_session::pump(time_point now, bool is_ready) {
  return impl_->pump(now, is_ready);
}
void ssh_session::probe() { impl_->probe(); }
bool ssh_session::has_probe_advanced() { return impl_->has_probe_advanced(); }
retransmissions ssh_session::look_at_retransmissions(time_point now) const {
  return impl_->look_at_retransmissions(now);
}
void ssh_session::listen_reverse() { impl_->listen_reverse(); }
void ssh_session::open(channel_id id) { impl_->open(id, {}); }
void ssh_session::exec(channel_id id, std::string line) { impl_->open(id, std::move(line)); }
void ssh_session::write(channel_id id, std::string data) { impl_->write(id, std::move(data)); }
void ssh_session::send_eof(channel_id id) { impl_->send_eof(id); }
void ssh_session::set_reading(channel_id id, bool on) { impl_->set_reading(id, on); }
void ssh_session::close(channel_id id) { impl_->close(id); }
void ssh_session::disconnect() { impl_->disconnect(); }
ssh_stage ssh_session::stage() const { return impl_->stage(); }

ssh_session::impl::impl(unique_fd socket, ssh_session_options options, time_point now)
    : options_{std::move(options)},
      dial_{options_.deadlines, now},
      socket_{std::move(socket)},
      raw_{::ssh_new()},
      loop_{::ssh_event_new()},
      listeners_(options_.reverse.size()),
      scratch_(64u << 10) {
  if (raw_ && loop_) set_options();
  // What waits in the kernel waits before a probe: a slow line must not look like a dead one.
  const int unsent = unsent_in_kernel_max;
  ::setsockopt(socket_.get(), IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent, sizeof unsent);
}

void ssh_session::impl::set_options() {
  auto* s = raw_.get();
  const int no = 0;
  const auto set = [s](ssh_options_e what, const void* value) {
    ::ssh_options_set(s, what, value);
  };
  for (const auto& t : options_.pinned.types_of(options_.to.at))
    host_keys_ += (host_keys_.empty() ? "" : ",") + t;
  if (host_keys_.empty()) host_keys_ = host_key_types;
  set(SSH_OPTIONS_PROCESS_CONFIG, &no);  // No file of any user is read.
  set(SSH_OPTIONS_SSH_DIR, "/nonexistent");
  set(SSH_OPTIONS_HOST, options_.to.at.host.c_str());
  set(SSH_OPTIONS_USER, options_.to.user.c_str());
  set(SSH_OPTIONS_KEY_EXCHANGE, key_exchanges);
  set(SSH_OPTIONS_CIPHERS_C_S, ciphers);
  set(SSH_OPTIONS_CIPHERS_S_C, ciphers);
  set(SSH_OPTIONS_HMAC_C_S, macs);
  set(SSH_OPTIONS_HMAC_S_C, macs);
  set(SSH_OPTIONS_COMPRESSION, "none");
  set(SSH_OPTIONS_HOSTKEYS, host_keys_.c_str());
  ::ssh_set_blocking(s, 0);
  ::ssh_set_counters(s, &sent_, &packets_);
  ::ssh_set_message_callback(
      s,
      [](ssh_session_struct*, ssh_message m, void* of) noexcept {
        return static_cast<impl*>(of)->on_message(m);
      },
      this);
  unique_fd copy{::fcntl(socket_.get(), F_DUPFD_CLOEXEC, 0)};
  const int fd = copy.get();
  has_descriptor_ = copy && fd <= descriptor_max && ::ssh_options_set(s, SSH_OPTIONS_FD, &fd) == 0;
  if (has_descriptor_) copy.release();
}

std::optional<time_point> ssh_session::impl::deadline() const {
  auto out = dial_.until();
  const auto at_latest = [&](time_point t) { out = out ? std::min(*out, t) : t; };
  for (const auto& [id, c] : channels_)
    if (!c.is_open && c.open_until) at_latest(*c.open_until);
  for (const auto& l : listeners_)
    if (stage() == ssh_stage::up && !l.is_up && l.refusals > 0) at_latest(l.retry_at);
  return out;
}

bool ssh_session::impl::wants_write() const {
  return stage() != ssh_stage::ended && (::ssh_get_status(raw_.get()) & SSH_WRITE_PENDING) != 0;
}

void ssh_session::impl::acknowledge() {
  if (!std::exchange(is_acknowledging_due_, false)) return;
  const int one = 1;
  ::setsockopt(socket_.get(), IPPROTO_TCP, TCP_QUICKACK, &one, sizeof one);
}

std::uint64_t ssh_session::impl::acknowledged_bytes() const {
  int queued = 0;
  ::ioctl(socket_.get(), SIOCOUTQ, &queued);  // tcp(7): unsent or unacknowledged
  return sent_.out_bytes - std::min(sent_.out_bytes, static_cast<std::uint64_t>(queued));
}

void ssh_session::impl::end(error why) {
  dial_.on_ended();
  events_.push_back(ssh_ended{std::move(why)});
}

std::vector<ssh_event> ssh_session::impl::pump(time_point now, bool is_ready) {
  events_.clear();
  if (stage() == ssh_stage::ended) return {};
  has_leftover_ = false;
  std::optional<error> problem;
  if (!has_descriptor_)
    problem = error{ec::defect, "libssh makes no session: no memory or no descriptor left", {}};
  else if (stage() != ssh_stage::up)
    problem = step_dial(now);
  else if (is_ready)
    problem = receive();
  is_heard_ = has_heard() || is_heard_;
  // The first of all, because every other event is one of a server that lives.
  if (is_heard_) events_.insert(events_.begin(), ssh_inbound{});
  if (!problem && stage() == ssh_stage::up) problem = serve(now);
  // Sending reads, too: what came so is looked at in the next turn.
  is_heard_ = has_heard();
  has_leftover_ = has_leftover_ || is_heard_;
  if (!problem) problem = dial_.on_tick(now);
  if (problem && stage() == ssh_stage::banner)
    problem->message += "; " + dial_.what_was_sent(options_.to.at.text());
  if (problem) end(std::move(*problem));
  return std::exchange(events_, {});
}

std::optional<error> ssh_session::impl::receive() {
  for (int i = 0; i < reads_max; ++i) {
    const auto before = sent_.in_bytes;
    if (::ssh_event_dopoll(loop_.get(), 0) == SSH_ERROR || has_ended()) return failure();
    if (sent_.in_bytes - before < read_bytes) return {};
  }
  has_leftover_ = true;
  return {};
}

/// True when bytes came since the last call.
bool ssh_session::impl::has_heard() {
  if (std::exchange(heard_bytes_, sent_.in_bytes) == sent_.in_bytes) return false;
  is_acknowledging_due_ = true;
  return true;
}

bool ssh_session::impl::has_ended() const {
  return (::ssh_get_status(raw_.get()) & (SSH_CLOSED | SSH_CLOSED_ERROR)) != 0;
}

/// What ended the session: docs/tunnel.md, "How a session ends".
error ssh_session::impl::failure() const {
  // First of all: a server that finds nothing in common closes the line, too.
  if (stage() == ssh_stage::key_exchange)
    if (auto found = mismatch_with_server()) return std::move(*found);
  const std::string said = ::ssh_get_error(raw_.get());
  if (const auto* reason = ::ssh_get_disconnect_message(raw_.get()))
    return {ec::connection_lost, "the server ended the session: " + printable(reason), {}};
  // libssh closes its descriptor at every error and then speaks of that; ours tells the truth.
  pollfd line{socket_.get(), POLLRDHUP, 0};
  if (::poll(&line, 1, 0) > 0)
    return {ec::connection_lost,
            said.starts_with("Socket error") && !said.ends_with("disconnected")
                ? said
                : "the server closed the connection",
            {}};
  return {ec::ssh_failed,
          fmt::format(
              "the SSH session broke in the step {}{}{}", to_string(stage()),
              stage() == ssh_stage::key_exchange ? ", most likely by damage on the way: " : ": ",
              said.substr(0, 300)),
          {}};
}

/// Only a whole offer that shares nothing with ours; anything else is damage on the way.
std::optional<error> ssh_session::impl::mismatch_with_server() const {
  // Behind the banner's line stands the server's first packet.
  const auto line = first_bytes_.find('\n');
  if (line == first_bytes_.npos) return {};
  const auto theirs = parse_offer(std::string_view{first_bytes_}.substr(line + 1));
  if (!theirs) return {};
  const auto found = mismatches({key_exchanges, host_keys_, ciphers, macs}, *theirs);
  if (found.empty()) return {};
  const auto is_pinned = !options_.pinned.types_of(options_.to.at).empty();
  error out{ec::no_common_method, "", {}};
  for (const auto& m : found) {
    const auto text = m.sentence(is_pinned);
    out.message += fmt::format("{}{}: {}", out.message.empty() ? "" : "; ", m.what, text);
    out.facts.emplace_back(m.what, text);
  }
  out.message += ". So nothing is in common with " + options_.to.at.text();
  return out;
}

std::optional<error> ssh_session::impl::check_host_key() {
  ssh_key_struct* held = nullptr;
  char* text = nullptr;
  std::optional<public_key> shown;
  if (::ssh_get_server_publickey(raw_.get(), &held) == SSH_OK &&
      ::ssh_pki_export_pubkey_base64(held, &text) == SSH_OK)
    if (const auto blob = from_base64(text)) shown = parse_key_blob(*blob);
  ::ssh_string_free_char(text);
  ::ssh_key_free(held);
  if (!shown) return error{ec::ssh_failed, "the server shows no host key that can be read", {}};
  const auto& at = options_.to.at;
  const auto found = options_.pinned.check(at, *shown);
  const auto file = options_.known_hosts_file;
  switch (found.verdict) {
    case host_key_verdict::match:
      return {};
    case host_key_verdict::revoked:
      return error{ec::host_key_changed,
                   fmt::format("{} shows the key {}, which {}:{} revokes", at.text(),
                               fingerprint(*shown), file, found.line),
                   {}};
    case host_key_verdict::changed:
      return error{ec::host_key_changed,
                   fmt::format("{} shows the key {} ({}), but {}:{} pins {} ({}). Somebody may be "
                               "in between; if the server did get a new key, remove that line, "
                               "then `ntrace tunnel trust {} --fingerprint {}`",
                               at.text(), fingerprint(*shown), shown->type, file, found.line,
                               fingerprint(found.pinned), found.pinned.type, options_.to.text(),
                               fingerprint(*shown)),
                   {}};
    case host_key_verdict::unknown:
      break;
  }
  if (!options_.accept_first)
    return error{ec::host_key_unknown,
                 fmt::format("{} shows the key {} ({}), which {} does not pin; compare it with the "
                             "server's, then `ntrace tunnel trust {} --fingerprint {}`",
                             at.text(), fingerprint(*shown), shown->type, file, options_.to.text(),
                             fingerprint(*shown)),
                 {{"fingerprint", fingerprint(*shown)}, {"key", key_text(*shown)}}};
  if (auto done = trust_host_key(file, at, *shown); !done) return done.error();
  log::warn("tunnel.host_key_pinned",
            {{"server", at.text()}, {"key", fingerprint(*shown)}, {"file", file}});
  return {};
}

/// Reads along until keys are exchanged: what stands before the banner is bounded, servers say
/// there why they close, and what they offer is for an error's sentence.
std::optional<error> ssh_session::impl::read_along(time_point now) {
  std::string bytes(read_bytes, '\0');
  const auto n = ::recv(socket_.get(), bytes.data(), bytes.size(), MSG_PEEK | MSG_DONTWAIT);
  bytes.resize(n > 0 ? static_cast<std::size_t>(n) : 0);
  if (stage() == ssh_stage::banner) {
    const auto whole = dial_.on_bytes(now, bytes);
    if (!whole) return whole.error();
    if (*whole) events_.push_back(ssh_banner{});
  }
  if (stage() == ssh_stage::key_exchange)
    first_bytes_ +=
        bytes.substr(0, first_bytes_max - std::min(first_bytes_max, first_bytes_.size()));
  return {};
}

std::optional<error> ssh_session::impl::step_dial(time_point now) {
  if (stage() == ssh_stage::banner || stage() == ssh_stage::key_exchange) {
    if (auto e = read_along(now)) return e;
    // Our banner goes out with the first call.
    const int code = ::ssh_connect(raw_.get());
    if (code == SSH_ERROR) return failure();
    // libssh makes the descriptor blocking again.
    ::fcntl(socket_.get(), F_SETFL, ::fcntl(socket_.get(), F_GETFL) | O_NONBLOCK);
    if (code == SSH_AGAIN) {
      // More may wait in the kernel than it reads at once.
      int waiting = 0;
      has_leftover_ = ::ioctl(socket_.get(), FIONREAD, &waiting) == 0 && waiting > 0;
      return {};
    }
    if (stage() == ssh_stage::banner)
      return error{ec::ssh_failed, "the server's banner cannot be read", {}};
    dial_.on_keys_exchanged(now);
    first_bytes_.clear();
    ::ssh_event_add_session(loop_.get(), raw_.get());
    if (auto refused = check_host_key()) return refused;
  }
  return stage() == ssh_stage::authenticating ? authenticate() : std::nullopt;
}

std::optional<error> ssh_session::impl::authenticate() {
  auto* s = raw_.get();
  if (!key_) {
    ssh_key_struct* read = nullptr;
    const auto* passphrase = options_.passphrase.empty() ? nullptr : options_.passphrase.c_str();
    if (::ssh_pki_import_privkey_base64(options_.key.text.c_str(), passphrase, nullptr, nullptr,
                                        &read) != SSH_OK)
      return error{ec::bad_key, "the key cannot be used; is its passphrase right?", {}};
    key_.reset(read);
  }
  const auto refused = [this](const std::string& why) {
    return error{ec::key_refused, options_.to.text() + " " + why, {}};
  };
  const auto ours = authorized_line(options_.key.shown, options_.target, options_.reverse);
  if (!is_none_refused_) {
    const int code = ::ssh_userauth_none(s, nullptr);
    if (code == SSH_AUTH_AGAIN) return {};
    if (code == SSH_AUTH_SUCCESS)
      return refused("lets everybody in without a key; such a server is not used");
    if (code == SSH_AUTH_ERROR) return failure();
    is_none_refused_ = true;
  }
  switch (::ssh_userauth_publickey(s, nullptr, key_.get())) {
    case SSH_AUTH_AGAIN:
      return {};
    case SSH_AUTH_SUCCESS:
      break;
    case SSH_AUTH_DENIED:
      return refused("does not accept our key; its authorized_keys must have: " + ours);
    case SSH_AUTH_PARTIAL:
      return refused("wants more than our key to let us in; a key must do");
    default:
      return failure();
  }
  key_.reset();
  dial_.on_authenticated();
  const auto text = [](const char* name) { return std::string{name ? name : ""}; };
  events_.push_back(ssh_authenticated{dial_.server(), text(::ssh_get_kex_algo(s)),
                                      text(::ssh_get_cipher_out(s))});
  return {};
}

void ssh_session::impl::disconnect() {
  if (stage() == ssh_stage::up) {
    ::ssh_session_set_disconnect_message(raw_.get(), "the tunnel is closed");
    // It frees the channels, drops what it could not send, and loses the descriptor.
    const unique_fd copy{::ssh_get_fd(raw_.get())};
    ::ssh_set_fd_towrite(raw_.get());
    ::ssh_disconnect(raw_.get());
    channels_.clear();
    probing_.release();
  }
  dial_.on_ended();
}

}  // namespace ntrace::net
