#pragma once
// JIT symbols of one process: the file /tmp/perf-<pid>.map that a JIT appends to. Written by
// hostile code; every line is checked. docs/profiling.md, "Symbols". Pure.
#include <cstdint>
#include <map>
#include <string>
#include <string_view>

namespace ntrace::profiler {

class perf_map {
public:
  /// Adds the lines `hexstart hexsize name` of `text`, in order: a later entry wins where it
  /// overlaps an earlier one, which keeps the rest of its range.
  void add(std::string_view text);

  struct symbol {
    std::string_view name;
    bool is_ambiguous = false;  ///< Two different names claimed the address at different times.
  };
  /// The symbol that covers `address`; an empty name when none does.
  symbol find(std::uint64_t address) const;

  std::size_t entries() const { return entries_.size(); }
  std::uint64_t skipped_lines() const { return skipped_; }

private:
  struct entry {
    std::uint64_t end = 0;
    std::string name;
    bool is_ambiguous = false;
  };
  void insert(std::uint64_t start, std::uint64_t end, std::string name);

  std::map<std::uint64_t, entry> entries_;  ///< By start; never overlapping.
  std::uint64_t skipped_ = 0;
};

/// Kernel symbols from the text of /proc/kallsyms: code symbols only.
class kernel_symbols {
public:
  void add(std::string_view kallsyms);
  /// "name" or "name [module]" of the symbol at or below the address; empty when there is none.
  std::string find(std::uint64_t address) const;
  bool is_empty() const { return names_.empty(); }

private:
  std::map<std::uint64_t, std::string> names_;
};

}  // namespace ntrace::profiler
