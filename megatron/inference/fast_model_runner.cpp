#include "megatron/inference/fast_model_runner.h"

#include <cmath>

#include <ATen/ATen.h>

#include "megatron/base/error.h"
#include "megatron/ops/core/dispatch.h"
#include "megatron/ops/decode/row_operations.h"
#include "megatron/transformer/mlp_activation.h"

namespace megatron {
namespace {

int64_t window_of(const GPTModelConfig& config) {
  return config.transformer.window_size.empty() ? -1 : config.transformer.window_size[0];
}

PagedCacheShape cache_shape(const GPTModelConfig& config, int64_t block_size, int64_t num_blocks,
                            at::ScalarType dtype) {
  const TransformerConfig& transformer = config.transformer;
  return {.layers = transformer.num_layers,
          .groups = transformer.query_groups(),
          .head_dim = transformer.head_dim(),
          .block_size = block_size,
          .num_blocks = num_blocks,
          .dtype = dtype};
}

at::ScalarType model_dtype(const GPTModel& model) {
  return c10::typeMetaToScalarType(model.tensor_options().dtype());
}

const float* values_or_null(const at::Tensor& tensor) {
  return data_or_null<const float>(tensor);
}

}  // namespace

FastModelRunner::FastModelRunner(const GPTModel& model, const FastModelRunnerOptions& options)
    : config_(model.config()),
      weights_(model, options.weights ? *options.weights : weight_format_of(model_dtype(model))),
      cache_(cache_shape(config_, options.block_size, options.num_blocks,
                         options.cache_dtype.value_or(model_dtype(model)))),
      full_(cache_, config_.transformer.num_attention_heads, /*window=*/-1),
      windowed_(cache_, config_.transformer.num_attention_heads, window_of(config_)),
      rotary_embedding_(ModelRotaryEmbedding::make(config_)) {
  const TransformerConfig& transformer = config_.transformer;
  const ActivationOptions activation = mlp_activation(transformer);
  activation_ = activation.function;
  if (activation.glu) glu_ = *activation.glu;
  softmax_scale_ = static_cast<float>(
      transformer.softmax_scale.value_or(1.0 / std::sqrt(double(transformer.head_dim()))));
}

int64_t FastModelRunner::block_bytes(const GPTModelConfig& config, int64_t block_size,
                                     at::ScalarType cache_dtype) {
  return cache_shape(config, block_size, /*num_blocks=*/1, cache_dtype).block_bytes();
}

void FastModelRunner::gather(std::span<const StepRow> rows) {
  tokens_.clear();
  wanted_.clear();
  sequences_.clear();
  const int64_t size = block_size();
  for (const StepRow& row : rows) {
    const int64_t count = std::ssize(row.tokens), end = row.position + count;
    check(count > 0 && row.position >= 0,
          "Expected a row of at least one token at a position from 0, but got {} at {}", count,
          row.position);
    check(std::ssize(row.blocks) * size >= end,
          "Expected blocks that cover {} positions, but got {} blocks of {}", end,
          row.blocks.size(), size);
    check(!weights_.positions.defined() || end <= weights_.positions.size(0),
          "Expected positions below {} (--max-position-embeddings), but got {}",
          weights_.positions.defined() ? weights_.positions.size(0) : 0, end - 1);
    for (int64_t i = 0; i * size < end; ++i) {
      check(row.blocks[i] >= 0 && row.blocks[i] < num_blocks(),
            "Expected blocks below {}, but got {}", num_blocks(), row.blocks[i]);
    }
    sequences_.push_back({.first_token = std::ssize(tokens_),
                          .tokens = count,
                          .position = row.position,
                          .blocks = row.blocks.data()});
    for (int64_t i = 0; i < count; ++i) {
      const int64_t id = row.tokens[i], position = row.position + i;
      check(id >= 0 && id < weights_.embedding.size(0), "Expected token ids below {}, but got {}",
            weights_.embedding.size(0), id);
      const bool is_wanted =
          row.logits == RowLogits::all || (row.logits == RowLogits::last && i == count - 1);
      if (is_wanted) wanted_.push_back(std::ssize(tokens_));
      tokens_.push_back({id, position, row.blocks[position / size], position % size});
    }
  }
}

void FastModelRunner::reserve() {
  const TransformerConfig& transformer = config_.transformer;
  const int64_t h = transformer.hidden_size, d = transformer.head_dim(),
                n = transformer.num_attention_heads;
  const auto tokens = std::ssize(tokens_);
  const auto grow = [&](std::vector<float>& buffer, int64_t width) {
    if (std::ssize(buffer) < tokens * width) buffer.resize(tokens * width);
  };
  grow(x_, h);
  grow(inputs_, h);
  if (transformer.use_parallel_residual) grow(mlp_inputs_, h);
  grow(qkv_, weights_.layers.front().qkv.n());
  grow(queries_, n * d);
  grow(attended_, n * d);
  grow(branch_, h);
  grow(activated_, transformer.ffn_size());
  if (weights_.layers.front().qkv.quantizes_inputs()) {
    const int64_t widest = std::max({h, n * d, transformer.ffn_size()});
    const int64_t bytes = tokens * kernels::low_bit_row_bytes(widest);
    if (std::ssize(quantized_) < bytes) quantized_.resize(bytes);
  }
  const auto wanted = std::ssize(wanted_);
  if (!logits_.defined() || logits_.size(0) < wanted)
    logits_ = at::empty({wanted, vocab_size()}, at::kFloat);
}

void FastModelRunner::extend_rotary(int64_t positions) {
  if (!rotary_embedding_ || (rotary_.cos.defined() && rotary_.cos.size(0) >= positions)) return;
  int64_t length = 512;
  while (length < positions) length *= 2;
  const ModelRotaryEmbedding::Tokens tokens{
      .positions = at::arange(length, at::kLong), .position_ids = {}, .row_length = length};
  const auto contiguous = [](const RotaryTable& table) {
    return table.defined() ? Rotary{table.cos.contiguous(), table.sin.contiguous()} : Rotary{};
  };
  rotary_ = contiguous(rotary_embedding_->table(tokens, at::kFloat, at::kCPU));
  rotary_local_ = contiguous(rotary_embedding_->local_table(tokens, at::kFloat, at::kCPU));
}

RowNorm FastModelRunner::row_norm(const DecodeNorm& norm) const {
  const TransformerConfig& transformer = config_.transformer;
  return {.centred = transformer.normalization == Normalization::LayerNorm,
          .weight = values_or_null(norm.weight),
          .bias = values_or_null(norm.bias),
          .epsilon = static_cast<float>(transformer.layernorm_epsilon)};
}

template <typename Body>
void FastModelRunner::with_input_row(void* buffer, int64_t row, int64_t width,
                                     const Body& body) const {
  if (weights_.output.input_dtype() == at::kBFloat16) {
    body(static_cast<c10::BFloat16*>(buffer) + row * width);
  } else {
    body(static_cast<float*>(buffer) + row * width);
  }
}

void FastModelRunner::embed(const ThreadTeam& team) {
  const int64_t h = config_.transformer.hidden_size;
  const auto factor = static_cast<float>(config_.transformer.embedding_mult());
  const WorkRange part = team.part(std::ssize(tokens_));
  const auto add_row = [&](const at::Tensor& table, int64_t row, bool add, float* x) {
    dispatch_dtype_or_half(table.scalar_type(), [&](auto value) {
      using X = decltype(value);
      if constexpr (!std::is_same_v<X, double>)
        scale_row(h, factor, table.const_data_ptr<X>() + row * h, add, x);
    });
  };
  for (int64_t i = part.first; i < part.last; ++i) {
    float* x = x_.data() + i * h;
    add_row(weights_.embedding, tokens_[i].id, /*add=*/false, x);
    if (weights_.positions.defined())
      add_row(weights_.positions, tokens_[i].position, /*add=*/true, x);
  }
}

void FastModelRunner::normalize(const ThreadTeam& team, const DecodeNorm& norm, void* to) {
  const int64_t h = config_.transformer.hidden_size;
  const RowNorm of_rows = row_norm(norm);
  const WorkRange part = team.part(std::ssize(tokens_));
  for (int64_t i = part.first; i < part.last; ++i) {
    with_input_row(to, i, h, [&](auto* row) { normalize_row(of_rows, h, x_.data() + i * h, row); });
  }
}

void FastModelRunner::store_heads(const ThreadTeam& team, int64_t layer_index) {
  const TransformerConfig& transformer = config_.transformer;
  const DecodeLayer& layer = weights_.layers[layer_index];
  const int64_t d = transformer.head_dim(), groups = transformer.query_groups();
  const int64_t per_group = transformer.num_attention_heads / groups;
  const auto tokens = std::ssize(tokens_);
  const Rotary& rotary = layer.window >= 0 && rotary_local_.cos.defined() ? rotary_local_ : rotary_;
  const bool rotates = layer.has_rope && rotary.cos.defined();
  const int64_t rotated = rotates ? rotary.cos.size(1) : 0;
  const RowNorm query_norm = row_norm(layer.query_norm), key_norm = row_norm(layer.key_norm);
  const WorkRange part = team.part(tokens * groups);
  for (int64_t i = part.first; i < part.last; ++i) {
    const int64_t t = i / groups, group = i % groups;
    const Token& token = tokens_[t];
    // Of a group: its queries, the key, the value.
    float* heads = qkv_.data() + (t * groups + group) * (per_group + 2) * d;
    const auto prepare = [&](float* head, const RowNorm& norm) {
      if (norm.weight != nullptr) normalize_row(norm, d, head, head);
      if (!rotates) return;
      const int64_t row = token.position * rotated;
      rotate_row(transformer.rotary_interleaved, rotated, rotary.cos.const_data_ptr<float>() + row,
                 rotary.sin.const_data_ptr<float>() + row, head);
    };
    for (int64_t j = 0; j < per_group; ++j) {
      prepare(heads + j * d, query_norm);
      scale_row(d, softmax_scale_, static_cast<const float*>(heads + j * d),
                /*add=*/false, queries_.data() + ((group * tokens + t) * per_group + j) * d);
    }
    float* key = heads + per_group * d;
    prepare(key, key_norm);
    cache_.store(layer_index, token.block, token.slot, group, key, key + d);
  }
}

FastModelRunner::MatrixInput FastModelRunner::matrix_input(ThreadTeam& team,
                                                           const PackedMatrix& matrix, int64_t rows,
                                                           const void* inputs, int64_t stride) {
  if (!matrix.quantizes_inputs()) return {inputs, stride};
  matrix.quantize_inputs(team, rows, static_cast<const float*>(inputs), stride, quantized_.data());
  team.barrier();
  return {quantized_.data(), matrix.input_row_bytes()};
}

void FastModelRunner::project(ThreadTeam& team, const PackedMatrix& matrix,
                              const DecodeNorm& post_norm, const void* input,
                              int64_t input_stride) {
  const int64_t h = config_.transformer.hidden_size;
  const auto factor = static_cast<float>(config_.transformer.residual_multiplier);
  const bool adds = !post_norm.defined();
  using enum kernels::ProductEpilogue;
  const MatrixInput x = matrix_input(team, matrix, std::ssize(tokens_), input, input_stride);
  matrix.multiply(team, {.rows = std::ssize(tokens_),
                         .x = x.x,
                         .x_stride = x.stride,
                         .epilogue = adds ? add : store,
                         .y = adds ? x_.data() : branch_.data(),
                         .y_stride = h,
                         .scale = factor});
  team.barrier();
  if (adds) return;
  const RowNorm of_rows = row_norm(post_norm);
  const WorkRange part = team.part(std::ssize(tokens_));
  for (int64_t i = part.first; i < part.last; ++i) {
    float* row = branch_.data() + i * h;
    normalize_row(of_rows, h, row, row);
    scale_row(h, factor, static_cast<const float*>(row), /*add=*/true, x_.data() + i * h);
  }
  team.barrier();
}

void FastModelRunner::run_layer(ThreadTeam& team, int64_t layer_index) {
  const TransformerConfig& transformer = config_.transformer;
  const DecodeLayer& layer = weights_.layers[layer_index];
  const int64_t h = transformer.hidden_size, f = transformer.ffn_size();
  const int64_t attended_width = transformer.num_attention_heads * transformer.head_dim();
  const bool is_parallel = transformer.use_parallel_residual;
  const bool shares_norm = is_parallel && transformer.share_parallel_layernorm;
  const auto tokens = std::ssize(tokens_);
  using enum kernels::ProductEpilogue;

  normalize(team, layer.input_norm, inputs_.data());
  if (is_parallel && !shares_norm) normalize(team, layer.mlp_norm, mlp_inputs_.data());
  team.barrier();
  const MatrixInput qkv_input = matrix_input(team, layer.qkv, tokens, inputs_.data(), h);
  layer.qkv.multiply(team, {.rows = tokens,
                            .x = qkv_input.x,
                            .x_stride = qkv_input.stride,
                            .epilogue = store,
                            .y = qkv_.data(),
                            .y_stride = layer.qkv.n()});
  team.barrier();
  store_heads(team, layer_index);
  team.barrier();
  (layer.window >= 0 ? windowed_ : full_)
      .run(team, {.layer = layer_index,
                  .queries = queries_.data(),
                  .soft_cap = static_cast<float>(transformer.attn_logit_softcapping.value_or(0.0)),
                  .sinks = values_or_null(layer.sinks),
                  .out = attended_.data(),
                  .out_dtype = layer.proj.input_dtype()});
  team.barrier();
  project(team, layer.proj, layer.post_attention_norm, attended_.data(), attended_width);

  float* mlp_inputs = is_parallel && !shares_norm ? mlp_inputs_.data() : inputs_.data();
  if (!is_parallel) {
    normalize(team, layer.mlp_norm, mlp_inputs);
    team.barrier();
  }
  const MatrixInput fc1_input = matrix_input(team, layer.fc1, tokens, mlp_inputs, h);
  layer.fc1.multiply(team, {.rows = tokens,
                            .x = fc1_input.x,
                            .x_stride = fc1_input.stride,
                            .epilogue = transformer.gated_linear_unit ? activate_glu : activate,
                            .z = activated_.data(),
                            .z_stride = f,
                            .activation = activation_,
                            .glu = glu_});
  team.barrier();
  project(team, layer.fc2, layer.post_mlp_norm, activated_.data(), f);
}

void FastModelRunner::compute_logits(ThreadTeam& team) {
  const int64_t h = config_.transformer.hidden_size;
  const auto wanted = std::ssize(wanted_);
  const RowNorm final_norm = row_norm(weights_.final_norm);
  const WorkRange part = team.part(wanted);
  for (int64_t i = part.first; i < part.last; ++i) {
    with_input_row(inputs_.data(), i, h, [&](auto* row) {
      normalize_row(final_norm, h, x_.data() + wanted_[i] * h, row);
    });
  }
  team.barrier();
  const MatrixInput input = matrix_input(team, weights_.output, wanted, inputs_.data(), h);
  weights_.output.multiply(team, {.rows = wanted,
                                  .x = input.x,
                                  .x_stride = input.stride,
                                  .epilogue = kernels::ProductEpilogue::store,
                                  .y = logits_.data_ptr<float>(),
                                  .y_stride = vocab_size()});
}

void FastModelRunner::run(ThreadTeam& team) {
  embed(team);
  team.barrier();
  for (int64_t i = 0; i < std::ssize(weights_.layers); ++i) run_layer(team, i);
  if (!wanted_.empty()) compute_logits(team);
}

at::Tensor FastModelRunner::forward(std::span<const StepRow> rows) {
  const at::NoGradGuard no_grad;
  gather(rows);
  if (tokens_.empty()) return at::empty({0, vocab_size()}, at::kFloat);
  reserve();
  int64_t positions = 0;
  for (const Token& token : tokens_) positions = std::max(positions, token.position + 1);
  extend_rotary(positions);
  full_.plan(sequences_, std::ssize(tokens_));
  windowed_.plan(sequences_, std::ssize(tokens_));
  run_team([this](ThreadTeam& team) { run(team); });
  at::Tensor logits = logits_.narrow(0, 0, std::ssize(wanted_));
  const double factor = config_.transformer.output_mult();
  const std::optional<double>& cap = config_.transformer.final_logit_softcapping;
  if (cap) {
    logits.mul_(factor / *cap).tanh_().mul_(*cap);
  } else if (factor != 1.0) {
    logits.mul_(factor);
  }
  return logits;
}

}  // namespace megatron
