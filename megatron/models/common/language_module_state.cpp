// LanguageModule: sharded state.
#include <fmt/ranges.h>

#include "megatron/base/error.h"
#include "megatron/checkpoint/parameter_shards.h"
#include "megatron/models/common/language_module.h"

namespace megatron {
namespace {

void append(ShardedStateDict& state, ShardedStateDict&& more) {
  std::move(more.begin(), more.end(), std::back_inserter(state));
}

// Megatron's checkpoints keep an older name for the transformer layer inside an MTP layer, and have
// one for the stack of a layer's experts.
std::string checkpoint_key(std::string name) {
  const auto rename = [&](std::string_view from, std::string_view to) {
    const size_t position = name.find(from);
    if (position != std::string::npos) name.replace(position, from.size(), to);
  };
  rename(".mtp_model_layer.", ".transformer_layer.");
  rename(".mlp.experts.", ".mlp.experts.experts.");
  return name;
}

}  // namespace

int64_t LanguageModule::replica_id(const Parameter& parameter,
                                   const ShardedStateDictMetadata& metadata) const {
  const ProcessGroupPtr& dp_cp = metadata.dp_cp_group ? metadata.dp_cp_group : groups_.dp_cp;
  const ProcessGroupPtr& copies = parameter.expert ? groups_.expt_dp : dp_cp;
  return parameter.is_main_copy() && copies->is_first() ? 0 : 1;
}

ShardedStateDict LanguageModule::sharded_state_dict(
    const std::string& prefix, const std::vector<ShardedOffset>& sharded_offsets,
    const ShardedStateDictMetadata& metadata) const {
  check(sharded_offsets.empty(),
        "Expected no sharded offsets for a language model, but got {}; leave sharded_offsets empty",
        sharded_offsets.size());
  ShardedStateDict state;
  for (const ParameterPtr& parameter : parameters()) {
    append(state,
           parameter_shards(*parameter, parameter->data, prefix + checkpoint_key(parameter->name),
                            replica_id(*parameter, metadata)));
  }
  if (config_.share_embeddings_and_output_weights) {
    tie_embeddings_and_output_weights_state_dict(state, prefix + "output_layer.weight",
                                                 prefix + "embedding.word_embeddings.weight",
                                                 metadata);
  }
  return state;
}

void LanguageModule::tie_embeddings_and_output_weights_state_dict(
    ShardedStateDict& state, const std::string& output_layer_weight_key,
    const std::string& first_stage_word_emb_key, const ShardedStateDictMetadata& metadata) const {
  const bool is_present = contains_key(state, output_layer_weight_key);
  // Without an output layer, or with the embedding on the same stage, there is no copy to tie.
  if (!stage_.post_process || embedding_) {
    check(!is_present,
          "Expected no {} in the state of pipeline stage {}, but found one; it is saved as {}",
          output_layer_weight_key, stage_.rank, first_stage_word_emb_key);
    return;
  }
  check(is_present,
        "Expected {} in the state of the last pipeline stage, but found none; the key must be that "
        "of the output layer's weight",
        output_layer_weight_key);
  std::erase_if(state,
                [&](const ShardedTensor& tensor) { return tensor.key == output_layer_weight_key; });
  const ParameterPtr weight = shared_embedding_or_output_weight();
  append(state, parameter_shards(*weight, weight->data, first_stage_word_emb_key,
                                 replica_id(*weight, metadata)));
}

}  // namespace megatron
