// Checks of the fused MLP and of the overlaps of single linear layers.
#include "megatron/base/problems.h"
#include "megatron/config/model/model_checks.h"

namespace megatron {
namespace {

// The layer spec function that the configuration selects; empty for one that is not built in.
std::string selected_layer_spec(const GPTModelConfig& config) {
  const std::string name = config.transformer_layer_spec.name();
  if (name != "default_layer_spec") return name;
  if (config.restore_modelopt_state) return "modelopt_transformer_layer_spec";
  if (config.use_transformer_engine_full_layer_spec) return "transformer_engine_full_layer_spec";
  return config.transformer.transformer_impl == TransformerImpl::local
             ? "local_layer_spec"
             : "transformer_engine_layer_spec";
}

void check_op_fuser(const GPTModelConfig& config, Problems& problems) {
  if (!config.use_transformer_engine_op_fuser) return;
  const std::string spec = selected_layer_spec(config);
  const bool has_no_op_fuser = spec == "local_layer_spec" ||
                               spec == "modelopt_transformer_layer_spec" ||
                               spec == "transformer_engine_full_layer_spec";
  problems.expect(!has_no_op_fuser,
                  "Expected transformer_engine_layer_spec (transformer_impl=transformer_engine) "
                  "with use_transformer_engine_op_fuser, but got {}, whose MLP is no single "
                  "operator; leave use_transformer_engine_op_fuser out",
                  spec);
  problems.expect(!config.transformer.apply_residual_connection_post_layernorm,
                  "Expected use_transformer_engine_op_fuser or "
                  "apply_residual_connection_post_layernorm, but got both; the fused MLP keeps no "
                  "normalized input: leave one out");
}

void check_tp_comm_overlap_cfg(const GPTModelConfig& config, Problems& problems) {
  if (!config.tp_comm_overlap_cfg.is_set()) return;
  const TransformerConfig& t = config.transformer;
  problems.expect(t.tp_comm_overlap,
                  "Expected tp_comm_overlap with tp_comm_overlap_cfg, but got none; give both or "
                  "neither");
  problems.collect([&] {
    const int64_t ranks = t.tensor_model_parallel_size * t.context_parallel_size;
    const int64_t most = ranks > 0 ? config.seq_length / ranks : config.seq_length;
    for (const auto& [linear, overlap] : tp_overlaps(config.tp_comm_overlap_cfg)) {
      const int64_t splits = std::max(overlap.fprop.num_splits, overlap.dgrad.num_splits);
      const int64_t initial = std::max(LinearOverlap::of_row_parallel().fprop.num_splits, most);
      problems.expect(splits <= initial,
                      "Expected num_splits of at most {} for {} in tp_comm_overlap_cfg, the tokens "
                      "of a rank's shard of the sequence, but got {}",
                      most, linear, splits);
    }
  });
}

}  // namespace

void check_fused_layers(const GPTModelConfig& config, Problems& problems) {
  check_op_fuser(config, problems);
  check_tp_comm_overlap_cfg(config, problems);
}

}  // namespace megatron
