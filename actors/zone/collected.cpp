#include "actors/zone/collected.hpp"

#include <algorithm>
#include <cstring>

namespace ntrace::zone {
namespace {

constexpr std::uint32_t name_bytes_max = 255;  // Linux: NAME_MAX

}  // namespace

/// `part_` holds a header and its name.
bool collected_reader::on_header() {
  const auto name = part_.substr(sizeof head_);
  part_.clear();
  if (head_.kind == bundle_kind::end) {
    out_.left_out = head_.size;
    out_.cut = head_.mode;
    out_.is_whole = true;
    return true;
  }
  bytes_ += head_.size;
  content_ = &out_.files[name];
  return content_->empty();  // A name that came twice would be one file of two.
}

bool collected_reader::on_bytes(std::string_view data) {
  while (!data.empty() && !is_broken_) {
    if (out_.is_whole) break;  // Nothing follows the end.
    if (content_ != nullptr) {
      const auto n = std::min<std::uint64_t>(data.size(), head_.size - content_->size());
      content_->append(data.substr(0, n));
      data.remove_prefix(n);
      if (content_->size() == head_.size) content_ = nullptr;
      continue;
    }
    const auto wanted =
        part_.size() < sizeof head_ ? sizeof head_ : sizeof head_ + head_.path_bytes;
    const auto n = std::min(data.size(), wanted - part_.size());
    part_.append(data.substr(0, n));
    data.remove_prefix(n);
    if (part_.size() == sizeof head_) {
      std::memcpy(&head_, part_.data(), sizeof head_);
      const bool is_end = head_.kind == bundle_kind::end && head_.path_bytes == 0;
      const bool is_file = head_.kind == bundle_kind::file && head_.path_bytes > 0 &&
                           head_.path_bytes <= name_bytes_max && out_.files.size() < most_.files &&
                           head_.size <= most_.file_bytes && head_.size <= most_.bytes - bytes_;
      is_broken_ = head_.magic != bundle_magic || !(is_end || is_file);
      if (is_end && !is_broken_) return on_header() && data.empty();
    } else if (part_.size() == sizeof head_ + head_.path_bytes) {
      is_broken_ = !on_header();
      if (content_ != nullptr && head_.size == 0) content_ = nullptr;
    }
  }
  return !is_broken_ && data.empty();
}

}  // namespace ntrace::zone
