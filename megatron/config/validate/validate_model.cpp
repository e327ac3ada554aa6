// The checks of the model's shape and of how it is shared out over ranks.
#include <algorithm>
#include <string>
#include <vector>

#include <fmt/ranges.h>

#include "megatron/base/integer_math.h"
#include "megatron/base/problems.h"
#include "megatron/config/validate/validate.h"

namespace megatron {
namespace {

void expect_probability(const char* flag, double value, Problems& problems) {
  problems.expect(value >= 0 && value < 1,
                  "Expected {} of at least 0 and below 1, but got {}; 0 turns it off", flag, value);
}

// Whether every size is one that can be computed with.
bool check_sizes(const GPTModelConfig& config, Problems& problems) {
  const auto& t = config.transformer;
  bool sound = true;
  sound &= problems.is_required_size("--num-layers", t.num_layers);
  sound &= problems.is_required_size("--hidden-size", t.hidden_size);
  sound &= problems.is_required_size("--num-attention-heads", t.num_attention_heads);
  sound &= problems.is_size("--seq-length", config.seq_length);
  sound &= config.vocab_size == 0 || problems.is_size("--vocab-size", config.vocab_size);
  sound &= problems.is_size("--make-vocab-size-divisible-by", config.make_vocab_size_divisible_by);
  const auto optional_size = [&](const char* flag, const std::optional<int64_t>& value) {
    sound &= !value || problems.is_size(flag, *value);
  };
  optional_size("--num-query-groups", t.num_query_groups);
  optional_size("--kv-channels", t.kv_channels);
  optional_size("--ffn-hidden-size", t.ffn_hidden_size);
  optional_size("--max-position-embeddings", config.max_position_embeddings);
  return sound;
}

void check_padding(const GPTModelConfig& config, Problems& problems) {
  const bool is_default =
      config.make_vocab_size_divisible_by == GPTModelConfig().make_vocab_size_divisible_by;
  problems.expect(config.should_pad_vocab || is_default,
                  "Expected --make-vocab-size-divisible-by or --no-pad-vocab, but got both; leave "
                  "one out");
}

void check_heads(const TransformerConfig& t, Problems& problems) {
  const int64_t heads = t.num_attention_heads;
  problems.expect(t.mla.multi_latent_attention || t.kv_channels || t.hidden_size % heads == 0,
                  "Expected --hidden-size divisible by --num-attention-heads ({}), but got {}; a "
                  "hidden size of {}, or {} heads, or --kv-channels would work",
                  heads, t.hidden_size, nearest_multiples(heads, t.hidden_size),
                  nearest_divisors(t.hidden_size, heads));
  const int64_t groups = t.query_groups();
  problems.expect(heads % groups == 0,
                  "Expected --num-attention-heads divisible by --num-query-groups ({}), but got "
                  "{}; {} groups would work",
                  groups, heads, nearest_divisors(heads, groups));
}

void check_rotary(const GPTModelConfig& config, Problems& problems) {
  const auto& t = config.transformer;
  const GPTModelConfig defaults;
  const PositionEmbeddingType type = config.position_embedding_type;
  const bool rotary = type == PositionEmbeddingType::rope || type == PositionEmbeddingType::yarn ||
                      type == PositionEmbeddingType::mrope;
  if (!rotary) {
    const auto unused = [&](bool is_default, const char* flag) {
      problems.expect(
          is_default,
          "Expected --position-embedding-type rope, yarn or mrope with {}, but got another; "
          "leave {} out, or take rope",
          flag, flag);
    };
    unused(config.rotary_percent == defaults.rotary_percent, "--rotary-percent");
    unused(config.rotary_base == defaults.rotary_base, "--rotary-base");
    unused(!config.rope_scaling, "--use-rope-scaling");
    unused(config.rope_scaling_factor == defaults.rope_scaling_factor, "--rope-scaling-factor");
    unused(!config.seq_len_interpolation_factor, "--rotary-seq-len-interpolation-factor");
    unused(!t.rotary_interleaved, "--rotary-interleaved");
    unused(t.no_rope_freq.empty(), "--no-rope-freq");
    return;
  }
  problems.expect(config.rotary_base > 0,
                  "Expected --rotary-base above 0, but got {}; 10000 is usual", config.rotary_base);
  problems.expect(config.seq_len_interpolation_factor.value_or(1) >= 1,
                  "Expected --rotary-seq-len-interpolation-factor of at least 1, but got {}; 1 "
                  "changes nothing",
                  config.seq_len_interpolation_factor.value_or(1));
  problems.expect(config.rope_scaling || config.rope_scaling_factor == defaults.rope_scaling_factor,
                  "Expected --use-rope-scaling with --rope-scaling-factor {}, but got none; give "
                  "both or neither",
                  config.rope_scaling_factor);
  problems.expect(config.rope_scaling_factor >= 1,
                  "Expected --rope-scaling-factor of at least 1, but got {}; 8 is Llama 3.1's",
                  config.rope_scaling_factor);
  const bool percent_works = config.rotary_percent > 0 && config.rotary_percent <= 1;
  problems.expect(percent_works,
                  "Expected --rotary-percent above 0 and at most 1, but got {}; 1 rotates all "
                  "features of a head",
                  config.rotary_percent);
  if (!percent_works) return;
  const bool latent = t.mla.multi_latent_attention;
  const int64_t width = latent ? t.mla.qk_pos_emb_head_dim : t.head_dim();
  problems.expect(width % 2 == 0,
                  "Expected an even width of a head for rotary positions, but got {}; {} of {} "
                  "would work",
                  width, latent ? "--qk-pos-emb-head-dim" : "--kv-channels",
                  nearest_multiples(2, width));
  const auto rotated = static_cast<int64_t>(static_cast<double>(width) * config.rotary_percent);
  problems.expect(width % 2 != 0 || (rotated % 2 == 0 && rotated > 0),
                  "Expected --rotary-percent to rotate an even number of a head's {} features, but "
                  "got {}, which rotates {}; {} would work",
                  width, config.rotary_percent, rotated,
                  static_cast<double>((rotated + 1) / 2 * 2 < 2 ? 2 : (rotated + 1) / 2 * 2) /
                      static_cast<double>(width));
}

void check_activation(const TransformerConfig& t, Problems& problems) {
  problems.expect(
      t.gated_linear_unit || t.glu_linear_offset == 0,
      "Expected --gated-linear-unit with --glu-linear-offset {}, but got none; leave one "
      "out",
      t.glu_linear_offset);
  problems.expect(t.gated_linear_unit || !t.activation_func_clamp_value,
                  "Expected --gated-linear-unit with --activation-func-clamp-value, but got none; "
                  "leave one out");
  problems.expect(t.activation_func_clamp_value.value_or(1) > 0,
                  "Expected --activation-func-clamp-value above 0, but got {}; 7 is usual",
                  t.activation_func_clamp_value.value_or(1));
  const bool fusible = t.activation_func == ActivationFunction::gelu ||
                       (t.activation_func == ActivationFunction::silu && t.gated_linear_unit);
  problems.expect(!t.bias_activation_fusion || fusible,
                  "Expected gelu or SwiGLU with --bias-gelu-fusion, but got another activation; "
                  "leave --bias-gelu-fusion out");
}

// Whether everything is shared out whole over that many tensor parallel ranks.
bool is_tensor_parallel_size(const GPTModelConfig& config, int64_t tp) {
  const auto& t = config.transformer;
  const int64_t groups = t.query_groups();
  return t.num_attention_heads % tp == 0 && t.ffn_size() % tp == 0 &&
         (config.should_pad_vocab || config.vocab_size % tp == 0) &&
         (groups % tp == 0 || tp % groups == 0) &&
         (!t.sequence_parallel || (tp > 1 && config.seq_length % tp == 0));
}

// "a tensor parallel size of 2 or 4": those next to the one that does not work; empty where none
// does.
std::string tensor_parallel_sizes_that_work(const GPTModelConfig& config) {
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

// "4 or 12 groups": the numbers next to the one that does not work.
std::string query_groups_that_work(const TransformerConfig& t) {
  const int64_t heads = t.num_attention_heads, tp = t.tensor_model_parallel_size;
  const auto works = [&](int64_t groups) {
    return heads % groups == 0 && (groups % tp == 0 || tp % groups == 0);
  };
  int64_t below = std::min(t.query_groups(), heads), above = t.query_groups();
  while (!works(below)) --below;  // one group always works
  while (above <= heads && !works(above)) ++above;
  return above > heads ? fmt::format("{} groups", below)
                       : fmt::format("{} or {} groups", below, above);
}

// The sequence lengths next to the one given that sequence and context parallelism can share out.
std::string sequence_lengths_that_work(const GPTModelConfig& config) {
  const auto& t = config.transformer;
  const int64_t context = t.context_parallel_size > 1 ? 2 * t.context_parallel_size : 1;
  const int64_t parts = t.tensor_model_parallel_size * context;
  const bool bounded = config.position_embedding_type == PositionEmbeddingType::learned_absolute &&
                       config.max_position_embeddings;
  const int64_t above = round_up(config.seq_length, parts);
  const int64_t below = config.seq_length / parts * parts;
  if (bounded && above > *config.max_position_embeddings && below > 0) return std::to_string(below);
  return nearest_multiples(parts, config.seq_length);
}

// What must be shared out whole over the tensor parallel ranks.
void check_tensor_parallel(const GPTModelConfig& config, Problems& problems) {
  const auto& t = config.transformer;
  const int64_t tp = t.tensor_model_parallel_size;
  const std::string sizes = tensor_parallel_sizes_that_work(config);
  const auto share = [&](const char* what, int64_t value, const std::string& others) {
    const std::string advice =
        others.empty() || sizes.empty() ? others + sizes : fmt::format("{}, or {},", others, sizes);
    problems.expect(value % tp == 0,
                    "Expected {} divisible by --tensor-model-parallel-size ({}), but got {}; {}",
                    what, tp, value,
                    advice.empty() ? "leave --sequence-parallel out" : advice + " would work");
  };
  share("--num-attention-heads", t.num_attention_heads, "");
  share("--ffn-hidden-size", t.ffn_size(), nearest_multiples(tp, t.ffn_size()));
  if (!config.should_pad_vocab)
    share("--vocab-size with --no-pad-vocab", config.vocab_size,
          nearest_multiples(tp, config.vocab_size));
  if (t.num_query_groups) {
    const int64_t groups = *t.num_query_groups;
    problems.expect(
        groups % tp == 0 || tp % groups == 0,
        "Expected --num-query-groups and --tensor-model-parallel-size of which one divides the "
        "other, but got {} and {}; {}{} would work",
        groups, tp, sizes.empty() ? std::string() : sizes + ", or ", query_groups_that_work(t));
  }
  if (!t.sequence_parallel) return;
  problems.expect(tp > 1,
                  "Expected --tensor-model-parallel-size above 1 with --sequence-parallel, but got "
                  "1; {}leave --sequence-parallel out",
                  sizes.empty() ? std::string() : sizes + " works, or ");
  share("--seq-length with --sequence-parallel", config.seq_length,
        "a sequence length of " + sequence_lengths_that_work(config));
}

void check_recomputation(const TransformerConfig& t, Problems& problems) {
  const RecomputeConfig& r = t.recompute;
  const bool full = r.recompute_granularity == RecomputeGranularity::full;
  const bool selective = r.recompute_granularity == RecomputeGranularity::selective;
  problems.expect(full || (!r.recompute_method && !r.recompute_num_layers),
                  "Expected --recompute-granularity full with --recompute-method and "
                  "--recompute-num-layers, but got another; leave them out");
  problems.expect(!full || (r.recompute_method && r.recompute_num_layers),
                  "Expected --recompute-method and --recompute-num-layers with "
                  "--recompute-granularity full, but got not both; uniform and 1 work");
  if (full && r.recompute_num_layers) {
    problems.at_least("--recompute-num-layers", *r.recompute_num_layers, 1);
  }
  problems.expect(selective || r.recompute_modules.empty(),
                  "Expected --recompute-granularity selective with --recompute-modules, but got "
                  "another; leave them out");
  for (const std::string& module : r.recompute_modules) {
    const bool known = module == "core_attn" || module == "layernorm" || module == "mlp" ||
                       module == "mla_up_proj";
    problems.expect(
        known,
        "Expected core_attn, layernorm, mlp or mla_up_proj for --recompute-modules, but "
        "got '{}'",
        module);
    problems.expect(module != "mla_up_proj" || t.mla.multi_latent_attention,
                    "Expected --multi-latent-attention with --recompute-modules mla_up_proj, but "
                    "got none; leave mla_up_proj out");
  }
}

void check_multi_token_prediction(const GPTModelConfig& config, Problems& problems) {
  const TransformerConfig& t = config.transformer;
  problems.at_least("--mtp-num-layers", t.mtp.mtp_num_layers, 0);
  problems.expect(
      t.mtp.mtp_num_layers < config.seq_length,
      "Expected --mtp-num-layers below --seq-length ({}), but got {}; deeper ones have no "
      "token to predict",
      config.seq_length, t.mtp.mtp_num_layers);
  const bool unused =
      t.mtp.mtp_num_layers > 0 || (!t.mtp.mtp_use_repeated_layer && !t.mtp.mtp_detach_heads);
  problems.expect(unused,
                  "Expected --mtp-num-layers of at least 1 with --mtp-use-repeated-layer or "
                  "--mtp-detach-heads, but got 0; 1 works");
  const bool by_layer = t.no_rope_freq.size() > 1 || t.window_attn_skip_freq.size() > 1;
  problems.expect(
      !by_layer || t.mtp.mtp_num_layers <= t.num_layers,
      "Expected --mtp-num-layers of at most --num-layers ({}) with --no-rope-freq or "
      "--window-attn-skip-freq by layer, but got {}; the prediction layers count from 1 "
      "again",
      t.num_layers, t.mtp.mtp_num_layers);
  problems.expect(t.mtp.mtp_loss_scaling_factor >= 0,
                  "Expected --mtp-loss-scaling-factor of at least 0, but got {}; 0.1 is usual",
                  t.mtp.mtp_loss_scaling_factor);
}

void check_mup(const TransformerConfig& t, Problems& problems) {
  const MupConfig& mup = t.mup;
  const MupConfig defaults;
  problems.expect(
      mup.use_mup || (!mup.mup_base_hidden_size && !mup.mup_base_head_dim &&
                      mup.mup_embedding_mult == defaults.mup_embedding_mult &&
                      mup.mup_output_mult == defaults.mup_output_mult &&
                      mup.mup_attn_scale_power == defaults.mup_attn_scale_power),
      "Expected --use-mup with the other --mup-* options, but got none; leave them out");
  if (mup.mup_base_hidden_size)
    problems.is_size("--mup-base-hidden-size", *mup.mup_base_hidden_size);
  problems.expect(mup.mup_base_head_dim.value_or(1) > 0,
                  "Expected --mup-base-head-dim above 0, but got {}; 64 is usual",
                  mup.mup_base_head_dim.value_or(1));
}

void check_loss(const GPTModelConfig& config, Problems& problems) {
  const auto& t = config.transformer;
  problems.expect(
      t.label_smoothing >= 0 && t.label_smoothing < 1,
      "Expected --label-smoothing of at least 0 and below 1, but got {}; 0 turns it off",
      t.label_smoothing);
  problems.expect(t.cross_entropy_fusion_impl != CrossEntropyFusion::te,
                  "Expected --cross-entropy-fusion-impl native or linear, but got te: there is no "
                  "Transformer Engine");
  const bool linear =
      t.cross_entropy_loss_fusion && t.cross_entropy_fusion_impl == CrossEntropyFusion::linear;
  problems.expect(!linear || !config.fp16_lm_cross_entropy,
                  "Expected --fp16-lm-cross-entropy or --cross-entropy-fusion-impl linear, but got "
                  "both: without logits there is nothing to round");
  problems.expect(
      !t.fp32_residual_connection || t.params_dtype != at::kDouble,
      "Expected --fp32-residual-connection with fp32 or bf16, but got fp64; leave it out");
}

void check_positions(const GPTModelConfig& config, Problems& problems) {
  if (config.position_embedding_type != PositionEmbeddingType::learned_absolute) return;
  problems.expect(config.seq_length <= config.max_sequence_length(),
                  "Expected --seq-length of at most --max-position-embeddings ({}), but got {} "
                  "with learned positions; {} would work",
                  config.max_sequence_length(), config.seq_length, config.max_sequence_length());
}

bool check_parallel_sizes(const TransformerConfig& t, Problems& problems) {
  problems.expect(t.expert_model_parallel_size == 1,
                  "Expected --expert-model-parallel-size 1, but got {}; experts are not in this "
                  "version",
                  t.expert_model_parallel_size);
  const bool tensor =
      problems.is_size("--tensor-model-parallel-size", t.tensor_model_parallel_size);
  const bool context = problems.is_size("--context-parallel-size", t.context_parallel_size);
  return problems.is_size("--pipeline-model-parallel-size", t.pipeline_model_parallel_size) &&
         tensor && context;
}

void check_world(const TransformerConfig& t, int world_size, Command command, Problems& problems) {
  const int64_t tensor = t.tensor_model_parallel_size;
  const int64_t stages = t.pipeline_model_parallel_size;
  constexpr int64_t kMost = int64_t{1} << 30;  // three sizes beyond it would not fit 64 bits
  const int64_t context = tensor * stages <= kMost ? t.context_parallel_size : 1;
  const int64_t model = tensor * stages * context;
  const int64_t ranks = std::max<int64_t>(world_size / model, 1) * model;
  problems.expect(world_size >= 1 && world_size % model == 0,
                  "Expected a number of ranks divisible by {} (tensor {} x pipeline {}{}), but got "
                  "{}; {} ranks would work: {} {}, or {} {}",
                  model, tensor, stages,
                  context == 1 ? std::string() : fmt::format(" x context {}", context), world_size,
                  nearest_multiples(model, world_size),
                  command == Command::plan ? "--world-size" : "--nproc", ranks,
                  command == Command::plan ? "--nproc" : "torchrun --nproc-per-node", ranks);
}

}  // namespace

void check_model(const GPTModelConfig& config, int world_size, Command command,
                 Problems& problems) {
  const auto& t = config.transformer;
  const bool sized = check_sizes(config, problems);
  const bool ranked = check_parallel_sizes(t, problems);
  if (sized) {
    check_heads(t, problems);
    check_padding(config, problems);
    check_rotary(config, problems);
    check_positions(config, problems);
    check_attention(config, problems);
    check_multi_token_prediction(config, problems);
    check_mup(t, problems);
  }
  if (sized && ranked) {
    check_tensor_parallel(config, problems);
    check_pipeline(config, problems);
    check_context_parallel(config, problems);
  }
  if (ranked) check_world(t, world_size, command, problems);
  check_activation(t, problems);
  check_recomputation(t, problems);
  check_tensor_parallel_overlap(t, problems);
  problems.expect(t.cuda_graph_impl == CudaGraphImpl::none,
                  "Expected --cuda-graph-impl none, but got local; CUDA graphs are not in this "
                  "version");
  check_loss(config, problems);
  expect_probability("--hidden-dropout", t.hidden_dropout, problems);
  expect_probability("--attention-dropout", t.attention_dropout, problems);
  problems.expect(t.layernorm_epsilon > 0,
                  "Expected --norm-epsilon above 0, but got {}; 1e-5 works", t.layernorm_epsilon);
  problems.expect(t.init_method_std >= 0 && t.embedding_std() >= 0,
                  "Expected --init-method-std and --embedding-init-method-std of at least 0, but "
                  "got {} and {}; 0.02 is usual",
                  t.init_method_std, t.embedding_std());
}

}  // namespace megatron
