// The checks of overlap and deferral in tensor-parallel layers, with Megatron's rules.
#include "megatron/base/problems.h"
#include "megatron/config/validate/validate.h"

namespace megatron {

void check_tensor_parallel_overlap(const TransformerConfig& t, Problems& problems) {
  problems.expect(!t.tp_comm_overlap || t.sequence_parallel,
                  "Expected --sequence-parallel with --tp-comm-overlap, but got none; leave "
                  "--tp-comm-overlap out (the input gradient's all-reduce overlaps anyway)");
  problems.at_least("--wgrad-deferral-limit", t.wgrad_deferral_limit, 0);
  if (!t.defer_embedding_wgrad_compute) {
    problems.expect(t.wgrad_deferral_limit == 0,
                    "Expected --defer-embedding-wgrad-compute with --wgrad-deferral-limit {}, but "
                    "got none; leave the limit out",
                    t.wgrad_deferral_limit);
    return;
  }
  problems.expect(t.pipeline_model_parallel_size > 1,
                  "Expected --pipeline-model-parallel-size above 1 with "
                  "--defer-embedding-wgrad-compute, but got {}; 2 works, or leave it out",
                  t.pipeline_model_parallel_size);
  problems.expect(
      !t.cross_entropy_loss_fusion || t.cross_entropy_fusion_impl != CrossEntropyFusion::linear,
      "Expected --cross-entropy-fusion-impl native with "
      "--defer-embedding-wgrad-compute, but got linear, whose output layer computes "
      "its gradients in chunks; leave one out");
}

}  // namespace megatron
