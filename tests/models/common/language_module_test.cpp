// LanguageModule as the base of a model other than GPT: a bag-of-words language model with tied
// weights, trained in several layouts.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "megatron/data_parallel/gradient_buffer.h"
#include "megatron/data_parallel/shared_gradients.h"
#include "megatron/models/common/initialize_weights.h"
#include "megatron/optimizer/optimizer.h"
#include "megatron/parallel/collectives.h"
#include "megatron/parallel/model_groups.h"
#include "megatron/pipeline/executor.h"

#include "tests/parallel/thread_world.h"

namespace megatron {
namespace {

constexpr int64_t kBagRows = 8, kBagTokens = 6, kBagVocabulary = 24;

// The logits of a position come from the mean embedding of the tokens up to it. With two pipeline
// stages, the first holds the embedding and the last the output layer.
class BagOfWordsModel : public LanguageModule {
 public:
  BagOfWordsModel(const GPTModelConfig& config, const PipelineStage& stage,
                  const ProcessGroupCollection& groups)
      : LanguageModule(config, stage, groups, at::TensorOptions().dtype(at::kFloat)) {
    if (stage.pre_process) {
      embedding_ =
          register_module("embedding", std::make_shared<LanguageModelEmbedding>(config, options_));
    }
    if (stage.post_process) output_layer_ = register_module("output_layer", make_output_layer());
    setup_embeddings_and_output_layer();
    assign_names();
  }

  // The loss per token [b, s] on the last stage, else hidden states [s, b, h].
  at::Tensor forward(const at::Tensor& ids, const at::Tensor& labels, const at::Tensor& input,
                     const ForwardContext& context) const {
    at::Tensor bag = input;
    if (stage_.pre_process) {
      const at::Tensor words = at::arange(1, ids.size(1) + 1, at::kFloat).view({-1, 1, 1});
      bag = embedding_->forward(ids, {}, context).cumsum(0) / words;
    }
    if (!stage_.post_process) return bag;
    const ParameterPtr tied =
        output_layer_->weight() ? nullptr : shared_embedding_or_output_weight();
    return compute_language_model_loss(
        labels, scale_logits(output_layer_->forward(bag, tied, /*gather_output=*/false)));
  }
};

GPTModelConfig bag_config(int64_t tp, int64_t pp) {
  GPTModelConfig config;
  config.vocab_size = kBagVocabulary;
  config.make_vocab_size_divisible_by = 4;
  config.should_pad_vocab = true;
  config.share_embeddings_and_output_weights = true;
  config.seq_length = kBagTokens;
  config.position_embedding_type = PositionEmbeddingType::none;
  config.transformer.num_layers = 1;
  config.transformer.hidden_size = 16;
  config.transformer.num_attention_heads = 1;
  config.transformer.init_method_std = 0.1;
  config.transformer.hidden_dropout = config.transformer.attention_dropout = 0;
  config.transformer.tensor_model_parallel_size = tp;
  config.transformer.pipeline_model_parallel_size = pp;
  return config;
}

// Mean losses of ten steps, on the last stage.
std::vector<double> train_bag(int64_t tp, int64_t pp, const RankContext& rank) {
  const GPTModelConfig config = bag_config(tp, pp);
  const ProcessGroupCollection groups = make_model_groups(config.transformer, rank);
  BagOfWordsModel model(config,
                        {.rank = groups.pp->rank(),
                         .size = groups.pp->size(),
                         .pre_process = groups.pp->is_first(),
                         .post_process = groups.pp->is_last()},
                        groups);
  initialize_weights(model, 3);
  GradientBuffer gradients(model.parameters(), {}, 1);
  OptimizerConfig optimizer_config;
  optimizer_config.lr = 0.05;
  optimizer_config.adam_eps = 1e-5;
  Optimizer optimizer(optimizer_config, model.parameters(), groups);

  // The next token equals the tokens before it.
  const at::Tensor ids = (at::arange(kBagRows, at::kLong) * 3)
                             .unsqueeze(1)
                             .expand({kBagRows, kBagTokens})
                             .contiguous();
  std::vector<double> losses;
  for (int step = 0; step < 10; ++step) {
    gradients.zero();
    run_schedule(
        make_schedule({.stages = groups.pp->size()}), *groups.pp,
        {.empty_input =
             [&](int64_t, int) {
               return at::empty({kBagTokens, kBagRows, config.transformer.hidden_size},
                                model.activation_options());
             },
         .forward =
             [&](int64_t, int, const at::Tensor& input) {
               const at::Tensor output = model.forward(
                   ids, ids, input,
                   ForwardContext::make(true, 0, at::arange(kBagRows, at::kLong), kBagTokens, false,
                                        groups.tp->rank(), groups.tp->size()));
               if (!model.stage().post_process) return output;
               losses.push_back(output.mean().item<double>());
               return output.mean();
             }});
    finalize_shared_gradients(full_slices(model.parameters()), groups);
    optimizer.step(optimizer_config.lr);
  }

  // The copies of the tied embedding stay equal.
  if (const ParameterPtr weight = model.shared_embedding_or_output_weight(); pp > 1) {
    const at::Tensor copies = groups.embd->all_gather(weight->data.detach());
    EXPECT_TRUE(copies.narrow(0, 0, weight->data.size(0))
                    .equal(copies.narrow(0, weight->data.size(0), weight->data.size(0))));
  }
  const ShardedStateDict state = model.sharded_state_dict();
  EXPECT_EQ(state.size(), 1);
  EXPECT_EQ(state.at(0).key, "embedding.word_embeddings.weight");
  return losses;
}

TEST(LanguageModule, TrainsABagOfWordsModel) {
  std::vector<double> expected;
  run_thread_world(1, [&](RankContext& rank) { expected = train_bag(1, 1, rank); });
  ASSERT_EQ(expected.size(), 10);
  EXPECT_NEAR(expected.front(), std::log(double(kBagVocabulary)), 0.3);
  EXPECT_LT(expected.back(), 0.5 * expected.front());
  for (const auto& [tp, pp] : {std::pair<int64_t, int64_t>{2, 1}, {1, 2}, {2, 2}}) {
    run_thread_world(static_cast<int>(tp * pp), [&](RankContext& rank) {
      const std::vector<double> ours = train_bag(tp, pp, rank);
      for (size_t i = 0; i < ours.size(); ++i)
        EXPECT_NEAR(ours[i], expected[i], 1e-5) << "step " << i << " tp " << tp << " pp " << pp;
    });
  }
}

}  // namespace
}  // namespace megatron
