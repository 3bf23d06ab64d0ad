#pragma once
// What `ntrace top` shows: one screen of text, from what a dispatcher says of itself.
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "config/clock.hpp"

namespace ntrace::tools {

/// The answers of a dispatcher to `status`, `runs` and `tree` at one moment.
struct top_sample {
  time_point at{};
  std::int64_t wall_ms = 0;
  std::string address;
  nlohmann::json status, runs, tree;
};

enum class top_style { plain, head, good, bad };
struct top_line {
  std::string text;
  top_style style = top_style::plain;
};

/// What the terminal shows.
enum class top_charset { ascii, utf8 };

/// At most `height` lines of at most `width` columns. Controls and what hides or reorders text are
/// made visible; of other text that the terminal does not show, each byte is a "?". `before`: an
/// earlier sample, for rates; may be null. Of runners, running and latest runs each gets what room
/// there is, and says how many it left out.
std::vector<top_line> top_frame(const top_sample& now, const top_sample* before, std::size_t width,
                                std::size_t height, top_charset shown = top_charset::ascii);

}  // namespace ntrace::tools
