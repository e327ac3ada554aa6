// What most families share: the keys of a decoder's sizes, positions, windows and activations, and
// the names of a decoder's tensors.
#pragma once

#include <initializer_list>
#include <optional>
#include <string>
#include <vector>

#include "megatron/convert/hf_family.h"
#include "megatron/convert/transforms.h"

namespace megatron {

// hidden_size, intermediate_size, num_hidden_layers, num_attention_heads, num_key_value_heads,
// head_dim, vocab_size, max_position_embeddings, attention_dropout, tie_word_embeddings. What is
// missing has transformers' default: num_key_value_heads and the others as here, head_dim
// hidden_size / heads. A missing size is an error. Null for num_key_value_heads: as many as heads.
struct DecoderDefaults {
  bool tied = false;
  std::optional<int64_t> key_value_heads;  // none: num_attention_heads
  double attention_dropout = 0;
};
void decoder_sizes(HfConfig& hf, GPTModelConfig& model, const DecoderDefaults& defaults = {});

// Where the linear layers have biases.
struct LinearBiases {
  bool qkv = false, proj = false, mlp = false;
};
LinearBiases linear_biases(const TransformerConfig& transformer);
void set_linear_biases(TransformerConfig& transformer, const LinearBiases& biases);
// attention_bias, off by default, of all projections of attention.
void attention_bias(HfConfig& hf, TransformerConfig& transformer);
// The same, and mlp_bias.
void attention_and_mlp_bias(HfConfig& hf, TransformerConfig& transformer);

// The activation of the MLP by its name in transformers. `tanh_gelu` is the family's name for GELU
// in tanh form.
void activation(HfConfig& hf, const char* key, TransformerConfig& transformer,
                const char* tanh_gelu = "gelu_pytorch_tanh");

// The same, for a family with a default.
void activation_or(HfConfig& hf, const char* key, TransformerConfig& transformer,
                   ActivationFunction absent);

// The dimension of a head where transformers' default is not hidden_size / heads. Call it after
// decoder_sizes().
void default_head_dim(const HfConfig& hf, TransformerConfig& transformer, int64_t absent);

// A soft cap; null: none.
void soft_cap(HfConfig& hf, const char* key, std::optional<double>& cap,
              std::optional<double> absent);

// Rotary positions and their scaling, of both spellings: default, linear, dynamic, llama3, yarn and
// longrope. Others are refused by name. `default_partial`: the part of a head that rotates where the
// family has partial_rotary_factor. In the others transformers rotates whole heads, whatever that key
// says: any value but 1 is refused.
void rotary(HfConfig& hf, GPTModelConfig& model, double default_theta = 10000,
            std::optional<double> default_partial = std::nullopt);

// The same for models whose layers with a window have their own base, which nothing scales. Call it
// after the windows are known. Without a base of its own (`default_local_theta` 0) it is that of the
// other layers.
void rotary_by_layer_type(HfConfig& hf, GPTModelConfig& model, double default_theta,
                          double default_local_theta);

// sliding_window (if missing: `absent`), layer_types, and where that is missing sliding_window_pattern
// N: every Nth layer has full attention.
void alternating_windows(HfConfig& hf, TransformerConfig& transformer, int64_t absent,
                         int64_t default_pattern);

// Layers with full attention have no rotary positions.
void no_rope_without_window(TransformerConfig& transformer);

// sliding_window: a token sees that many tokens, itself included; null: all. layer_types says which
// layers have the window (all if it is missing).
void sliding_window(HfConfig& hf, TransformerConfig& transformer);

// layer_types of num_layers entries, "sliding_attention" or "full_attention", as
// window_attn_skip_freq. Reading throws Error for other types.
void layer_types(HfConfig& hf, TransformerConfig& transformer);

// The rows of the families that are named as Llama is: embedding, norms, q, k, v, o, gate, up, down,
// output layer. Rows of biases are included; models without biases do not use them.
std::vector<TensorRow> llama_rows();
// The same, with an MLP that is not gated: up and down.
std::vector<TensorRow> ungated_llama_rows();

// Rows of norms of queries and keys, which llama_rows() lacks.
std::vector<TensorRow> query_key_norm_rows();

// Rows of norms of the branches' outputs where those are the only norms of a layer, named
// post_attention_layernorm and post_feedforward_layernorm.
std::vector<TensorRow> norm_after_rows();

// `rows`, with those of `more` instead of rows of the same parameter.
std::vector<TensorRow> with_rows(std::vector<TensorRow> rows, const std::vector<TensorRow>& more);

}  // namespace megatron
