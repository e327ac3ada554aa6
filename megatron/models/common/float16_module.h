// The default mixed-precision wrapper (Megatron's Float16Module).
#pragma once

#include <functional>
#include <memory>

#include "megatron/base/megatron_module.h"
#include "megatron/config/model/transformer_config.h"

namespace megatron {

// Takes a model chunk and returns the chunk to train: the same, changed, or another of the builder's
// type of model (GPTModel or a class derived from it). Megatron's wrapper around the module is not
// possible: schedules, checkpoints and the optimizer use the model itself.
using MixedPrecisionWrapper = std::function<std::shared_ptr<MegatronModule>(
    const TransformerConfig& config, std::shared_ptr<MegatronModule> module)>;

// Converts the chunk's parameters to bf16 or fp16, as the configuration says, except those with
// keep_fp32. Activations follow the parameters. Losses are computed in fp32 by the model itself; the
// logits that a language model's last stage returns are fp32, too.
std::shared_ptr<MegatronModule> Float16Module(const TransformerConfig& config,
                                              std::shared_ptr<MegatronModule> module);

}  // namespace megatron
