// Checks of a model's configuration. The model constructors and the command line call the same
// functions, so both refuse the same values.
//
// Messages name fields: `field` or `field=value`. The command line rewrites them to flags with
// fields_as_flags().
#pragma once

#include "megatron/config/model/gpt_model_config.h"

namespace megatron {

class Problems;

// Adds every unsupported value and every combination that cannot be built. vocab_size may be unset.
void check_model(const GPTModelConfig& config, Problems& problems);

// Throws Error if check_model() finds a problem, or if vocab_size is not set.
void check_model(const GPTModelConfig& config);

// Fields of which this version supports a single value.
void check_supported(const TransformerConfig& config, Problems& problems);
void check_supported(const TransformerConfig& config);  // throws Error

// The part of check_model() about fields that have no effect in combination with the others.
void check_unused_fields(const GPTModelConfig& config, Problems& problems);
// Sets those fields to their defaults: for configurations of Megatron, which ignores them.
void drop_unused_fields(GPTModelConfig& config);

// Parts of check_model(). They expect valid sizes.
void check_activation(const TransformerConfig& config, Problems& problems);
void check_norms_and_residual(const TransformerConfig& config, Problems& problems);
void check_recomputation(const TransformerConfig& config, Problems& problems);
void check_multi_token_prediction(const GPTModelConfig& config, Problems& problems);
void check_mup(const TransformerConfig& config, Problems& problems);
void check_loss(const GPTModelConfig& config, Problems& problems);
void check_attention(const GPTModelConfig& config, Problems& problems);
void check_positions(const GPTModelConfig& config, Problems& problems);
void check_yarn(const char* prefix, const YarnConfig& yarn, Problems& problems);
// {N} or one entry per layer; see TransformerConfig::no_rope_freq.
void check_layer_pattern(const char* field, const std::vector<int64_t>& pattern, int64_t num_layers,
                         Problems& problems);
// FP8: values, and what does not go with it.
void check_low_precision(const GPTModelConfig& config, Problems& problems);
void check_experts(const GPTModelConfig& config, Problems& problems);
void check_tensor_parallel(const GPTModelConfig& config, Problems& problems);
void check_tensor_parallel_overlap(const TransformerConfig& config, Problems& problems);
// The fields that select layer specs or change them: what they ask for, the selected spec must have.
void check_layer_spec(const GPTModelConfig& config, Problems& problems);
void check_fused_layers(const GPTModelConfig& config, Problems& problems);
void check_context_parallel(const GPTModelConfig& config, Problems& problems);
void check_pipeline(const GPTModelConfig& config, Problems& problems);

}  // namespace megatron
