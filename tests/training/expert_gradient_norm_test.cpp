// The gradient norm counts every parameter once, in every grid of dense layers and experts.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "megatron/parallel/model_groups.h"
#include "megatron/training/train_step.h"
#include "megatron/training/training_models.h"

#include "tests/parallel/thread_world.h"

namespace megatron {
namespace {

struct NormGrid {
  int tp, pp, dp, ep, etp;
  bool zero1 = false;
};

Options expert_options(const NormGrid& grid) {
  Options options;
  GPTModelConfig& model = options.model;
  model.vocab_size = 64;
  model.should_pad_vocab = false;
  model.share_embeddings_and_output_weights = false;
  model.seq_length = 16;
  TransformerConfig& t = model.transformer;
  t.num_layers = 4;
  t.hidden_size = 16;
  t.num_attention_heads = 4;
  t.tensor_model_parallel_size = grid.tp;
  t.sequence_parallel = grid.tp > 1;
  t.pipeline_model_parallel_size = grid.pp;
  t.expert_model_parallel_size = grid.ep;
  t.moe.expert_tensor_parallel_size = grid.etp;
  t.moe.num_moe_experts = 8;
  // One pipeline stage of two has experts in its second layer only.
  t.moe.moe_layer_freq = {0, 1, 1, 1};
  t.moe.moe_shared_expert_intermediate_size = 16;
  options.ddp.use_distributed_optimizer = grid.zero1;
  return options;
}

TEST(ExpertGradientNorm, OfOnesIsTheRootOfTheNumberOfParameters) {
  for (const NormGrid& grid :
       {NormGrid{1, 1, 1, 1, 1}, NormGrid{1, 1, 2, 2, 1}, NormGrid{2, 1, 1, 1, 2},
        NormGrid{2, 1, 1, 2, 1}, NormGrid{2, 1, 1, 1, 1}, NormGrid{1, 1, 2, 1, 2},
        NormGrid{2, 1, 2, 2, 2}, NormGrid{2, 1, 2, 4, 1}, NormGrid{1, 2, 2, 2, 1},
        NormGrid{1, 1, 4, 2, 2, true}, NormGrid{2, 1, 2, 2, 1, true}, NormGrid{2, 2, 2, 2, 1, true},
        NormGrid{4, 1, 2, 8, 1}, NormGrid{4, 1, 2, 1, 8}, NormGrid{2, 2, 2, 4, 1}}) {
    SCOPED_TRACE(fmt::format("tp {} pp {} dp {} ep {} etp {}{}", grid.tp, grid.pp, grid.dp, grid.ep,
                             grid.etp, grid.zero1 ? " zero1" : ""));
    const Options options = expert_options(grid);
    const double expected = std::sqrt(double(count_parameters(options.model)));
    run_thread_world(grid.tp * grid.pp * grid.dp, [&](RankContext& rank) {
      const ProcessGroupCollection groups = make_model_groups(options.model, rank);
      TrainStep step(build_training_models(options, groups, rank), options);
      for (OptimizerState& state : step.optimizer().states()) {
        const at::NoGradGuard no_grad;
        state.slice.main_grad.fill_(1);
      }
      EXPECT_EQ(step.optimize(/*learning_rate=*/0).grad_norm, expected);
    });
  }
}

}  // namespace
}  // namespace megatron
