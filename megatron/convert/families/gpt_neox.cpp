// GPT-NeoX (Pythia): attention and MLP in parallel from a LayerNorm each, query, key and value of a
// head in one tensor in our order, a part of a head rotates.
#include "megatron/convert/families/decoder.h"
#include "megatron/convert/families/families.h"

namespace megatron {
namespace {

void configure_gpt_neox(HfConfig& hf, GPTModelConfig& model) {
  TransformerConfig& t = model.transformer;
  decoder_sizes(hf, model);
  if (hf.reads()) {
    t.normalization = Normalization::LayerNorm;
    t.gated_linear_unit = false;
  }
  // transformers 4 calls the rotary parameters rotary_emb_base and rotary_pct, and knows no others.
  double base = model.rotary_base, part = model.rotary_percent;
  hf.field("rotary_emb_base", base, 10000);
  hf.field("rotary_pct", part, 0.25);
  rotary(hf, model, base, part);
  activation_or(hf, "hidden_act", t, ActivationFunction::gelu);
  hf.field("layer_norm_eps", t.layernorm_epsilon, 1e-5);
  hf.field("hidden_dropout", t.hidden_dropout, 0.0);
  hf.field("use_parallel_residual", t.use_parallel_residual, true);
  LinearBiases biases = linear_biases(t);
  hf.field("attention_bias", biases.qkv, true);
  biases.proj = biases.qkv;
  biases.mlp = true;
  set_linear_biases(t, biases);
}

std::vector<TensorRow> gpt_neox_rows() {
  const std::string ours = "decoder.layers.*.", theirs = "gpt_neox.layers.*.";
  std::vector<TensorRow> rows = {
      {"embedding.word_embeddings.weight", {"gpt_neox.embed_in.weight"}, same},
      {"output_layer.weight", {"embed_out.weight"}, same}};
  for (const std::string kind : {"weight", "bias"}) {
    rows.push_back({ours + "self_attention.linear_qkv.layer_norm_" + kind,
                    {theirs + "input_layernorm." + kind},
                    same});
    rows.push_back({ours + "self_attention.linear_qkv." + kind,
                    {theirs + "attention.query_key_value." + kind},
                    same});
    rows.push_back(
        {ours + "self_attention.linear_proj." + kind, {theirs + "attention.dense." + kind}, same});
    rows.push_back({ours + "mlp.linear_fc1.layer_norm_" + kind,
                    {theirs + "post_attention_layernorm." + kind},
                    same});
    rows.push_back({ours + "mlp.linear_fc1." + kind, {theirs + "mlp.dense_h_to_4h." + kind}, same});
    rows.push_back({ours + "mlp.linear_fc2." + kind, {theirs + "mlp.dense_4h_to_h." + kind}, same});
    rows.push_back(
        {"decoder.final_layernorm." + kind, {"gpt_neox.final_layer_norm." + kind}, same});
  }
  return rows;
}

}  // namespace

HfFamily gpt_neox_family() {
  return {.model_type = "gpt_neox",
          .architecture = "GPTNeoXForCausalLM",
          .prefix = "gpt_neox.",
          .configure = configure_gpt_neox,
          .rows = gpt_neox_rows(),
          .buffers = {"gpt_neox.layers.*.attention.bias", "gpt_neox.layers.*.attention.masked_bias",
                      "gpt_neox.layers.*.attention.rotary_emb.inv_freq"}};
}

}  // namespace megatron
