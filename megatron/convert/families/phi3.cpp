// Phi-3: query, key and value in one tensor, gate and up in another.
#include "megatron/base/error.h"
#include "megatron/convert/families/decoder.h"
#include "megatron/convert/families/families.h"

namespace megatron {
namespace {

void configure_phi3(HfConfig& hf, GPTModelConfig& model) {
  TransformerConfig& t = model.transformer;
  decoder_sizes(hf, model);
  rotary(hf, model, 10000, /*default_partial=*/1);
  check(model.position_embedding_type == PositionEmbeddingType::rope,
        "Expected rotary parameters of type default or longrope in {}, but got yarn, which Phi-3 "
        "reads as longrope",
        hf.path());
  activation_or(hf, "hidden_act", t, ActivationFunction::silu);
  hf.field("rms_norm_eps", t.layernorm_epsilon, 1e-5);
  // One probability serves the embedding and the residual branches here. transformers reads
  // embd_pdrop and does not apply it.
  hf.field("resid_pdrop", t.hidden_dropout, 0.0);
  hf.ignore({"embd_pdrop", "original_max_position_embeddings"});
  // Of Phi-4-mini: plans for attention to a part of the tokens, which is not there.
  hf.only("full_attn_mod", 1, "attention to a part of the tokens is not supported");
  hf.only("interpolate_factor", 1, "interpolated positions are not supported");
  sliding_window(hf, t);
}

}  // namespace

HfFamily phi3_family() {
  const std::string ours = "decoder.layers.*.", theirs = "model.layers.*.";
  return {.model_type = "phi3",
          .architecture = "Phi3ForCausalLM",
          .configure = configure_phi3,
          .rows = with_rows(
              llama_rows(),
              {{ours + "self_attention.linear_qkv.weight",
                {theirs + "self_attn.qkv_proj.weight"},
                joined_query_key_value},
               {ours + "mlp.linear_fc1.weight", {theirs + "mlp.gate_up_proj.weight"}, same}})};
}

}  // namespace megatron
