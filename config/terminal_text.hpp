#pragma once
// Text of a peer or a job on a terminal: it may be coloured, and it can do nothing else there.
// Pure.
#include <string>
#include <string_view>

namespace ntrace {

/// Makes a stream of bytes harmless, whatever they are and wherever they are cut. Printable UTF-8,
/// newlines and tabs pass. Whole colour sequences (SGR, ECMA-48) pass, and end with their line. A
/// carriage return is a newline, so that a progress bar hides nothing. All else becomes visible:
/// "\x1b" for a byte, "\u{202e}" for a character.
class terminal_text {
public:
  /// What can be shown so far; a sequence that is not whole waits for its rest.
  std::string add(std::string_view bytes);
  /// What still waits, made visible, and the colours' end. The next add() starts again.
  std::string end();

  /// The colours' end, where another stream goes on.
  std::string stop_colours();

private:
  std::string show(std::string_view bytes, bool is_end);
  void end_line(std::string& out);
  std::string waiting_;
  bool is_coloured_ = false, at_line_start_ = true, after_ascii_ = true;
};

/// The same for a text that is there as a whole and has no colours of its own: a message, a name.
/// Newline and tab stay; every other control is visible.
std::string for_terminal(std::string_view text);

/// The same for a field of a table: newline and tab are visible, too.
std::string one_line(std::string_view text);

}  // namespace ntrace
