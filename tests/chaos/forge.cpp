#include "tests/chaos/forge.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "config/file.hpp"
#include "net/socket.hpp"

namespace ntrace::chaos {
namespace {

constexpr std::uint16_t port = 8443;

constexpr const char* script = R"js('use strict';
// Archives by their commit: GET /OWNER/REPO/tar.gz/SHA. 503 while the file `closed` is there.
const fs = require('fs');
const https = require('https');
const [folder, port] = process.argv.slice(2);
const read = (name) => fs.readFileSync(folder + '/' + name);
const identity = { cert: read('forge.pem'), key: read('forge.key') };
https.createServer(identity, (request, response) => {
  if (fs.existsSync(folder + '/closed')) return response.writeHead(503).end('not now');
  const asked = /^\/chaos\/[^/]+\/tar\.gz\/([0-9a-f]{40})$/.exec(request.url);
  const file = asked && `${folder}/${asked[1]}.tar.gz`;
  if (!file || !fs.existsSync(file)) return response.writeHead(404).end('no such commit');
  response.end(fs.readFileSync(file));
}).listen(Number(port), '0.0.0.0');
)js";

constexpr const char* spin_then = R"js(
function spin(n) { return n < 2 ? n : spin(n - 1) + spin(n - 2); }
const end = Date.now() + 100;
let x = 0;
while (Date.now() < end) x += spin(15);
console.log(x > 0);
)js";

std::string package_of(const std::string& benchmark) {
  return R"({"name":"chaos","version":"1.0.0","scripts":{"benchmark":")" + benchmark + R"("}})";
}

}  // namespace

forge::forge(const std::string& folder, const std::string& network, const std::string& address)
    : folder_{folder + "/forge"},
      address_{address},
      server_{"forge",
              network,
              {"node", folder_ + "/forge.js", folder_, std::to_string(port)},
              {},
              folder + "/forge.log"} {}

result<std::unique_ptr<forge>> forge::make(const std::string& folder, const std::string& network,
                                           const std::string& address) {
  std::unique_ptr<forge> out{new forge{folder, network, address}};
  if (auto made = make_folders(out->folder_); !made) return fail(made.error());
  if (auto written = out->write_jobs(); !written) return fail(written.error());
  if (auto made = out->make_certificate(folder + "/ca"); !made) return fail(made.error());
  if (auto written = write_file_durably(out->folder_ + "/forge.js", script); !written)
    return fail(written.error());
  return out;
}

std::string forge::host() const { return address_ + ":" + std::to_string(port); }

std::string forge::sha_of(job what) {
  constexpr std::size_t digits = 40;
  return std::string(digits, what == job::passes ? 'a' : what == job::fails ? 'f' : 'c');
}

result<void> forge::write_jobs() const {
  for (const auto what : {job::passes, job::fails, job::waits}) {
    const auto sha = sha_of(what), top = folder_ + "/" + sha;
    if (auto made = make_folders(top); !made) return made;
    const auto package = package_of(what == job::fails ? "exit 3" : "node spin.js");
    const std::string rest = what == job::waits ? "setTimeout(() => {}, 8000);\n" : "";
    if (auto written = write_file_durably(top + "/package.json", package, 0644); !written)
      return written;
    if (auto written = write_file_durably(top + "/spin.js", spin_then + rest, 0644); !written)
      return written;
    if (auto packed = command({"tar", "-czf", top + ".tar.gz", "-C", folder_, sha}); !packed)
      return fail(packed.error());
  }
  return {};
}

result<void> forge::make_certificate(const std::string& authority) const {
  const auto in = [this](const char* name) { return folder_ + "/" + name; };
  if (auto written = write_file_durably(in("forge.ext"), "subjectAltName=IP:" + address_ + "\n");
      !written)
    return written;
  const std::vector<std::vector<std::string>> all{
      {"openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
       "-keyout", in("forge.key"), "-out", in("forge.csr"), "-subj", "/CN=forge"},
      {"openssl", "x509", "-req", "-in", in("forge.csr"), "-CA", authority + ".pem", "-CAkey",
       authority + ".key", "-CAcreateserial", "-extfile", in("forge.ext"), "-out", in("forge.pem"),
       "-days", "3650"}};
  for (const auto& one : all)
    if (auto done = command(one); !done) return fail(done.error());
  return {};
}

bool forge::is_reached(milliseconds deadline) const {
  return net::connect_tcp({address_, port}, deadline).has_value();
}

result<void> forge::take_away(const star_network& network, std::size_t node,
                              random_source& random) {
  switch (random.below(3)) {
    case 0:
      server_.kill();
      return {};
    case 1:
      return network.set_link(node, false);
    default:
      return write_file_durably(closed(), "");
  }
}

result<void> forge::bring_back(const star_network& network, std::size_t node) {
  if (::unlink(closed().c_str()) != 0 && errno != ENOENT)
    return fail(io_error("remove", closed(), errno));
  if (auto up = network.set_link(node, true); !up) return up;
  return server_.pid() > 0 ? result<void>{} : server_.start();
}

}  // namespace ntrace::chaos
