// Flags of Megatron-LM (training/arguments.py, 2024 to 2026) that are not options here: those that
// ask for what is always so are accepted; the others have a replacement or a reason, so that an
// error about a script lists all of them. docs/from_megatron_lm.md shows this table.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace megatron {

enum class MegatronLmFate {
  no_effect,    // accepted: what it asks for is always so here
  leave_out,    // refused: what it asks for does not exist here
  use_instead,  // another flag replaces it
  absent,       // not supported in this version
};

struct MegatronLmFlag {
  static constexpr int kUpToTheNextFlag = -1;

  std::string_view name;  // without dashes
  int values = 0;         // number of arguments
  MegatronLmFate fate = MegatronLmFate::absent;
  // no_effect, leave_out: reason; use_instead: replacement; absent: feature.
  std::string_view text = "";

  // no_effect only. The values for which the text holds, separated by |; N is any whole number of
  // at least 0. A flag without values accepts true.
  std::string_view accepted = "";
  std::string_view otherwise = "";  // what works in place of other values
  std::string_view opposite = "";   // the flag of an option that asks for the opposite
};

struct MegatronLmTheme {
  std::string_view name;
  std::string_view flags;  // separated by blanks, each with its number of values
};

// `flag` with or without dashes, with - or _. Only for flags that are not in the option table.
std::optional<MegatronLmFlag> find_megatron_lm_flag(std::string_view flag);

// All flags that are known by name.
const std::vector<MegatronLmFlag>& megatron_lm_flags();

// The table as Markdown, one section per fate.
std::string megatron_lm_flags_markdown();

// Parts of the table.
const std::vector<MegatronLmFlag>& effectless_megatron_lm_flags();
const std::vector<MegatronLmFlag>& replaced_megatron_lm_flags();
const std::vector<MegatronLmTheme>& absent_megatron_lm_themes();

}  // namespace megatron
