#include "actors/rpc/messages/stream_data.hpp"

#include "config/base64.hpp"
#include "config/limits.hpp"
#include "config/utf8.hpp"
#include "config/zstd.hpp"

namespace ntrace::rpc {
namespace {

constexpr std::size_t plain_bytes_max = 4096;  // Beyond it packing pays.

}  // namespace

void put_chunk_data(nlohmann::json& args, const std::string& data) {
  if (data.size() <= plain_bytes_max && is_utf8(data)) {
    args["data"] = data;
    return;
  }
  args["zstd"] = to_base64(zstd_packed(data));
}

result<std::string> chunk_data(const nlohmann::json& args) {
  if (const auto plain = args.find("data"); plain != args.end()) {
    if (!plain->is_string() ||
        plain->get_ref<const std::string&>().size() > limits::chunk_bytes_max)
      return fail(ec::bad_argument, "data must be a text of at most " +
                                        std::to_string(limits::chunk_bytes_max) + " bytes");
    return plain->get<std::string>();
  }
  const auto packed = args.find("zstd");
  if (packed == args.end() || !packed->is_string())
    return fail(ec::bad_argument, "a chunk needs data or zstd");
  const auto bytes = from_base64(packed->get_ref<const std::string&>());
  if (!bytes) return fail(ec::bad_argument, "zstd must be base 64");
  auto out = zstd_unpacked(*bytes, limits::chunk_bytes_max);
  if (!out) return fail(ec::bad_argument, "zstd does not unpack: " + out.error().message);
  return out;
}

void wire_chunk(nlohmann::json& chunk) {
  const auto data = chunk["data"].get<std::string>();
  chunk.erase("data");
  put_chunk_data(chunk, data);
}

}  // namespace ntrace::rpc
