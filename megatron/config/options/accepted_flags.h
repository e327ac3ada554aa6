// Flags of Megatron-LM that are accepted without effect, because what they ask for is always so
// (megatron_lm/megatron_lm_flags_effectless.cpp): whether their values hold, and their list.
#pragma once

#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "megatron/config/megatron_lm/megatron_lm_flags.h"
#include "megatron/config/options/command.h"
#include "megatron/config/options/options.h"

namespace megatron {

// Values by name without dashes; "" for flags without values.
using AcceptedFlags = std::map<std::string, std::string>;

// The subcommands that read the command line of a training run.
bool accepts_effectless_flags(Command command);

// Throws UsageError unless the flag's reason holds for `value`. `subject` names it in messages.
void check_accepted_value(const MegatronLmFlag& flag, std::string_view value,
                          std::string_view subject);

// Refuses flags that contradict the options or the environment of this process. `given` has the
// names of the assigned fields.
void check_accepted_flags(const AcceptedFlags& accepted, const Options& options,
                          const std::set<std::string>& given);

// "--num-workers 2" of each. Those that log to TensorBoard say if the options give no folder for it.
std::vector<std::string> flags_without_effect(const AcceptedFlags& accepted,
                                              const Options& options);

// The line that a run prints at its start; empty for no flags.
std::string flags_without_effect_line(const std::vector<std::string>& flags);

}  // namespace megatron
