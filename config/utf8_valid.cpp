// A file of its own: the zones' helper reads UTF-8 too, and each library more delays its boots.
#include <simdjson.h>

#include "config/utf8.hpp"

namespace ntrace {

bool is_utf8(std::string_view bytes) { return simdjson::validate_utf8(bytes.data(), bytes.size()); }

}  // namespace ntrace
