#include "megatron/pipeline/pipeline_forward.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "megatron/base/error.h"
#include "megatron/parallel/model_groups.h"

#include "tests/models/gpt/built_model.h"
#include "tests/parallel/thread_world.h"

namespace megatron {
namespace {

constexpr int64_t kForwardRows = 2, kForwardLength = 8, kForwardMicrobatches = 3;

GPTModelConfig forward_config(int64_t stages, int64_t chunks) {
  GPTModelConfig config;
  config.vocab_size = 32;
  config.make_vocab_size_divisible_by = 8;
  config.should_pad_vocab = true;
  config.share_embeddings_and_output_weights = true;
  config.seq_length = kForwardLength;
  TransformerConfig& transformer = config.transformer;
  transformer.num_layers = 4;
  transformer.hidden_size = 16;
  transformer.num_attention_heads = 2;
  transformer.params_dtype = at::kDouble;
  transformer.hidden_dropout = transformer.attention_dropout = 0.1;
  transformer.pipeline_model_parallel_size = stages;
  if (chunks > 1) transformer.pipeline.virtual_pipeline_model_parallel_size = chunks;
  return config;
}

PipelineMicroBatch forward_microbatch(int64_t index, bool training) {
  const at::Tensor ids = ((at::arange(kForwardRows * kForwardLength, at::kLong) + 5 * index) % 29)
                             .view({kForwardRows, kForwardLength});
  const at::Tensor ordinals =
      at::arange(index * kForwardRows, (index + 1) * kForwardRows, at::kLong);
  return {.input = {.input_ids = ids,
                    .position_ids = at::arange(kForwardLength, at::kLong).expand_as(ids),
                    .labels = (ids + 1) % 32},
          .context = ForwardContext::make(training, /*seed=*/1, ordinals, kForwardLength,
                                          /*sequence_parallel=*/false, /*tp_rank=*/0,
                                          /*tp_size=*/1)};
}

struct ForwardNumbers {
  std::vector<double> losses;           // by micro-batch, on the last stage
  std::map<std::string, double> norms;  // of gradients, by parameter
  int64_t calls = 0;                    // of before_backward
};

ForwardNumbers forward_numbers(int64_t stages, int64_t chunks, bool with_backward,
                               const RankContext& rank) {
  const GPTModelConfig config = forward_config(stages, chunks);
  const auto groups = make_model_groups(config, rank);
  const GPTModelChunks model = build_gpt_model_chunks(config, groups, at::kCPU);
  initialize_weights(model, /*seed=*/11);
  std::vector<PipelineMicroBatch> microbatches;
  for (int64_t i = 0; i < kForwardMicrobatches; ++i)
    microbatches.push_back(forward_microbatch(i, with_backward));
  ForwardNumbers numbers;
  numbers.losses.resize(kForwardMicrobatches);
  run_pipeline_forward(model, microbatches,
                       {.with_backward = with_backward,
                        .on_output =
                            [&](int64_t i, const at::Tensor& token_losses) {
                              EXPECT_EQ(token_losses.requires_grad(), with_backward);
                              numbers.losses[i] = token_losses.sum().item<double>();
                              return token_losses.sum();
                            },
                        .before_backward = [&](int64_t, int) { ++numbers.calls; }});
  for (const ParameterPtr& parameter : parameters_of(model)) {
    if (parameter->data.grad().defined())
      numbers.norms[parameter->name] = parameter->data.grad().norm().item<double>();
  }
  return numbers;
}

TEST(RunPipelineForward, GivesTheLossesAndGradientsOfOneStage) {
  for (const bool with_backward : {false, true}) {
    ForwardNumbers expected;
    run_thread_world(
        1, [&](RankContext& rank) { expected = forward_numbers(1, 1, with_backward, rank); });
    EXPECT_EQ(expected.norms.empty(), !with_backward);
    for (const auto& [stages, chunks] : {std::pair{2, 1}, {2, 2}, {4, 1}}) {
      SCOPED_TRACE(testing::Message() << stages << " stages, " << chunks << " chunks");
      run_thread_world(stages, [&, stages = stages, chunks = chunks](RankContext& rank) {
        const ForwardNumbers ours = forward_numbers(stages, chunks, with_backward, rank);
        EXPECT_EQ(ours.calls, with_backward ? chunks * kForwardMicrobatches : 0);
        for (const auto& [name, norm] : ours.norms) {
          if (name == "output_layer.weight" || name.starts_with("embedding.word"))
            continue;  // tied
          EXPECT_NEAR(norm, expected.norms.at(name), 1e-10) << name;
        }
        if (rank.rank != stages - 1) return;
        for (int64_t i = 0; i < kForwardMicrobatches; ++i)
          EXPECT_NEAR(ours.losses[i], expected.losses[i], 1e-10) << i;
      });
    }
  }
}

TEST(RunPipelineForward, RefusesAnEmptyList) {
  const GPTModelConfig config = forward_config(1, 1);
  const GPTModelChunks model =
      build_gpt_model_chunks(config, ProcessGroupCollection::single_rank(), at::kCPU);
  EXPECT_THROW(run_pipeline_forward(model, {}, {}), Error);
}

}  // namespace
}  // namespace megatron
