// Checks of the fields that select layer specs (use_transformer_engine_full_layer_spec,
// restore_modelopt_state, transformer_impl) or change them (use_transformer_engine_op_fuser,
// use_arbitrary_attention_mask).
#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "megatron/base/problems.h"
#include "megatron/config/model/model_checks.h"
#include "megatron/config/model/pipeline_layout.h"

namespace megatron {
namespace {

constexpr const char* kDefault = "default_layer_spec";
constexpr const char* kFull = "transformer_engine_full_layer_spec";
constexpr const char* kEngine = "transformer_engine_layer_spec";
constexpr const char* kModelopt = "modelopt_transformer_layer_spec";
constexpr const char* kLocal = "local_layer_spec";

// The layer spec function that the configuration selects; empty for one that is not built in.
std::string selected_layer_spec(const GPTModelConfig& config) {
  const std::string name = config.transformer_layer_spec.name();
  if (name != kDefault) {
    const bool is_built_in =
        name == kFull || name == kEngine || name == kModelopt || name == kLocal;
    return is_built_in ? name : "";
  }
  if (config.restore_modelopt_state) return kModelopt;
  if (config.use_transformer_engine_full_layer_spec) return kFull;
  return config.transformer.transformer_impl == TransformerImpl::local ? kLocal : kEngine;
}

// The layers of the first chunk. Throws Error if the function does.
std::vector<ModuleSpec> first_layers(const GPTModelConfig& config) {
  std::optional<int64_t> vp_stage;
  if (PipelineLayout::of(config.transformer).chunks() > 1) vp_stage = 0;
  const LayerSpec spec = config.transformer_layer_spec.resolve(config, vp_stage, /*pp_rank=*/0);
  if (const auto* layer = std::get_if<ModuleSpec>(&spec)) return {*layer};
  return std::get<TransformerBlockSubmodules>(spec).layer_specs;
}

// Which of default_layer_spec's choices is made, and that no other field asks for another.
void check_selection(const GPTModelConfig& config, const std::string& selected,
                     Problems& problems) {
  const std::string name = config.transformer_layer_spec.name();
  const bool full = config.use_transformer_engine_full_layer_spec;
  problems.expect(!full || !config.restore_modelopt_state,
                  "Expected restore_modelopt_state or use_transformer_engine_full_layer_spec, but "
                  "got both; a quantizer hooks separate linears: leave one out");
  problems.expect(!full || selected.empty() || selected == kFull || config.restore_modelopt_state,
                  "Expected transformer_layer_spec {} with use_transformer_engine_full_layer_spec, "
                  "but got {}; leave one out",
                  kDefault, selected);
  problems.expect(
      !config.restore_modelopt_state || selected.empty() || selected == kModelopt,
      "Expected transformer_layer_spec {} with restore_modelopt_state, but got {}; leave one out",
      kDefault, selected);
  const bool is_engine = selected == kFull || selected == kEngine;
  problems.expect(
      config.transformer.transformer_impl != TransformerImpl::local || !is_engine,
      "Expected transformer_impl=transformer_engine with {}, but got local; leave one out",
      name == kDefault ? "use_transformer_engine_full_layer_spec" : name);
}

void check_masks(const GPTModelConfig& config, const std::string& selected, Problems& problems) {
  if (!config.use_arbitrary_attention_mask.value_or(false)) return;
  problems.expect(selected.empty() || selected == kModelopt,
                  "Expected {} (or restore_modelopt_state) with use_arbitrary_attention_mask, but "
                  "got {}, whose attention is causal; leave use_arbitrary_attention_mask out",
                  kModelopt, selected);
  const int64_t ranks = config.transformer.context_parallel_size;
  problems.expect(selected != kModelopt || ranks == 1,
                  "Expected context_parallel_size 1 with use_arbitrary_attention_mask, but got {}; "
                  "split sequences have causal masks: leave use_arbitrary_attention_mask out",
                  ranks);
}

// What a spec of the caller's own has: fields that change the built-in specs do not reach it.
void check_own_spec(const GPTModelConfig& config, Problems& problems) {
  const bool full = config.use_transformer_engine_full_layer_spec,
             fused = config.use_transformer_engine_op_fuser;
  if (!full && !fused) return;
  const std::vector<ModuleSpec> layers = first_layers(config);
  if (layers.empty()) return;
  problems.expect(!full || std::ranges::any_of(layers,
                                               [](const ModuleSpec& layer) {
                                                 return layer.module ==
                                                        "TETransformerLayerAutocast";
                                               }),
                  "Expected a spec of TETransformerLayerAutocast layers with "
                  "use_transformer_engine_full_layer_spec, but got {}; leave one out",
                  layers.front().module);
  const auto is_fused = [](const ModuleSpec& layer) {
    return layer.submodule("mlp").module == "TEFusedMLP";
  };
  problems.expect(
      !fused || std::ranges::any_of(layers, is_fused),
      "Expected a spec with TEFusedMLP with use_transformer_engine_op_fuser, but got {}; "
      "the field changes {} only: leave one out",
      layers.front().submodule("mlp").module, kEngine);
}

void check_op_fuser(const GPTModelConfig& config, const std::string& selected, Problems& problems) {
  if (!config.use_transformer_engine_op_fuser) return;
  problems.expect(selected.empty() || selected == kEngine,
                  "Expected transformer_engine_layer_spec (transformer_impl=transformer_engine) "
                  "with use_transformer_engine_op_fuser, but got {}, whose MLP is no single "
                  "operator; leave use_transformer_engine_op_fuser out",
                  selected);
  const TransformerConfig& t = config.transformer;
  problems.expect(t.has_norms_before() && !t.share_parallel_layernorm,
                  "Expected a norm of the MLP's own input with use_transformer_engine_op_fuser, "
                  "but got {}; leave use_transformer_engine_op_fuser out",
                  t.share_parallel_layernorm ? "share_parallel_layernorm" : "norm_placement=after");
  problems.expect(!t.apply_residual_connection_post_layernorm,
                  "Expected use_transformer_engine_op_fuser or "
                  "apply_residual_connection_post_layernorm, but got both; the fused MLP keeps no "
                  "normalized input: leave one out");
}

}  // namespace

void check_layer_spec(const GPTModelConfig& config, Problems& problems) {
  const std::string name = config.transformer_layer_spec.name();
  Problems of_name;
  if (!name.empty()) of_name.collect([&] { layer_spec_source_from_json(name); });
  if (!of_name.empty()) return problems.append(std::move(of_name));
  const std::string selected = selected_layer_spec(config);
  check_selection(config, selected, problems);
  check_masks(config, selected, problems);
  check_op_fuser(config, selected, problems);
  // The function is called with valid sizes only.
  if (selected.empty() && problems.empty())
    problems.collect([&] { check_own_spec(config, problems); });
}

}  // namespace megatron
