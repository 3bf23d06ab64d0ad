// top: the fleet at a glance, again and again.
#define NCURSES_NOMACROS 1  // Otherwise erase, timeout and others are macros.
#include <langinfo.h>
#include <ncurses.h>
#include <unistd.h>

#include <clocale>
#include <iostream>
#include <optional>

#include "config/clock.hpp"
#include "tools/command.hpp"
#include "tools/top_frame.hpp"

namespace ntrace::tools {
namespace {

constexpr milliseconds answer_max{5'000};  // then the frame says that nobody answers
constexpr int runs_max = 50;               // asked for; the frame shows as many as fit
constexpr std::size_t plain_width = 120, plain_height = 40;  // of --once without a terminal

struct top_args {
  server_flags server;
  double seconds = 2;
  bool once = false;
};

result<top_sample> take_sample(const top_args& a) {
  auto client = a.server.connect();
  if (!client) return fail(client.error());
  top_sample out;
  out.at = steady_clock::now();
  out.wall_ms = wall_ms();
  out.address = a.server.at;
  for (const auto& [method, args, into] :
       {std::tuple{"status", json::array(), &out.status},
        {"runs", json::array({json{{"limit", runs_max}}}), &out.runs},
        {"tree", json::array(), &out.tree}}) {
    auto answer = client->call(method, args, answer_max);
    if (!answer) return fail(answer.error());
    *into = std::move(*answer);
  }
  return out;
}

/// From the person's locale.
top_charset charset() {
  std::setlocale(LC_CTYPE, "");
  return std::string_view{::nl_langinfo(CODESET)} == "UTF-8" ? top_charset::utf8
                                                             : top_charset::ascii;
}

int print_once(const top_args& a) {
  const auto sample = take_sample(a);
  if (!sample) return report(sample.error(), a.server.as_json);
  if (a.server.as_json) {
    std::cout
        << json{{"status", sample->status}, {"runs", sample->runs}, {"tree", sample->tree}}.dump()
        << "\n";
    return 0;
  }
  const auto width = terminal_width();
  for (const auto& line :
       top_frame(*sample, nullptr, width == 0 ? plain_width : width, plain_height, charset()))
    std::cout << line.text << "\n";
  return 0;
}

/// The terminal. The destructor restores it.
class screen {
public:
  screen() {
    std::setlocale(LC_CTYPE, "");  // Numbers stay those of C.
    ::initscr();
    ::cbreak();
    ::noecho();
    ::curs_set(0);
    ::keypad(stdscr, TRUE);
    const char* no_color = std::getenv("NO_COLOR");
    if (::has_colors() && !(no_color && *no_color)) {
      ::start_color();
      ::use_default_colors();
      ::init_pair(1, COLOR_GREEN, -1);
      ::init_pair(2, COLOR_RED, -1);
    }
  }
  ~screen() { ::endwin(); }
  screen(const screen&) = delete;
  screen& operator=(const screen&) = delete;

  std::size_t width() const { return static_cast<std::size_t>(std::max(COLS, 1)); }
  std::size_t height() const { return static_cast<std::size_t>(std::max(LINES, 1)); }

  void show(const std::vector<top_line>& lines) const {
    ::erase();
    for (std::size_t i = 0; i < lines.size(); ++i) {
      const auto style = style_of(lines[i].style);
      ::attron(style);
      ::mvaddstr(static_cast<int>(i), 0, lines[i].text.c_str());
      ::attroff(style);
    }
    ::refresh();
  }
  /// A key, or ERR after `wait`.
  int key(milliseconds wait) const {
    ::timeout(static_cast<int>(wait.count()));
    return ::getch();
  }

private:
  static int style_of(top_style s) {
    switch (s) {
      case top_style::head:
        return A_BOLD;
      case top_style::good:
        return COLOR_PAIR(1);
      case top_style::bad:
        return static_cast<int>(static_cast<unsigned>(A_BOLD) |
                                static_cast<unsigned>(COLOR_PAIR(2)));
      case top_style::plain:
        break;
    }
    return A_NORMAL;
  }
};

int top(const top_args& a) {
  if (a.once || a.server.as_json || !::isatty(STDOUT_FILENO)) return print_once(a);
  const auto every = milliseconds{static_cast<std::int64_t>(a.seconds * 1000)};
  const auto shown = charset();
  const screen terminal;
  std::optional<top_sample> before;
  for (auto due = steady_clock::now();;) {
    auto sample = take_sample(a);
    if (sample) {
      terminal.show(top_frame(*sample, before ? &*before : nullptr, terminal.width(),
                              terminal.height() - 1, shown));
      before = std::move(*sample);
    } else {
      terminal.show(
          {{"ntrace top  " + a.server.at, top_style::head},
           {"no answer, trying again: " + one_line(to_string(sample.error())), top_style::bad}});
    }
    due = std::max(due + every, steady_clock::now());
    for (;;) {
      const auto left = std::chrono::ceil<milliseconds>(due - steady_clock::now());
      if (left.count() <= 0) break;
      const int pressed = terminal.key(left);
      if (pressed == 'q' || pressed == 3) return 0;
      if (pressed == KEY_RESIZE || pressed == ' ') break;
    }
  }
}

}  // namespace

void add_top(cli::app app, outcome& out) {
  const auto sub = app.add_subcommand("top", "The fleet at a glance; q ends it");
  auto a = std::make_shared<top_args>();
  a->server.add(sub, "dispatcher");
  sub.add_option("--seconds", a->seconds, "between two looks")
      .type_name("SECONDS")
      .check(cli::range(0.1, 3600.0))
      .capture_default_str();
  sub.add_flag("--once", a->once, "print it once, for scripts");
  sub.callback([&out, a] { out.run = [a] { return top(*a); }; });
}

}  // namespace ntrace::tools
