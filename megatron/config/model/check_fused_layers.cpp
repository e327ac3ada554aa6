// Checks of the overlaps of single linear layers.
#include "megatron/base/problems.h"
#include "megatron/config/model/model_checks.h"
#include "megatron/config/model/tp_comm_overlap_entries.h"

namespace megatron {
namespace {

void check_tp_comm_overlap_cfg(const GPTModelConfig& config, Problems& problems) {
  if (!config.tp_comm_overlap_cfg.is_set()) return;
  const TransformerConfig& t = config.transformer;
  problems.expect(t.tp_comm_overlap,
                  "Expected tp_comm_overlap with tp_comm_overlap_cfg, but got none; give both or "
                  "neither");
  problems.collect([&] {
    const TpOverlaps overlaps = tp_overlaps(config.tp_comm_overlap_cfg);
    problems.expect(
        !t.mla.multi_latent_attention || overlaps.at("qkv") == LinearOverlap::of_column_parallel(),
        "Expected proj, fc1 or fc2 in tp_comm_overlap_cfg with multi_latent_attention, "
        "but got qkv; it has no linear_qkv, and its projections keep the defaults");
    problems.expect(t.has_dense_layer() || t.moe.moe_shared_expert_intermediate_size ||
                        (overlaps.at("fc1") == LinearOverlap::of_column_parallel() &&
                         overlaps.at("fc2") == LinearOverlap::of_row_parallel()),
                    "Expected qkv or proj in tp_comm_overlap_cfg of a model whose layers all have "
                    "experts and no shared ones, but got fc1 or fc2; it has no linear_fc1");
    const int64_t ranks = t.tensor_model_parallel_size * t.context_parallel_size;
    const int64_t most = ranks > 0 ? config.seq_length / ranks : config.seq_length;
    for (const auto& [name, entry] : tp_overlap_entries(config.tp_comm_overlap_cfg)) {
      problems.expect(entry.num_splits.value_or(1) <= most,
                      "Expected num_splits of at most {} for {} in tp_comm_overlap_cfg, the tokens "
                      "of a rank's shard of the sequence, but got {}",
                      most, name, entry.num_splits.value_or(1));
    }
  });
}

}  // namespace

void check_fused_layers(const GPTModelConfig& config, Problems& problems) {
  check_tp_comm_overlap_cfg(config, problems);
}

}  // namespace megatron
