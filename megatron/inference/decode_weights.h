// The weights of a dense GPT model in the form that FastModelRunner computes with: matrices packed,
// vectors in fp32.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "megatron/models/gpt/gpt_model.h"
#include "megatron/ops/decode/packed_matrix.h"

namespace megatron {

// How matrices are stored. int8: a symmetric scale per row; int4: a symmetric scale per 64 weights (32
// where 64 does not divide the row), and the output layer in int8.
enum class WeightFormat { fp32, bf16, fp16, int8, int4 };

// fp32, bf16 or fp16. Throws Error for other dtypes.
WeightFormat weight_format_of(at::ScalarType dtype);
// By the names of the enumeration. Throws Error for another.
WeightFormat weight_format_from_name(std::string_view name);
std::string weight_format_name(WeightFormat format);

// Without a weight: no norm. The weight of a zero-centred norm is stored with 1 added.
struct DecodeNorm {
  at::Tensor weight, bias;  // fp32; the bias may be undefined

  bool defined() const { return weight.defined(); }
};

struct DecodeLayer {
  DecodeNorm input_norm, mlp_norm;                // before the branches
  DecodeNorm post_attention_norm, post_mlp_norm;  // of their outputs
  DecodeNorm query_norm, key_norm;                // [d]
  PackedMatrix qkv, proj, fc1, fc2;               // each with its bias
  at::Tensor sinks;                               // [n] fp32, or undefined
  int64_t window = -1;                            // keys [i - window, i]; -1: all
  bool has_rope = false;
};

struct DecodeWeights {
  // Throws Error where reason_against_fast_runner() gives one, and for matrices that the format cannot
  // hold. Copies: later changes of the model's parameters have no effect.
  DecodeWeights(const GPTModel& model, WeightFormat format);

  int64_t matrix_bytes() const;

  std::vector<DecodeLayer> layers;
  at::Tensor embedding;  // [v, h], the model's own
  at::Tensor positions;  // [s, h], or undefined
  DecodeNorm final_norm;
  PackedMatrix output;  // [vocab size without padding, h]
};

// Why FastModelRunner cannot run the model; empty if it can. It runs dense models in one rank on a
// CPU: LayerNorm or RMSNorm before, after or around the branches, parallel residuals, biases,
// grouped queries, query and key norms per head, learned or rotary positions, gated units, windows,
// attention sinks and soft caps.
std::string reason_against_fast_runner(const GPTModel& model);

}  // namespace megatron
