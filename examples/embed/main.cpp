// Builds a small GPT, trains it to count (token t is followed by t + 1), and samples from it.
#include <cstdio>

#include <ATen/ATen.h>

#include "megatron/inference/generate.h"
#include "megatron/parallel/launch.h"
#include "megatron/parallel/model_groups.h"
#include "megatron/training/train_step.h"

int main() {
  megatron::Options options;
  options.model.vocab_size = 64;
  options.model.seq_length = 32;
  options.model.transformer.num_layers = 2;
  options.model.transformer.hidden_size = 64;
  options.model.transformer.num_attention_heads = 4;
  options.optimizer.lr = 3e-3;

  // options.launch.nproc = 2 with threads_as_ranks = true trains the same model on two ranks.
  return megatron::launch(options.launch, [&](megatron::RankContext& rank) {
    const auto groups = megatron::make_model_groups(options.model, rank);
    const megatron::GPTModelBuilder builder(options.model, {.device = rank.device});
    megatron::TrainStep step(builder.build_distributed_models(groups, {.ddp_config = options.ddp}),
                             options);

    const int64_t b = 8, s = options.model.seq_length;
    for (int64_t i = 0; i < 60; ++i) {
      const at::Tensor text =
          (at::arange(s + 1, at::kLong) + at::arange(i, i + b, at::kLong).unsqueeze(1))
              .remainder(*options.model.vocab_size);
      const megatron::MicroBatch batch{
          .tokens = text.narrow(1, 0, s).contiguous(),
          .position_ids = at::arange(s, at::kLong).expand({b, s}).contiguous(),
          .labels = text.narrow(1, 1, s).contiguous(),
          .loss_mask = at::ones({b, s}),
          .sample_ordinals = at::arange(i * b, (i + 1) * b, at::kLong)};
      const auto result =
          step.run({batch}, megatron::BatchSharing::whole_microbatches, options.optimizer.lr);
      if (i % 10 == 9) std::printf("step %ld  loss %.3f\n", long(i + 1), result.loss);
    }

    const auto ids = megatron::generate(
        step.chunks(), {.prompt = {5, 6, 7}, .max_new_tokens = 8, .sampling = {.temperature = 0}});
    for (const int64_t id : ids.front()) std::printf("%ld ", long(id));
    std::printf("\n");  // 8 9 10 11 12 13 14 15
    return ids.front() == std::vector<int64_t>{8, 9, 10, 11, 12, 13, 14, 15} ? 0 : 1;
  });
}
