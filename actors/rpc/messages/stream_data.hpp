#pragma once
// The data of a chunk on the wire: text as it is, or zstd in base 64 under "zstd". Pure.
#include <nlohmann/json.hpp>

#include "config/result.hpp"

namespace ntrace::rpc {

/// Puts `data` into the arguments of `append`: as "data" when it is short valid UTF-8, else packed.
void put_chunk_data(nlohmann::json& args, const std::string& data);
/// The bytes of such arguments; ec::bad_argument when they are neither, or unpack to more than
/// limits::chunk_bytes_max.
result<std::string> chunk_data(const nlohmann::json& args);
/// Makes a chunk from the journal fit for the wire: its "data" becomes what put_chunk_data() gives.
void wire_chunk(nlohmann::json& chunk);

}  // namespace ntrace::rpc
