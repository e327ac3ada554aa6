// Flags of Megatron-LM (training/arguments.py, 2024 to 2026) that the table of options does not
// hold, with what to do about each: so that a script is answered at once, and no flag is taken for
// a slip of the pen. docs/from_megatron_lm.md is this table as a page.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace megatron {

enum class MegatronLmFate {
  leave_out,    // always so here, or nothing to set
  use_instead,  // another flag says it
  absent,       // not in this version
};

struct MegatronLmFlag {
  static constexpr int kUpToTheNextFlag = -1;

  std::string_view name;  // without dashes
  int values = 0;         // arguments behind it
  MegatronLmFate fate = MegatronLmFate::absent;
  std::string_view text = "";  // leave_out: why; use_instead: what; absent: what it belongs to
};

struct MegatronLmTheme {
  std::string_view name;
  std::string_view flags;  // with blanks between, each with a mark of its values
};

// `flag` with or without dashes, with - or _. Ask only for what the table of options does not hold.
std::optional<MegatronLmFlag> find_megatron_lm_flag(std::string_view flag);

// Every flag that is known by its name.
const std::vector<MegatronLmFlag>& megatron_lm_flags();

// The table as markdown: a section for each fate.
std::string megatron_lm_flags_markdown();

// The parts of the table.
const std::vector<MegatronLmFlag>& replaced_megatron_lm_flags();
const std::vector<MegatronLmTheme>& absent_megatron_lm_themes();

}  // namespace megatron
