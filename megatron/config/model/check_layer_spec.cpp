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

// Whether the condition holds for the spec or one inside it.
template <typename Condition>
bool any_module(const ModuleSpec& spec, const Condition& condition) {
  return condition(spec) || std::ranges::any_of(spec.submodules, [&](const auto& slot) {
           return any_module(slot.second, condition);
         });
}

// What a spec of the caller's own has: fields that change the built-in specs do not reach it, so it
// must have what they ask for. Modules of the caller's own may have it in their own way.
class OwnSpecCheck {
 public:
  OwnSpecCheck(const GPTModelConfig& config, Problems& problems)
      : config_(config), problems_(problems), layers_(first_layers(config)) {}

  void run() {
    if (layers_.empty()) return;
    check_full_layer();
    check_op_fuser();
    check_backend();
    check_attention();
    check_experts();
  }

 private:
  template <typename Condition>
  bool any(const Condition& condition) const {
    return std::ranges::any_of(
        layers_, [&](const ModuleSpec& layer) { return any_module(layer, condition); });
  }
  bool has(std::string_view module) const {
    return any([module](const ModuleSpec& spec) { return spec.module == module; });
  }
  std::string mlp() const { return layers_.front().submodule("mlp").module; }

  void check_full_layer() {
    problems_.expect(
        !config_.use_transformer_engine_full_layer_spec || has("TETransformerLayerAutocast"),
        "Expected a spec of TETransformerLayerAutocast layers with "
        "use_transformer_engine_full_layer_spec, but got {}; leave one out",
        layers_.front().module);
  }

  void check_op_fuser() {
    problems_.expect(
        !config_.use_transformer_engine_op_fuser || has("TEFusedMLP"),
        "Expected a spec with TEFusedMLP with use_transformer_engine_op_fuser, but got {}; "
        "the field changes {} only: leave one out",
        mlp(), kEngine);
  }

  void check_backend() {
    const auto is_fused = [](const ModuleSpec& spec) {
      return spec.module == "TELayerNormColumnParallelLinear" || spec.module == "TEFusedMLP" ||
             spec.module == "TETransformerLayerAutocast";
    };
    problems_.expect(!config_.restore_modelopt_state || !any(is_fused),
                     "Expected a spec of separate norms and linears with restore_modelopt_state, "
                     "but got fused modules; {} works",
                     kModelopt);
    problems_.expect(
        config_.transformer.transformer_impl != TransformerImpl::local || !any(is_fused),
        "Expected a spec of separate norms and linears with transformer_impl=local, but got fused "
        "modules; leave one out");
  }

  void check_attention() {
    const auto is_attention = [](const ModuleSpec& spec) {
      return spec.module == "SelfAttention" || spec.module == "MLASelfAttention";
    };
    if (!any(is_attention)) return;
    const auto is_arbitrary = [&](const ModuleSpec& spec) {
      const auto type = spec.params.find("attn_mask_type");
      return is_attention(spec) && type != spec.params.end() &&
             type->second == SpecParameter(std::string("arbitrary"));
    };
    problems_.expect(!config_.use_arbitrary_attention_mask.value_or(false) || any(is_arbitrary),
                     "Expected a spec with attn_mask_type arbitrary with "
                     "use_arbitrary_attention_mask, but got none; leave one out");
    const auto normalizes = [&](const ModuleSpec& spec) {
      return is_attention(spec) && !spec.submodule("q_layernorm").is_identity();
    };
    problems_.expect(!config_.transformer.qk_layernorm || any(normalizes),
                     "Expected a spec with q_layernorm with qk_layernorm, but got none; leave one "
                     "out");
  }

  void check_experts() {
    const MoeConfig& moe = config_.transformer.moe;
    const bool is_dense = std::ranges::all_of(layers_, [](const ModuleSpec& layer) {
      const std::string mlp = layer.submodule("mlp").module;
      return mlp == "MLP" || mlp == "TEFusedMLP";
    });
    bool wants_experts = false;  // of one of the layers
    for (size_t i = 0; i < layers_.size(); ++i)
      wants_experts = wants_experts || moe.is_moe_layer(static_cast<int64_t>(i) + 1);
    problems_.expect(!wants_experts || !is_dense,
                     "Expected a spec with MoELayer with num_moe_experts, but got {}; leave "
                     "num_moe_experts out",
                     mlp());
  }

  const GPTModelConfig& config_;
  Problems& problems_;
  const std::vector<ModuleSpec> layers_;  // of the first chunk
};

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
  problems.expect(t.has_dense_layer(),
                  "Expected a dense layer with use_transformer_engine_op_fuser, but all {} layers "
                  "have experts, whose products are one operator anyway; leave "
                  "use_transformer_engine_op_fuser out",
                  t.num_layers);
  problems.expect(!t.apply_residual_connection_post_layernorm,
                  "Expected use_transformer_engine_op_fuser or "
                  "apply_residual_connection_post_layernorm, but got both; the fused MLP keeps no "
                  "normalized input: leave one out");
}

// FP8 is in the linear layers of Transformer Engine's specs. A spec of the caller's own is checked
// when its modules are built.
void check_low_precision_spec(const GPTModelConfig& config, const std::string& selected,
                              Problems& problems) {
  if (!config.transformer.low_precision.is_used()) return;
  problems.expect(selected.empty() || selected == kEngine || selected == kFull,
                  "Expected {} (transformer_impl=transformer_engine) with fp8, but got {}, whose "
                  "linear layers are in high precision; leave one out",
                  kEngine, selected);
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
  check_low_precision_spec(config, selected, problems);
  // The function is called with valid sizes only.
  if (selected.empty() && problems.empty())
    problems.collect([&] { OwnSpecCheck(config, problems).run(); });
}

}  // namespace megatron
