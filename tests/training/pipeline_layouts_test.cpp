// Losses, gradients and checkpoints equal those of one rank for every split of the layers into
// stages and chunks.
#include <filesystem>
#include <functional>
#include <gmock/gmock.h>
#include <map>
#include <mutex>
#include <unistd.h>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "megatron/base/error.h"
#include "megatron/config/validate/validate.h"
#include "megatron/models/gpt/gpt_builder.h"
#include "megatron/parallel/model_groups.h"
#include "megatron/training/train_step.h"
#include "megatron/training/training_state.h"

#include "tests/models/gpt/built_model.h"
#include "tests/parallel/thread_world.h"
#include "tests/training/wrapped_models.h"

namespace megatron {
namespace {

struct StageLayout {
  const char* name;
  int world;
  std::function<void(TransformerConfig&)> apply;
  int64_t microbatches = 4;
  friend void PrintTo(const StageLayout& layout, std::ostream* out) { *out << layout.name; }
};

void set_stages(TransformerConfig& config, int64_t stages, int64_t chunks = 1) {
  config.pipeline_model_parallel_size = stages;
  if (chunks > 1) config.pipeline.virtual_pipeline_model_parallel_size = chunks;
}

void set_layout(TransformerConfig& config, int64_t stages, const char* layout) {
  config.pipeline_model_parallel_size = stages;
  config.pipeline.pipeline_model_parallel_layout = layout;
}

const StageLayout kWithoutStages = {"one_rank", 1, [](TransformerConfig&) {}};

const StageLayout kStageLayouts[] = {
    {"pp4", 4, [](TransformerConfig& c) { set_stages(c, 4); }},
    {"pp2_vp2", 2, [](TransformerConfig& c) { set_stages(c, 2, 2); }},
    {"pp2_vp4", 2, [](TransformerConfig& c) { set_stages(c, 2, 4); }},
    {"pp4_vp2", 4, [](TransformerConfig& c) { set_stages(c, 4, 2); }},
    {"pp4_vp2_few_microbatches", 4, [](TransformerConfig& c) { set_stages(c, 4, 2); }, 3},
    {"pp2_vp2_odd_microbatches", 2, [](TransformerConfig& c) { set_stages(c, 2, 2); }, 5},
    {"pp2_vp2_groups_of_3", 2,
     [](TransformerConfig& c) {
       set_stages(c, 2, 2);
       c.pipeline.microbatch_group_size_per_vp_stage = 3;
     },
     6},
    {"pp2_two_layers_a_chunk", 2,
     [](TransformerConfig& c) {
       set_stages(c, 2);
       c.pipeline.num_layers_per_virtual_pipeline_stage = 2;
     }},
    {"pp4_uneven", 4,
     [](TransformerConfig& c) {
       set_stages(c, 4);
       c.pipeline.num_layers_in_first_pipeline_stage = 3;
       c.pipeline.num_layers_in_last_pipeline_stage = 1;
     }},
    {"pp3_counting_the_loss", 3,
     [](TransformerConfig& c) {
       set_stages(c, 3);
       c.pipeline.account_for_loss_in_pipeline_split = true;
     }},
    {"pp4_layout", 4, [](TransformerConfig& c) { set_layout(c, 4, "Ett|t*4|tt|L"); }},
    {"pp2_layout_with_empty_stages", 2,
     [](TransformerConfig& c) { set_layout(c, 2, "E|t*3|tt||t|ttL"); }},
    {"pp3_an_empty_rank", 3, [](TransformerConfig& c) { set_layout(c, 3, "Et*4||t*4L"); }},
    {"pp2_vp2_blocking", 2,
     [](TransformerConfig& c) {
       set_stages(c, 2, 2);
       c.pipeline.overlap_p2p_comm = c.pipeline.deallocate_pipeline_outputs = false;
     }},
    {"tp2_sp_pp2_vp2", 4,
     [](TransformerConfig& c) {
       set_stages(c, 2, 2);
       c.tensor_model_parallel_size = 2;
       c.sequence_parallel = true;
     }},
    {"pp2_vp2_dp2", 4, [](TransformerConfig& c) { set_stages(c, 2, 2); }},
};

Options options_of(bool llama, int64_t depths, const StageLayout& layout) {
  Options options;
  GPTModelConfig& config = options.model;
  config.vocab_size = 48;
  config.should_pad_vocab = false;
  config.seq_length = 16;
  config.share_embeddings_and_output_weights = !llama;
  TransformerConfig& transformer = config.transformer;
  transformer.num_layers = 8;
  transformer.hidden_size = 16;
  transformer.num_attention_heads = 4;
  transformer.params_dtype = at::kDouble;
  transformer.mtp.mtp_num_layers = depths;
  transformer.init_method_std = 0.1;
  if (llama) {
    config.position_embedding_type = PositionEmbeddingType::rope;
    transformer.normalization = Normalization::RMSNorm;
    transformer.gated_linear_unit = true;
    transformer.activation_func = ActivationFunction::silu;
    transformer.add_bias_linear = false;
  }
  options.optimizer.adam_eps = 1e-5;
  layout.apply(transformer);
  return options;
}

// A micro-batch of `rows` samples of `s` tokens.
MicroBatch text_microbatch(int64_t first, int64_t rows, int64_t s) {
  const at::Tensor text =
      ((at::arange(rows * (s + 1), at::kLong) + 97 * first) * 31 % 47).view({rows, s + 1});
  return {.tokens = text.narrow(1, 0, s).contiguous(),
          .position_ids = at::arange(s, at::kLong).expand({rows, s}).contiguous(),
          .labels = text.narrow(1, 1, s).contiguous(),
          .loss_mask = (text.narrow(1, 1, s) % 5 != 0).to(at::kDouble),
          .attention_mask = {},
          .sample_ordinals = at::arange(first, first + rows, at::kLong)};
}

// Stages that read no tokens get none.
MicroBatch as_read_by(const GPTModelChunks& chunks, MicroBatch microbatch) {
  if (std::ranges::any_of(chunks, [](const auto& chunk) { return chunk->reads_tokens(); }))
    return microbatch;
  return {.tokens = {},
          .position_ids = {},
          .labels = {},
          .loss_mask = {},
          .attention_mask = {},
          .sample_ordinals = microbatch.sample_ordinals,
          .sequence_length = microbatch.tokens.size(1)};
}

// Losses and gradient norms of three steps, and the gradients of the first step by name.
struct Trained {
  std::vector<double> numbers;
  std::map<std::string, at::Tensor> gradients;
};

Trained train_steps(const Options& options, const StageLayout& layout, RankContext& rank) {
  const auto groups = make_model_groups(options.model, rank);
  const GPTModelChunks chunks = build_gpt_model_chunks(options.model, groups, rank.device);
  initialize_weights(chunks, options.training.seed);
  TrainStep step(wrapped(chunks, options), options);
  Trained trained;
  const int64_t dp = groups.dp->size(), share = layout.microbatches / dp;
  for (int64_t i = 0; i < 3; ++i) {
    std::vector<MicroBatch> microbatches;
    for (int64_t m = 0; m < share; ++m) {
      const int64_t first = 2 * (i * layout.microbatches + m * dp + groups.dp->rank());
      microbatches.push_back(
          as_read_by(chunks, text_microbatch(first, 2, options.model.seq_length)));
    }
    const auto losses = step.forward_backward(microbatches, BatchSharing::whole_microbatches);
    if (i == 0) {
      for (const ParameterPtr& parameter : step.parameters())
        if (!parameter->shared) trained.gradients[parameter->name] = parameter->main_grad.clone();
    }
    trained.numbers.push_back(losses.loss);
    for (const MtpRecord& depth : losses.mtp) trained.numbers.push_back(depth.loss);
    trained.numbers.push_back(step.optimizer().step(1e-3).grad_norm);
  }
  // Data-parallel ranks evaluate the same rows here, so only the mean can be compared.
  const auto evaluation =
      step.evaluate({as_read_by(chunks, text_microbatch(100, 2, options.model.seq_length))});
  trained.numbers.push_back(evaluation.loss_sum / evaluation.tokens);
  return trained;
}

void expect_as_one_rank(bool llama, int64_t depths, const StageLayout& layout) {
  Trained whole;
  StageLayout alone = kWithoutStages;
  alone.microbatches = layout.microbatches;
  run_thread_world(1, [&](RankContext& rank) {
    whole = train_steps(options_of(llama, depths, alone), alone, rank);
  });
  Options options = options_of(llama, depths, layout);
  validate(options, layout.world, Command::parity);
  std::mutex mutex;
  std::map<std::string, int> seen;
  run_thread_world(layout.world, [&](RankContext& rank) {
    const Trained part = train_steps(options, layout, rank);
    for (size_t i = 0; i < whole.numbers.size(); ++i)
      EXPECT_NEAR(part.numbers.at(i), whole.numbers[i], 1e-10) << "number " << i;
    const GPTModelChunks shapes =
        build_gpt_model_chunks(options.model, make_model_groups(options.model, rank), at::kMeta);
    for (const ParameterPtr& parameter : parameters_of(shapes)) {
      if (parameter->shared) continue;
      const at::Tensor theirs = parameter->local_part(whole.gradients.at(parameter->name));
      const double difference =
          (part.gradients.at(parameter->name) - theirs).abs().max().item<double>();
      EXPECT_LT(difference, 1e-10) << parameter->name;
      const std::lock_guard lock(mutex);
      ++seen[parameter->name];
    }
  });
  EXPECT_EQ(seen.size(), whole.gradients.size());
}

class PipelineLayouts : public testing::TestWithParam<StageLayout> {};

TEST_P(PipelineLayouts, TrainGpt2AsOneRank) {
  expect_as_one_rank(/*llama=*/false, /*depths=*/0, GetParam());
}
TEST_P(PipelineLayouts, TrainLlamaAsOneRank) {
  expect_as_one_rank(/*llama=*/true, /*depths=*/0, GetParam());
}

INSTANTIATE_TEST_SUITE_P(Table, PipelineLayouts, testing::ValuesIn(kStageLayouts),
                         [](const auto& info) { return std::string(info.param.name); });

const StageLayout kMtpLayouts[] = {
    {"pp2_vp2", 2, [](TransformerConfig& c) { set_stages(c, 2, 2); }},
    {"with_the_loss", 4, [](TransformerConfig& c) { set_layout(c, 4, "Et*3|ttt|tt|mmL"); }},
    {"apart", 4, [](TransformerConfig& c) { set_layout(c, 4, "Et*4|t*4|mm|L"); }},
    {"with_layers", 4, [](TransformerConfig& c) { set_layout(c, 4, "Et*3|ttt|ttmm|L"); }},
    {"an_empty_stage_between", 4,
     [](TransformerConfig& c) { set_layout(c, 4, "Et|t|t|t|t*4|mm||L"); }},
    {"tp2_sp_apart", 6, [](TransformerConfig& c) {
       set_layout(c, 3, "Et*8|mm|L");
       c.tensor_model_parallel_size = 2;
       c.sequence_parallel = true;
     }}};

class MtpLayouts : public testing::TestWithParam<StageLayout> {};

TEST_P(MtpLayouts, TrainAsOneRank) {
  expect_as_one_rank(/*llama=*/true, /*depths=*/2, GetParam());
}

INSTANTIATE_TEST_SUITE_P(Table, MtpLayouts, testing::ValuesIn(kMtpLayouts),
                         [](const auto& info) { return std::string(info.param.name); });

// Three stages hold a copy of the tied embedding.
TEST(MtpLayout, OnItsOwnStageWithATiedOutputLayer) {
  const auto run = [](const StageLayout& layout) {
    std::vector<double> numbers;
    run_thread_world(layout.world, [&](RankContext& rank) {
      Options options = options_of(/*llama=*/true, /*depths=*/1, layout);
      options.model.share_embeddings_and_output_weights = true;
      const Trained trained = train_steps(options, layout, rank);
      if (rank.rank == 0) numbers = trained.numbers;
    });
    return numbers;
  };
  const std::vector<double> whole = run(kWithoutStages);
  const std::vector<double> parts =
      run({"apart", 4, [](TransformerConfig& c) { set_layout(c, 4, "Et*4|t*4|m|L"); }});
  ASSERT_EQ(parts.size(), whole.size());
  for (size_t i = 0; i < whole.size(); ++i) EXPECT_NEAR(parts[i], whole[i], 1e-10) << i;
}

// Micro-batches of different lengths need --variable-seq-lengths.
TEST(VariableSequenceLengths, TrainAsOneRankAndAreRefusedWithoutTheOption) {
  const auto losses = [](const StageLayout& layout, bool variable) {
    double loss = 0;
    run_thread_world(layout.world, [&](RankContext& rank) {
      Options options = options_of(/*llama=*/true, /*depths=*/0, layout);
      options.model.transformer.pipeline.variable_seq_lengths = variable;
      const auto groups = make_model_groups(options.model, rank);
      const GPTModelChunks chunks = build_gpt_model_chunks(options.model, groups, rank.device);
      initialize_weights(chunks, 1);
      TrainStep step(wrapped(chunks, options), options);
      std::vector<MicroBatch> microbatches;
      for (const int64_t s : {16, 5, 9, 12}) {
        MicroBatch microbatch = as_read_by(chunks, text_microbatch(s, 2, s));
        microbatch.sequence_length = 0;  // unknown on stages that read no tokens
        microbatches.push_back(std::move(microbatch));
      }
      const auto result = step.run(microbatches, BatchSharing::whole_microbatches, 1e-3);
      if (rank.rank == 0) loss = result.loss + result.grad_norm;
    });
    return loss;
  };
  const StageLayout interleaved = {"pp4_vp2", 4, [](TransformerConfig& c) { set_stages(c, 4, 2); }};
  EXPECT_NEAR(losses(interleaved, true), losses(kWithoutStages, false), 1e-10);
  try {
    losses(interleaved, false);
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(),
                testing::HasSubstr("--variable-seq-lengths accepts different lengths"));
  }
}

// A run saved in one layout continues in another with the same numbers.
TEST(PipelineCheckpoints, LoadIntoEveryOtherLayout) {
  const std::vector<StageLayout> layouts = {kWithoutStages, kStageLayouts[1], kStageLayouts[8],
                                            kStageLayouts[11], kStageLayouts[12]};
  const std::filesystem::path folder =
      std::filesystem::temp_directory_path() / fmt::format("pipeline_layouts_{}", getpid());
  // The loss of the next step.
  const auto train = [&](const StageLayout& layout, const std::string& save,
                         const std::string& load) {
    double loss = 0;
    run_thread_world(layout.world, [&](RankContext& rank) {
      Options options = options_of(/*llama=*/false, /*depths=*/0, layout);
      options.checkpoint.save = save;
      options.checkpoint.load = load;
      const auto groups = make_model_groups(options.model, rank);
      const GPTModelChunks chunks = build_gpt_model_chunks(options.model, groups, rank.device);
      initialize_weights(chunks, load.empty() ? 1 : 2);
      TrainStep step(wrapped(chunks, options), options);
      const auto run = [&](int64_t i) {
        std::vector<MicroBatch> microbatches;
        for (int64_t m = 0; m < 2; ++m)
          microbatches.push_back(as_read_by(chunks, text_microbatch(4 * i + 2 * m, 2, 16)));
        return step.run(microbatches, BatchSharing::whole_microbatches, 1e-2).loss;
      };
      if (load.empty()) {
        for (int64_t i = 0; i < 2; ++i) run(i);
      } else {
        load_training_state(options, rank, chunks, step.optimizer(), "", [](const std::string&) {});
      }
      if (!save.empty()) save_training_state(options, rank, chunks, step.optimizer(), {2, 8}, "");
      const double after = run(2);
      if (rank.rank == 0) loss = after;
    });
    return loss;
  };
  for (const StageLayout& saved : layouts) {
    const std::string path = (folder / saved.name).string();
    const double expected = train(saved, path, "");
    for (const StageLayout& loaded : layouts)
      EXPECT_NEAR(train(loaded, "", path), expected, 1e-10) << saved.name << " -> " << loaded.name;
  }
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace megatron
