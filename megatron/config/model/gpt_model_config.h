// Configuration of a GPT model: the transformer and the other arguments of GPTModel (names and
// defaults as in Megatron-Bridge's GPTModelConfig). It describes; GPTModelBuilder builds.
//
// The command line has other defaults: command_line_model_defaults() in config/options.
#pragma once

#include <string_view>

#include "megatron/config/model/layer_spec_source.h"
#include "megatron/config/model/model_config.h"
#include "megatron/config/model/tp_comm_overlap.h"
#include "megatron/config/model/transformer_config.h"

namespace megatron {

struct GPTModelConfig : ModelConfig {
  std::string builder = "megatron.bridge.models.GPTModelBuilder";

  TransformerConfig transformer = {};

  // The layers: a registered function's name, a spec, or a function of this configuration.
  LayerSpecSource transformer_layer_spec = {};

  // Vocabulary size before padding. The builder requires it; the command line takes it from the
  // tokenizer.
  std::optional<int64_t> vocab_size = {};
  // With should_pad_vocab the embedding has padded_vocab_size() rows: vocab_size rounded up to a
  // multiple of make_vocab_size_divisible_by times the tensor-parallel size. Logits of the padding
  // count as minus infinity in the softmax, so the loss does not depend on it.
  int64_t make_vocab_size_divisible_by = 128;
  bool should_pad_vocab = false;

  int64_t seq_length = 1024;
  std::optional<int64_t> max_position_embeddings = {};  // default: seq_length
  bool fp16_lm_cross_entropy = false;                   // rounds the logits to half precision
  bool parallel_output = true;  // logits stay sharded over the tensor-parallel ranks
  bool share_embeddings_and_output_weights = false;
  bool add_output_layer_bias = false;  // a bias of the logits, [v]

  PositionEmbeddingType position_embedding_type = PositionEmbeddingType::learned_absolute;
  double rotary_percent = 1.0;
  double rotary_base = 10000;
  // Base of the layers with a window (Gemma 3), whose frequencies no scaling below and no YaRN
  // changes; not set: they rotate as the others.
  std::optional<double> rotary_base_local = {};
  bool rope_scaling = false;  // Llama 3.1's frequency scaling
  double rope_scaling_factor = 8.0;
  double rope_scaling_low_freq_factor = 1, rope_scaling_high_freq_factor = 4;
  // The context length before scaling, for Llama 3.1's, dynamic and longrope scaling.
  int64_t rope_scaling_original_max_position_embeddings = 8192;
  // Dynamic (NTK-aware) scaling by this factor: sequences longer than the original length have a
  // larger base.
  std::optional<double> rope_dynamic_scaling_factor = {};
  // longrope (Phi-3): divisors of the frequencies, one per rotated pair, of sequences up to the
  // original length, and of longer ones; and a factor of cosine and sine.
  std::vector<double> longrope_short_factor = {}, longrope_long_factor = {};
  double longrope_mscale = 1;
  // With sequence parallelism: true: the embedding scatters its output; false: the model does.
  bool scatter_embedding_sequence_parallel = true;
  std::optional<double> seq_len_interpolation_factor = {};  // above 1: divides the positions

  // With transformer.tp_comm_overlap: which overlap each linear layer uses.
  TpCommOverlapConfig tp_comm_overlap_cfg = {};

  // default_layer_spec gives whole fused layers instead of layers of fused modules.
  bool use_transformer_engine_full_layer_spec = false;
  // transformer_engine_layer_spec gives an MLP of one operator.
  bool use_transformer_engine_op_fuser = false;
  // modelopt_transformer_layer_spec: whether layers take any attention mask; not set: if the
  // context is not split over ranks.
  std::optional<bool> use_arbitrary_attention_mask = {};

  // The vocabulary sizes of the built model. Throw Error if vocab_size is not set.
  int64_t required_vocab_size() const;
  int64_t padded_vocab_size() const;
  bool has_longrope() const {
    return !longrope_short_factor.empty() || !longrope_long_factor.empty();
  }
  int64_t max_sequence_length() const { return max_position_embeddings.value_or(seq_length); }

  // Sets the fields that follow from others, then checks all of them: sequence_parallel is off
  // with one tensor-parallel rank. An unset pipeline_dtype follows compute_dtype(). Throws Error
  // that lists every problem. May be called again after a change. vocab_size may be unset.
  void finalize();

  // Fields of this struct and of `transformer` by name; each name has one owner. Throw Error for an
  // unknown name, with the nearest, or for a value of another type.
  nlohmann::json get(std::string_view name) const;
  void set(std::string_view name, const nlohmann::json& value);

  // Every field but the hooks, with the classes' names as `_target_` and the builder's as
  // `_builder_`. A layer spec that is a C++ function must be registered.
  nlohmann::json as_dict() const;
  // Fields that the object lacks keep their defaults. Throws Error for an unknown field.
  static GPTModelConfig from_dict(const nlohmann::json& json);
  std::string to_yaml() const;
  static GPTModelConfig from_yaml(const std::string& text);

  // Replaces the layout by that of one rank. The padded vocabulary size stays the same.
  void reset_layout();
};

}  // namespace megatron
