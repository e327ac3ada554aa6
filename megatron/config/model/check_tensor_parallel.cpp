// Checks of tensor and sequence parallelism, and of their overlap options (Megatron's rules).
#include <algorithm>
#include <string>
#include <vector>

#include <fmt/ranges.h>

#include "megatron/base/integer_math.h"
#include "megatron/base/problems.h"
#include "megatron/config/model/model_checks.h"

namespace megatron {
namespace {

// Output features of linear_qkv, which a rank with fewer query groups than ranks gathers: they may
// not divide although heads do.
int64_t qkv_size(const TransformerConfig& t) {
  return (t.num_attention_heads + 2 * t.query_groups()) * t.head_dim();
}

// Whether every dimension shards evenly over `tp` tensor-parallel ranks.
bool is_tensor_parallel_size(const GPTModelConfig& config, int64_t tp) {
  const auto& t = config.transformer;
  const int64_t groups = t.query_groups();
  return t.num_attention_heads % tp == 0 && t.ffn_size() % tp == 0 &&
         (config.should_pad_vocab || !config.vocab_size || *config.vocab_size % tp == 0) &&
         (groups % tp == 0 || tp % groups == 0) &&
         (t.mla.multi_latent_attention || qkv_size(t) % tp == 0) &&
         (t.mtp.mtp_num_layers == 0 || t.hidden_size % tp == 0) &&
         (!t.sequence_parallel || (tp > 1 && config.seq_length % tp == 0));
}

// "a tensor parallel size of 2 or 4": the nearest valid sizes; empty if there is none.
std::string valid_tensor_parallel_sizes(const GPTModelConfig& config) {
  const int64_t tp = config.transformer.tensor_model_parallel_size;
  std::vector<std::string> sizes;
  const int64_t most = config.transformer.num_attention_heads;
  for (int64_t size = std::min(tp - 1, most); size >= 1 && sizes.empty(); --size) {
    if (is_tensor_parallel_size(config, size)) sizes.push_back(std::to_string(size));
  }
  for (int64_t size = tp + 1; size <= most; ++size) {
    if (!is_tensor_parallel_size(config, size)) continue;
    sizes.push_back(std::to_string(size));
    break;
  }
  return sizes.empty() ? "" : fmt::format("a tensor parallel size of {}", fmt::join(sizes, " or "));
}

// "4 or 12 groups": the nearest valid numbers.
std::string valid_query_groups(const TransformerConfig& t) {
  const int64_t heads = t.num_attention_heads, tp = t.tensor_model_parallel_size;
  const auto works = [&](int64_t groups) {
    return heads % groups == 0 && (groups % tp == 0 || tp % groups == 0);
  };
  int64_t below = std::min(t.query_groups(), heads), above = t.query_groups();
  while (!works(below)) --below;  // 1 always works
  while (above <= heads && !works(above)) ++above;
  return above > heads ? fmt::format("{} groups", below)
                       : fmt::format("{} or {} groups", below, above);
}

// The nearest sequence lengths that shard evenly over tensor- and context-parallel ranks.
std::string valid_sequence_lengths(const GPTModelConfig& config) {
  const auto& t = config.transformer;
  const int64_t context = t.context_parallel_size > 1 ? 2 * t.context_parallel_size : 1;
  const int64_t shards = t.tensor_model_parallel_size * context;
  const bool bounded = config.position_embedding_type == PositionEmbeddingType::learned_absolute &&
                       config.max_position_embeddings;
  const int64_t above = round_up(config.seq_length, shards);
  const int64_t below = config.seq_length / shards * shards;
  if (bounded && above > *config.max_position_embeddings && below > 0) return std::to_string(below);
  return nearest_multiples(shards, config.seq_length);
}

}  // namespace

void check_tensor_parallel(const GPTModelConfig& config, Problems& problems) {
  const auto& t = config.transformer;
  const int64_t tp = t.tensor_model_parallel_size;
  const std::string sizes = valid_tensor_parallel_sizes(config);
  const auto expect_divisible = [&](const char* what, int64_t value, const std::string& others) {
    const std::string advice =
        others.empty() || sizes.empty() ? others + sizes : fmt::format("{}, or {},", others, sizes);
    problems.expect(
        value % tp == 0, "Expected {} divisible by tensor_model_parallel_size ({}), but got {}; {}",
        what, tp, value, advice.empty() ? "leave sequence_parallel out" : advice + " would work");
  };
  expect_divisible("num_attention_heads", t.num_attention_heads, "");
  expect_divisible("ffn_hidden_size", t.ffn_size(), nearest_multiples(tp, t.ffn_size()));
  if (!t.mla.multi_latent_attention && t.num_attention_heads % tp == 0 &&
      (t.query_groups() % tp == 0 || tp % t.query_groups() == 0)) {
    expect_divisible("the features of queries, keys and values together", qkv_size(t),
                     sizes.empty() ? "kv_channels divisible by it" : "");
  }
  if (t.mtp.mtp_num_layers > 0) {
    expect_divisible("hidden_size with mtp_num_layers", t.hidden_size,
                     nearest_multiples(tp, t.hidden_size));
  }
  if (!config.should_pad_vocab && config.vocab_size) {
    expect_divisible("vocab_size with should_pad_vocab=false", *config.vocab_size,
                     nearest_multiples(tp, *config.vocab_size));
  }
  if (t.num_query_groups) {
    const int64_t groups = *t.num_query_groups;
    problems.expect(
        groups % tp == 0 || tp % groups == 0,
        "Expected num_query_groups to divide tensor_model_parallel_size, or the reverse, but got "
        "{} and {}; {}{} would work",
        groups, tp, sizes.empty() ? std::string() : sizes + ", or ", valid_query_groups(t));
  }
  if (!t.sequence_parallel) return;
  problems.expect(tp > 1,
                  "Expected tensor_model_parallel_size above 1 with sequence_parallel, but got 1; "
                  "{}leave sequence_parallel out",
                  sizes.empty() ? std::string() : sizes + " works, or ");
  expect_divisible("seq_length with sequence_parallel", config.seq_length,
                   "a sequence length of " + valid_sequence_lengths(config));
}

void check_tensor_parallel_overlap(const TransformerConfig& t, Problems& problems) {
  problems.expect(!t.tp_comm_overlap || t.sequence_parallel,
                  "Expected sequence_parallel with tp_comm_overlap, but got none; leave "
                  "tp_comm_overlap out (the input gradient's all-reduce overlaps anyway)");
  problems.at_least("wgrad_deferral_limit", t.wgrad_deferral_limit, 0);
  if (!t.defer_embedding_wgrad_compute) {
    problems.expect(t.wgrad_deferral_limit == 0,
                    "Expected defer_embedding_wgrad_compute with wgrad_deferral_limit {}, but got "
                    "none; leave the limit out",
                    t.wgrad_deferral_limit);
    return;
  }
  problems.expect(t.pipeline_model_parallel_size > 1,
                  "Expected pipeline_model_parallel_size above 1 with "
                  "defer_embedding_wgrad_compute, but got {}; 2 works, or leave it out",
                  t.pipeline_model_parallel_size);
  problems.expect(
      !t.cross_entropy_loss_fusion || t.cross_entropy_fusion_impl != CrossEntropyFusion::linear,
      "Expected cross_entropy_fusion_impl native with defer_embedding_wgrad_compute, but got "
      "linear, whose output layer computes its gradients in chunks; leave one out");
}

}  // namespace megatron
