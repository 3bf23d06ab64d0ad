#include "actors/dispatcher/stream_data.hpp"

#include <openssl/evp.h>
#include <zstd.h>

#include "config/limits.hpp"

namespace ntrace::dispatcher {
namespace {

constexpr std::size_t plain_bytes_max = 4096;  // Beyond it packing pays.
constexpr int pack_level = 3;                  // zstd's own default

std::string to_base64(const std::string& bytes) {
  std::string out(4 * ((bytes.size() + 2) / 3) + 1, '\0');
  const int n = EVP_EncodeBlock(reinterpret_cast<unsigned char*>(out.data()),
                                reinterpret_cast<const unsigned char*>(bytes.data()),
                                static_cast<int>(bytes.size()));
  out.resize(static_cast<std::size_t>(n));
  return out;
}

result<std::string> from_base64(const std::string& text) {
  std::string out(3 * (text.size() / 4) + 1, '\0');
  const int n = EVP_DecodeBlock(reinterpret_cast<unsigned char*>(out.data()),
                                reinterpret_cast<const unsigned char*>(text.data()),
                                static_cast<int>(text.size()));
  if (text.size() % 4 != 0 || n < 0) return fail(ec::bad_argument, "zstd must be base 64");
  out.resize(static_cast<std::size_t>(n) - (text.ends_with("==")  ? 2u
                                            : text.ends_with("=") ? 1u
                                                                  : 0u));
  return out;
}

bool is_utf8(const std::string& bytes) {
  try {
    // Its strict serialiser is the check that counts: what it takes, a line can carry.
    [[maybe_unused]] const auto line = nlohmann::json(bytes).dump();
    return true;
  } catch (const nlohmann::json::type_error&) {
    return false;
  }
}

}  // namespace

std::string pack_frame(const std::string& data) {
  std::string out(ZSTD_compressBound(data.size()), '\0');
  out.resize(ZSTD_compress(out.data(), out.size(), data.data(), data.size(), pack_level));
  return out;
}

void put_chunk_data(nlohmann::json& args, const std::string& data) {
  if (data.size() <= plain_bytes_max && is_utf8(data)) {
    args["data"] = data;
    return;
  }
  args["zstd"] = to_base64(pack_frame(data));
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
  if (!bytes) return fail(bytes.error());
  std::string out(limits::chunk_bytes_max, '\0');
  const auto n = ZSTD_decompress(out.data(), out.size(), bytes->data(), bytes->size());
  if (ZSTD_isError(n) != 0)
    return fail(ec::bad_argument, std::string{"zstd does not unpack: "} + ZSTD_getErrorName(n));
  out.resize(n);
  return out;
}

void wire_chunk(nlohmann::json& chunk) {
  const auto data = chunk["data"].get<std::string>();
  chunk.erase("data");
  put_chunk_data(chunk, data);
}

}  // namespace ntrace::dispatcher
