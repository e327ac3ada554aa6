// The options of a run whose model comes from a file: its architecture in place of flags.
#pragma once

#include <set>
#include <string>

#include "megatron/config/options/options.h"

namespace megatron {

// Sets the options of the model to those of `model`. `given` are the options that the user gave
// (ParsedCommand::given): one that contradicts the model is refused, with its flag and both values;
// with --finetune, context options may differ. Options that are not part of the architecture
// (dropout, padding) keep a given value. Without --seq-length, the sequence length is the default or
// the model's number of positions, whichever is less; with a longer one, the number of rotary
// positions grows to it. `path` names the model in messages.
void adopt_model(Options& options, const GPTModelConfig& model, const std::set<std::string>& given,
                 const std::string& path);

}  // namespace megatron
