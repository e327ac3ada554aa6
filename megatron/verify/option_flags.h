// Sets options from command-line flags in several steps.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "megatron/config/options/options.h"

namespace megatron {

// "--num-layers 4 --swiglu" -> {"--num-layers", "4", "--swiglu"}.
std::vector<std::string> split_flags(const std::string& text);

// Sets the options that the flags name and adds their fields to `given`. Unlike on a command line,
// a later call may set a field again. Throws Error for an unknown flag or an invalid value.
void apply_flags(const std::vector<std::string>& flags, Options& options,
                 std::set<std::string>& given);

}  // namespace megatron
