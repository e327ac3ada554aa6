// GPT-2. Its linear layers store [in, out].
#include "megatron/base/error.h"
#include "megatron/convert/families/decoder.h"
#include "megatron/convert/families/families.h"

namespace megatron {
namespace {

void configure_gpt2(HfConfig& hf, GPTModelConfig& model) {
  TransformerConfig& t = model.transformer;
  if (hf.reads()) {
    model.position_embedding_type = PositionEmbeddingType::learned_absolute;
    t.normalization = Normalization::LayerNorm;
    t.gated_linear_unit = false;
    t.add_bias_linear = true;
  }
  hf.field("vocab_size", model.vocab_size, 50257);
  hf.field("n_positions", model.max_position_embeddings, 1024);
  hf.field("n_embd", t.hidden_size, 768);
  hf.field("n_layer", t.num_layers, 12);
  check(t.num_layers <= HfConfig::kMostLayers, "Expected 'n_layer' of at most {} in {}, but got {}",
        HfConfig::kMostLayers, hf.path(), t.num_layers);
  hf.field("n_head", t.num_attention_heads, 12);
  hf.field("n_inner", t.ffn_hidden_size, 4 * t.hidden_size);
  hf.field("layer_norm_epsilon", t.layernorm_epsilon, 1e-5);
  hf.field("tie_word_embeddings", model.share_embeddings_and_output_weights, true);
  hf.field("resid_pdrop", t.hidden_dropout, 0.1);
  hf.field("attn_pdrop", t.attention_dropout, 0.1);
  if (hf.reads()) {
    model.seq_length = *model.max_position_embeddings;
    if (!hf.has("activation_function")) {
      t.activation_func = ActivationFunction::openai_gelu;
      hf.ignore({"activation_function"});
    } else {
      activation(hf, "activation_function", t);
    }
    // One probability serves the embedding and the residual branches here.
    double embedding = 0.1;
    hf.field("embd_pdrop", embedding, 0.1);
    check(embedding == t.hidden_dropout,
          "Expected the same 'embd_pdrop' and 'resid_pdrop' in {}, but got {} and {}", hf.path(),
          embedding, t.hidden_dropout);
  } else {
    activation(hf, "activation_function", t, "gelu_new");
    hf.put("embd_pdrop", t.hidden_dropout);
  }
  hf.only("scale_attn_weights", true, "unscaled attention is not supported");
  bool scales_by_layer = t.apply_query_key_layer_scaling;
  hf.field("scale_attn_by_inverse_layer_idx", scales_by_layer, false);
  check(!scales_by_layer,
        "Expected 'scale_attn_by_inverse_layer_idx' false in {}, but got true, which is not "
        "supported",
        hf.path());
  hf.ignore({"n_ctx", "reorder_and_upcast_attn", "summary_activation", "summary_first_dropout",
             "summary_proj_to_labels", "summary_type", "summary_use_proj"});
}

std::vector<TensorRow> gpt2_rows() {
  const std::string ours = "decoder.layers.*.", theirs = "transformer.h.*.";
  const std::string qkv = ours + "self_attention.linear_qkv.";
  std::vector<TensorRow> rows = {
      {"embedding.word_embeddings.weight", {"transformer.wte.weight"}, same},
      {"embedding.position_embeddings.weight", {"transformer.wpe.weight"}, same},
      {qkv + "layer_norm_weight", {theirs + "ln_1.weight"}, same},
      {qkv + "layer_norm_bias", {theirs + "ln_1.bias"}, same},
      {qkv + "weight", {theirs + "attn.c_attn.weight"}, transposed_query_key_value},
      {qkv + "bias", {theirs + "attn.c_attn.bias"}, joined_query_key_value},
      {ours + "self_attention.linear_proj.weight", {theirs + "attn.c_proj.weight"}, transposed},
      {ours + "self_attention.linear_proj.bias", {theirs + "attn.c_proj.bias"}, same},
      {ours + "mlp.linear_fc1.layer_norm_weight", {theirs + "ln_2.weight"}, same},
      {ours + "mlp.linear_fc1.layer_norm_bias", {theirs + "ln_2.bias"}, same},
      {ours + "mlp.linear_fc1.weight", {theirs + "mlp.c_fc.weight"}, transposed},
      {ours + "mlp.linear_fc1.bias", {theirs + "mlp.c_fc.bias"}, same},
      {ours + "mlp.linear_fc2.weight", {theirs + "mlp.c_proj.weight"}, transposed},
      {ours + "mlp.linear_fc2.bias", {theirs + "mlp.c_proj.bias"}, same},
      {"decoder.final_layernorm.weight", {"transformer.ln_f.weight"}, same},
      {"decoder.final_layernorm.bias", {"transformer.ln_f.bias"}, same},
      {"output_layer.weight", {"lm_head.weight"}, same},
  };
  return rows;
}

}  // namespace

HfFamily gpt2_family() {
  return {.model_type = "gpt2",
          .architecture = "GPT2LMHeadModel",
          .prefix = "transformer.",
          .configure = configure_gpt2,
          .rows = gpt2_rows(),
          .buffers = {"transformer.h.*.attn.bias", "transformer.h.*.attn.masked_bias"}};
}

}  // namespace megatron
