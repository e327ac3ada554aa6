// StarCoder2: LayerNorm, biases, an MLP that is not gated.
#include "megatron/base/error.h"
#include "megatron/convert/families/decoder.h"
#include "megatron/convert/families/families.h"

namespace megatron {
namespace {

void configure_starcoder2(HfConfig& hf, GPTModelConfig& model) {
  TransformerConfig& t = model.transformer;
  if (hf.reads()) {
    t.normalization = Normalization::LayerNorm;
    t.gated_linear_unit = false;
    t.add_bias_linear = true;
  }
  decoder_sizes(hf, model, {.tied = true, .key_value_heads = 2});
  rotary(hf, model);
  activation_or(hf, "hidden_act", t, ActivationFunction::openai_gelu);
  hf.only("mlp_type", "default", "its MLP is not gated");
  hf.only("norm_type", "layer_norm", "it has LayerNorms");
  hf.ignore({"rms_norm_eps"});  // published beside norm_epsilon, which is the one that counts
  hf.field("norm_epsilon", t.layernorm_epsilon, 1e-5);
  LinearBiases biases = linear_biases(t);
  hf.field("use_bias", biases.mlp, true);
  set_linear_biases(t, {biases.mlp, biases.mlp, biases.mlp});
  // One probability serves the embedding and the residual branches here.
  double embedding = t.hidden_dropout;
  hf.field("residual_dropout", t.hidden_dropout, 0.0);
  hf.field("embedding_dropout", embedding, 0.0);
  check(embedding == t.hidden_dropout,
        "Expected the same 'embedding_dropout' and 'residual_dropout' in {}, but got {} and {}",
        hf.path(), embedding, t.hidden_dropout);
  sliding_window(hf, t);
}

}  // namespace

HfFamily starcoder2_family() {
  const std::string ours = "decoder.layers.*.mlp.", theirs = "model.layers.*.mlp.";
  return {.model_type = "starcoder2",
          .architecture = "Starcoder2ForCausalLM",
          .configure = configure_starcoder2,
          .rows = with_rows(llama_rows(),
                            {{ours + "linear_fc1.weight", {theirs + "c_fc.weight"}, same},
                             {ours + "linear_fc1.bias", {theirs + "c_fc.bias"}, same},
                             {ours + "linear_fc2.weight", {theirs + "c_proj.weight"}, same},
                             {ours + "linear_fc2.bias", {theirs + "c_proj.bias"}, same}})};
}

}  // namespace megatron
