// Flags of Megatron-LM that this version has no counterpart of, so that they are refused for what
// they are and not taken for a slip of the pen.
#pragma once

#include <string_view>

namespace megatron {

// `flag` with its dashes. Ask only of flags that the table of options does not hold.
bool is_megatron_lm_flag(std::string_view flag);

}  // namespace megatron
