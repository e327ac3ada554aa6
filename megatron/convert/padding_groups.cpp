#include "megatron/convert/padding_groups.h"

#include <ATen/ATen.h>

#include "megatron/base/integer_math.h"
#include "megatron/convert/tensor_source.h"

namespace megatron {
namespace {

void set_groups(TransformerConfig& t, int64_t groups) {
  const int64_t heads_per_group = t.num_attention_heads / t.query_groups();
  t.kv_channels = t.head_dim();
  t.num_attention_heads = groups * heads_per_group;
  t.num_query_groups = groups;
}

// Cuts a shard to the stored tensor and sets the rest to zero. False if nothing is left.
bool cut_to(const std::vector<int64_t>& stored, ShardedTensor& shard) {
  const Rectangle wanted{shard.global_offset, shard.data.sizes().vec()};
  const auto kept = intersect(whole_rectangle(stored), wanted);
  at::Tensor data = shard.data.detach();
  if (!kept || kept->shape != wanted.shape) data.zero_();
  if (!kept) return false;
  shard.data = narrow_to(data, wanted.offset, *kept);
  shard.global_shape = stored;
  shard.global_offset = kept->offset;
  return true;
}

}  // namespace

GPTModelConfig with_padding_groups(GPTModelConfig model, int64_t tensor_model_parallel_size) {
  TransformerConfig& t = model.transformer;
  const int64_t groups = t.query_groups(), heads = t.num_attention_heads;
  const int64_t tp = tensor_model_parallel_size;
  if (tp < 1 || groups < 1 || heads % groups != 0) return model;  // refused by validation
  const bool divides = heads % tp == 0 && (groups % tp == 0 || tp % groups == 0);
  const bool norms_heads_apart = !t.qk_layernorm || t.qk_layernorm_scope == QkNormScope::head;
  if (divides || t.mla.multi_latent_attention || !norms_heads_apart) return model;
  set_groups(t, round_up(groups, tp));
  return model;
}

GPTModelConfig without_padding_groups(GPTModelConfig model, const GPTModelConfig& source) {
  TransformerConfig& t = model.transformer;
  const TransformerConfig& before = source.transformer;
  const int64_t groups = before.query_groups();
  const bool padded =
      t.query_groups() > groups && t.head_dim() == before.head_dim() &&
      t.num_attention_heads * groups == before.num_attention_heads * t.query_groups();
  if (!padded) return model;
  set_groups(t, groups);
  t.num_query_groups = before.num_query_groups;
  t.kv_channels = before.kv_channels;
  return model;
}

bool grows_with_groups(std::string_view parameter) {
  return parameter.ends_with("self_attention.linear_qkv.weight") ||
         parameter.ends_with("self_attention.linear_qkv.bias") ||
         parameter.ends_with("self_attention.linear_proj.weight");
}

ShardedStateDict within_stored_groups(const CheckpointReader& checkpoint, ShardedStateDict state) {
  const CheckpointTensors& tensors = checkpoint.index().tensors;
  std::erase_if(state, [&](ShardedTensor& shard) {
    const auto found = tensors.find(shard.key);
    if (found == tensors.end() || !grows_with_groups(shard.key)) return false;
    const std::vector<int64_t>& stored = found->second.shape;
    bool is_smaller = stored.size() == shard.global_shape.size() && stored != shard.global_shape;
    for (size_t i = 0; is_smaller && i < stored.size(); ++i)
      is_smaller = stored[i] <= shard.global_shape[i];
    return is_smaller && !cut_to(stored, shard);
  });
  return state;
}

}  // namespace megatron
