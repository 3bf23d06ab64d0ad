#include "tools/man_page.hpp"

#include <fmt/core.h>
#include <algorithm>
#include <array>
#include <cstdio>

#include "config/ascii.hpp"

namespace ntrace::tools {
namespace {

/// A character of UTF-8 by its number. groff reads that in every encoding.
std::string by_number(const char* at, std::size_t bytes) {
  auto point = static_cast<unsigned>(static_cast<unsigned char>(*at) & (0xff >> (bytes + 1)));
  for (std::size_t i = 1; i < bytes; ++i)
    point = point << 6 | (static_cast<unsigned char>(at[i]) & 0x3fu);
  std::array<char, 16> text{};
  std::snprintf(text.data(), text.size(), "\\[u%04X]", point);
  return text.data();
}

/// Text that groff prints as it is: no escapes, no requests, and a "-" that can be copied. It comes
/// from this program's own --help, so it is valid UTF-8.
std::string plain(const std::string& text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (const auto first = static_cast<unsigned char>(c); first >= 0xc0) {
      const std::size_t bytes = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
      if (i + bytes > text.size()) break;
      out += by_number(&text[i], bytes);
      i += bytes - 1;
    } else if (c == '\\')
      out += "\\e";
    else if (c == '-')
      out += "\\-";
    else if ((c == '.' || c == '\'') && (out.empty() || out.back() == '\n'))
      out += std::string{"\\&"} + c;
    else
      out += c;
  }
  return out;
}
std::string bold(const std::string& text) { return "\\fB" + plain(text) + "\\fR"; }
std::string italic(const std::string& text) { return "\\fI" + plain(text) + "\\fR"; }

/// "ntrace journal" → "ntrace-journal", as man(1) looks for it.
std::string joined(const std::string& path) {
  auto out = path;
  std::replace(out.begin(), out.end(), ' ', '-');
  return out;
}

std::string value_of(const argument& a) {
  if (a.choices.empty()) return italic(value_name(a));
  std::string out;
  for (const auto& choice : a.choices) out += (out.empty() ? "" : "|") + bold(choice);
  return out;
}

std::string synopsis(const command& of) {
  auto out = bold(of.path);
  if (!of.options.empty()) out += " [" + italic("OPTIONS") + "]";
  for (const auto& one : of.positionals) {
    const auto name = italic(one.names.front()) + (one.is_repeated ? " ..." : "");
    out += one.is_required ? " " + name : " [" + name + "]";
  }
  if (!of.commands.empty()) out += " " + italic("COMMAND");
  return out + "\n";
}

std::string described(const argument& a) {
  std::string out = ".TP\n";
  std::string names;
  for (const auto& name : a.names) names += (names.empty() ? "" : ", ") + bold(name);
  out += names + (a.value.empty() || a.names.front()[0] != '-' ? "" : " " + value_of(a)) + "\n";
  auto text = plain(a.text);
  if (!a.fallback.empty()) text += (text.empty() ? "" : "; ") + ("default: " + bold(a.fallback));
  if (!a.variable.empty()) text += (text.empty() ? "" : "; ") + ("variable: " + bold(a.variable));
  return out + (text.empty() ? "\\&" : text) + "\n";
}

/// The positionals, then the options under the headings of --help.
std::string arguments(const command& of) {
  std::string out;
  if (!of.positionals.empty()) {
    out += ".SH ARGUMENTS\n";
    for (const auto& one : of.positionals) out += described(one);
  }
  std::string heading;
  for (const auto& one : of.options) {
    if (one.group != heading) {
      heading = one.group;
      out += ".SH " + plain(uppered(heading)) + "\n";
    }
    out += described(one);
  }
  return out;
}

constexpr const char* program_notes = R"(.SH STATES OF A RUN
.TP
\fBqueued\fR
no runner works on it; also while it waits for a retry, or for a host that cannot be reached
(forge, resolver, registry, mirror): \fBruns\fR, \fBshow\fR and \fBwhy\fR then say for which host it
waits, since when, and when it is tried next
.TP
\fBleased\fR, \fBrunning\fR
a runner has it; its zone is up
.TP
\fBdone\fR, \fBfailed\fR, \fBcancelled\fR
it has ended; \fBfailed\fR: its script or its source
.TP
\fBquarantined\fR
it failed too many attempts, or a host that it needs could not be reached for
\fBoutage_patience_ms\fR; \fBrequeue\fR brings it back
.SH EXIT STATUS
.TP
\fB0\fR
done; with \fB\-\-wait\fR the run finished and its script succeeded
.TP
\fB1\fR
the run finished but its script failed; there is a flame graph all the same
.TP
\fB2\fR
wrong usage or configuration; nothing was done
.TP
\fB3\fR
the server could not be reached; whether something happened is in doubt only where the message
says so
.TP
\fB4\fR
refused: not found, no permission, invalid, over a limit
.TP
\fB5\fR
the run could not be carried out: quarantined, cancelled, timed out; or its script succeeded, and
a flame graph that is required was not made
.TP
\fB70\fR
a defect in ntrace itself
.TP
\fB141\fR
the reader of standard output went away before its end
.SH ENVIRONMENT
Each setting of a server is also a variable: \fBtunnel_listen\fR is \fBNTRACE_TUNNEL_LISTEN\fR.
A flag goes before a variable, a variable before the file of \fB\-\-config\fR;
\fBntrace config\fR shows all values and where each comes from.
.TP
\fBNTRACE_DISPATCHER\fR, \fBNTRACE_RUNNER\fR
where commands find the server that they ask
.TP
\fBNO_COLOR\fR
when set, no colours on a terminal
)";

}  // namespace

std::string man_page_file(const command& of) { return joined(of.path) + ".1"; }

std::string man_page(const command& of, const std::string& version) {
  const bool is_program = of.path.find(' ') == std::string::npos;
  std::string out =
      fmt::format(".TH {} 1 \"\" \"{}\"\n", plain(uppered(joined(of.path))), plain(version));
  out += fmt::format(".SH NAME\n{} \\- {}\n", plain(joined(of.path)), plain(of.text));
  out += ".SH SYNOPSIS\n" + synopsis(of);
  if (!of.commands.empty()) {
    out += ".SH COMMANDS\n";
    for (const auto& one : of.commands)
      out += fmt::format(".TP\n{}(1)\n{}\n", bold(joined(one.path)), plain(one.text));
  }
  out += arguments(of);
  if (is_program) return out + program_notes;
  out += ".SH EXIT STATUS\nThose of " + bold("ntrace") + "(1).\n.SH SEE ALSO\n";
  const auto parent = of.path.substr(0, of.path.rfind(' '));
  if (parent != "ntrace") out += bold("ntrace") + "(1), ";
  return out + bold(joined(parent)) + "(1)\n";
}

}  // namespace ntrace::tools
