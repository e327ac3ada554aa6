// Context parallelism equals one rank in losses, gradient norms and gradients, with dropout and
// uneven loss masks.
#include <map>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "megatron/config/model/enum_names.h"
#include "megatron/context_parallel/zigzag.h"
#include "megatron/models/gpt/gpt_builder.h"
#include "megatron/parallel/model_groups.h"
#include "megatron/training/train_step.h"
#include "megatron/transformer/static_inference_context.h"

#include "tests/models/gpt/built_model.h"
#include "tests/ops/op_test.h"
#include "tests/parallel/thread_world.h"
#include "tests/training/wrapped_models.h"

namespace megatron {
namespace {

struct CpLayout {
  const char* name;
  int world;
  int64_t cp, tp = 1, pp = 1;
  bool sequence_parallel = false;
};

constexpr CpLayout kCpOneRank = {"one_rank", 1, 1};
constexpr CpLayout kCpLayouts[] = {{"cp2", 2, 2},
                                   {"cp4", 4, 4},
                                   {"cp2_tp2", 4, 2, 2},
                                   {"cp2_tp2_sp", 4, 2, 2, 1, true},
                                   {"cp2_pp2", 4, 2, 1, 2},
                                   {"cp2_dp2", 4, 2},
                                   {"cp2_tp2_sp_pp2", 8, 2, 2, 2, true}};

struct CpModel {
  const char* name;
  void (*apply)(GPTModelConfig&);
};

void cp_use_rope(GPTModelConfig& c) {
  c.position_embedding_type = PositionEmbeddingType::rope;
  c.transformer.normalization = Normalization::RMSNorm;
  c.transformer.gated_linear_unit = true;
}

const CpModel kCpModels[] = {
    {"gpt2", [](GPTModelConfig&) {}},
    {"gpt2_per_token", [](GPTModelConfig& c) { c.transformer.calculate_per_token_loss = true; }},
    {"llama_window",
     [](GPTModelConfig& c) {
       cp_use_rope(c);
       c.transformer.num_query_groups = 2;
       c.transformer.window_size = {5, 0};
       c.transformer.window_attn_skip_freq = {2};
     }},
    {"mqa_sinks_recomputed",
     [](GPTModelConfig& c) {
       cp_use_rope(c);
       c.transformer.num_query_groups = 1;
       c.transformer.softmax_type = SoftmaxType::learnable;
       c.transformer.recompute.recompute_granularity = RecomputeGranularity::selective;
       c.transformer.recompute.recompute_modules = {"core_attn"};
     }},
    {"unfused_mrope",
     [](GPTModelConfig& c) {
       cp_use_rope(c);
       c.position_embedding_type = PositionEmbeddingType::mrope;
       c.transformer.mrope_section = {2, 1, 1};
       c.transformer.attention_backend = AttentionBackend::unfused;
     }},
    {"latent",
     [](GPTModelConfig& c) {
       cp_use_rope(c);
       c.transformer.qk_layernorm = true;
       c.transformer.mla = {.multi_latent_attention = true,
                            .q_lora_rank = 12,
                            .kv_lora_rank = 16,
                            .qk_head_dim = 8,
                            .qk_pos_emb_head_dim = 4,
                            .v_head_dim = 6};
     }},
    {"mtp",
     [](GPTModelConfig& c) {
       c.transformer.mtp.mtp_num_layers = 2;
       c.transformer.mtp.mtp_loss_scaling_factor = 0.5;
     }},
};

Options cp_options(const CpModel& model, const CpLayout& layout, CpCommType comm_type,
                   at::ScalarType dtype) {
  Options options;
  GPTModelConfig& config = options.model;
  config.vocab_size = 48;
  config.should_pad_vocab = false;
  config.seq_length = 16;
  TransformerConfig& t = config.transformer;
  t.num_layers = 2;
  t.hidden_size = 32;
  t.num_attention_heads = 4;
  t.params_dtype = dtype;
  t.hidden_dropout = t.attention_dropout = 0.1;
  t.init_method_std = 0.1;
  t.tensor_model_parallel_size = layout.tp;
  t.pipeline_model_parallel_size = layout.pp;
  t.context_parallel_size = layout.cp;
  t.cp_comm_type = layout.cp == 1 ? CpCommType::p2p : comm_type;
  t.sequence_parallel = layout.sequence_parallel;
  model.apply(config);
  options.optimizer.adam_eps = 1e-5;
  return options;
}

constexpr int64_t kCpMicrobatches = 2, kCpRows = 2;

// The second half of the first micro-batch is masked, so that only some ranks have a loss.
MicroBatch cp_microbatch(const GPTModelConfig& config, int64_t step, int64_t index) {
  const int64_t first = (step * kCpMicrobatches + index) * kCpRows, s = config.seq_length;
  const at::Tensor text =
      ((at::arange(kCpRows * (s + 1), at::kLong) + 97 * first) * 31 % 47 % *config.vocab_size)
          .view({kCpRows, s + 1});
  at::Tensor mask = (text.narrow(1, 1, s) % 5 != 0).to(at::kDouble);
  if (index == 0) mask.narrow(1, s / 2, s / 2).zero_();
  return {.tokens = text.narrow(1, 0, s).contiguous(),
          .position_ids = at::arange(s, at::kLong).expand({kCpRows, s}).contiguous(),
          .labels = text.narrow(1, 1, s).contiguous(),
          .loss_mask = mask,
          .attention_mask = {},
          .sample_ordinals = at::arange(first, first + kCpRows, at::kLong)};
}

// Main and MTP losses, gradient norms, and an evaluation.
struct CpNumbers {
  std::vector<double> scalars;
  std::map<std::string, at::Tensor> gradients;  // of the first step
};

CpNumbers cp_numbers(const Options& options, const RankContext& rank,
                     const CpNumbers* expected = nullptr, double tolerance = 0) {
  const auto groups = make_model_groups(options.model.transformer, rank);
  const auto model = build_gpt_model(options.model, groups, rank.device);
  initialize_weights(*model, options.training.seed);
  TrainStep step(wrapped(model, options), options);
  CpNumbers numbers;
  const int64_t dp = groups.dp->size();
  std::vector<MicroBatch> microbatches;
  for (int64_t i = 0; i < 3; ++i) {
    microbatches.clear();
    for (int64_t m = groups.dp->rank(); m < kCpMicrobatches; m += dp)
      microbatches.push_back(cp_microbatch(options.model, i, m));
    const auto result = step.run(microbatches, BatchSharing::whole_microbatches, 1e-3);
    numbers.scalars.insert(numbers.scalars.end(), {result.loss, result.grad_norm});
    for (const MtpRecord& depth : result.mtp)
      numbers.scalars.insert(numbers.scalars.end(), {depth.loss, depth.tokens});
    if (i > 0) continue;
    for (const ParameterPtr& parameter : step.parameters()) {
      const at::Tensor gradient = parameter->main_grad.detach().clone();
      if (expected == nullptr) {
        numbers.gradients[parameter->name] = gradient;
      } else if (!parameter->shared) {
        const double difference =
            (gradient - parameter->local_part(expected->gradients.at(parameter->name)))
                .abs()
                .max()
                .item<double>();
        EXPECT_LE(difference, tolerance) << parameter->name;
      }
    }
  }
  const auto evaluated = step.evaluate(microbatches);
  numbers.scalars.insert(numbers.scalars.end(), {evaluated.loss_sum, evaluated.tokens});
  return numbers;
}

void expect_cp_as_one_rank(const CpModel& model, const CpLayout& layout, CpCommType comm_type,
                           at::ScalarType dtype, double tolerance) {
  CpNumbers expected;
  run_thread_world(1, [&](RankContext& rank) {
    expected = cp_numbers(cp_options(model, kCpOneRank, comm_type, dtype), rank);
  });
  run_thread_world(layout.world, [&](RankContext& rank) {
    const CpNumbers ours =
        cp_numbers(cp_options(model, layout, comm_type, dtype), rank, &expected, tolerance);
    ASSERT_EQ(ours.scalars.size(), expected.scalars.size());
    for (size_t i = 0; i < expected.scalars.size(); ++i) {
      EXPECT_NEAR(ours.scalars[i], expected.scalars[i],
                  tolerance * std::max(1.0, std::abs(expected.scalars[i])))
          << "number " << i;
    }
  });
}

constexpr CpCommType kCommTypes[] = {CpCommType::p2p, CpCommType::a2a, CpCommType::allgather};

class ContextParallelLayouts
    : public testing::TestWithParam<std::tuple<CpModel, CpLayout, CpCommType>> {};

TEST_P(ContextParallelLayouts, EqualOneRank) {
  const auto& [model, layout, comm_type] = GetParam();
  expect_cp_as_one_rank(model, layout, comm_type, at::kDouble, 1e-10);
  expect_cp_as_one_rank(model, layout, comm_type, at::kFloat, 1e-5);
}

INSTANTIATE_TEST_SUITE_P(Table, ContextParallelLayouts,
                         testing::Combine(testing::ValuesIn(kCpModels),
                                          testing::ValuesIn(kCpLayouts),
                                          testing::ValuesIn(kCommTypes)),
                         [](const auto& info) {
                           return fmt::format("{}_{}_{}", std::get<0>(info.param).name,
                                              std::get<1>(info.param).name,
                                              enum_name(std::get<2>(info.param)));
                         });

// Within the rounding of bf16, which has 8 significant bits.
TEST(ContextParallelBf16, IsCloseToOneRank) {
  for (const CpCommType comm_type : kCommTypes)
    expect_cp_as_one_rank(kCpModels[2], kCpLayouts[0], comm_type, at::kBFloat16, 3e-2);
}

class ContextParallelForward : public testing::Test {
 protected:
  static constexpr int64_t kTokens = 32;

  static Options options(int64_t cp, CpCommType comm_type) {
    Options options = cp_options(kCpModels[2], {"", 0, cp}, comm_type, at::kDouble);
    options.model.seq_length = kTokens;
    return options;
  }

  // One row.
  static GPTModelInput row() {
    const at::Tensor text = (at::arange(kTokens + 1, at::kLong) * 31 % 47).view({1, kTokens + 1});
    return {.input_ids = text.narrow(1, 0, kTokens).contiguous(),
            .position_ids = at::arange(kTokens, at::kLong).view({1, kTokens}),
            .labels = text.narrow(1, 1, kTokens).contiguous()};
  }

  // Losses [1, s] of the full row times `counts`, and the parameters' gradients of their sum,
  // computed by a rank of the context-parallel group.
  static std::vector<at::Tensor> losses_and_gradients(const Options& options,
                                                      const RankContext& rank,
                                                      const GPTModelInput& full_row,
                                                      const at::Tensor& counts) {
    const auto groups = make_model_groups(options.model.transformer, rank);
    const auto model = build_gpt_model(options.model, groups, at::kCPU);
    initialize_weights(*model, 5);
    for (const ParameterPtr& parameter : model->parameters())
      parameter->main_grad = at::zeros_like(parameter->data);
    const SequenceSplit split{kTokens, groups.cp->size(),
                              full_row.packed_seq_params
                                  ? full_row.packed_seq_params->checked_offsets(kTokens)
                                  : at::Tensor()};
    const at::Tensor positions = zigzag_positions(split, groups.cp->rank());
    GPTModelInput input = full_row;
    for (at::Tensor* tensor : {&input.input_ids, &input.position_ids, &input.labels})
      *tensor = tensor->index_select(1, positions);
    const at::Tensor losses = model->forward(
        input, ForwardContext::make(/*training=*/true, 3, at::arange(1, at::kLong), positions,
                                    /*sequence_parallel=*/false, 0, 1));
    (losses * counts.index_select(1, positions)).sum().backward();
    const at::Tensor gathered = groups.cp->all_gather(losses.detach().t().contiguous());
    std::vector<at::Tensor> results = {
        gathered.index_select(0, inverse_permutation(gathered_positions(split))).t() * counts};
    for (const ParameterPtr& parameter : model->parameters()) {
      groups.cp->all_reduce(parameter->main_grad);
      results.push_back(parameter->main_grad.clone());
    }
    return results;
  }

  static void expect_as_one_rank(const GPTModelInput& full_row,
                                 const at::Tensor& counts = at::ones({1, kTokens}, at::kDouble)) {
    std::vector<at::Tensor> expected;
    run_thread_world(1, [&](RankContext& rank) {
      expected = losses_and_gradients(options(1, CpCommType::p2p), rank, full_row, counts);
    });
    for (const CpCommType comm_type : kCommTypes) {
      for (const int ranks : {2, 4}) {
        run_thread_world(ranks, [&](RankContext& rank) {
          const auto ours = losses_and_gradients(options(ranks, comm_type), rank, full_row, counts);
          for (size_t i = 0; i < expected.size(); ++i) {
            test::expect_close(
                ours[i], expected[i], 1e-10,
                fmt::format("{} over {}, result {}", enum_name(comm_type), ranks, i));
          }
        });
      }
    }
  }
};

TEST_F(ContextParallelForward, PackedSequencesEqualOneRank) {
  GPTModelInput input = row();
  input.packed_seq_params = PackedSeqParams{.cu_seqlens_q = at::tensor({0, 8, 24, 32}, at::kInt)};
  expect_as_one_rank(input);
}

// Sequences of 5, 9 and 8 tokens, padded to multiples of 2 x cp.
TEST_F(ContextParallelForward, PaddedPackedSequencesEqualOneRank) {
  GPTModelInput input = row();
  input.packed_seq_params =
      PackedSeqParams{.cu_seqlens_q = at::tensor({0, 5, 14, 22}, at::kInt),
                      .cu_seqlens_q_padded = at::tensor({0, 8, 24, 32}, at::kInt)};
  at::Tensor counts = at::ones({1, kTokens}, at::kDouble);
  counts.narrow(1, 5, 3).zero_();
  counts.narrow(1, 17, 7).zero_();
  expect_as_one_rank(input, counts);
}

TEST_F(ContextParallelForward, AttentionMaskEqualsOneRank) {
  GPTModelInput input = row();
  const at::Tensor index = at::arange(kTokens, at::kLong), block = index.div(12, "floor");
  input.attention_mask = index.unsqueeze(0)
                             .gt(index.unsqueeze(1))
                             .logical_or(block.unsqueeze(0) != block.unsqueeze(1))
                             .view({1, 1, kTokens, kTokens});
  expect_as_one_rank(input);
}

TEST_F(ContextParallelForward, AttentionBiasEqualsOneRank) {
  GPTModelInput input = row();
  const at::Tensor index = at::arange(kTokens, at::kDouble);
  input.extra_block_arguments.attention_bias =
      (-0.1 * (index.unsqueeze(0) - index.unsqueeze(1)).abs()).view({1, 1, kTokens, kTokens}) *
      at::arange(1, 5, at::kDouble).view({1, 4, 1, 1});
  expect_as_one_rank(input);
}

TEST_F(ContextParallelForward, InvalidArgumentsAreRefused) {
  run_thread_world(2, [](RankContext& rank) {
    const Options run_options = options(2, CpCommType::p2p);
    const auto refused = [&](const GPTModelInput& input, const char* text) {
      test::expect_error(
          [&] {
            losses_and_gradients(run_options, rank, input, at::ones({1, kTokens}, at::kDouble));
          },
          text);
    };
    GPTModelInput input = row();
    input.packed_seq_params = PackedSeqParams{.cu_seqlens_q = at::tensor({0, 10, 32}, at::kInt)};
    refused(input, "divisible by 4 (2 x context parallel 2), but got 10; 12 works");
    input = row();
    input.attention_mask = at::zeros({1, 1, kTokens / 2, kTokens}, at::kBool);
    refused(input, "Expected an attention mask of shape [1 or 1, 1, 32, 32]");
    input = row();
    StaticInferenceContext cache(kTokens);
    input.inference_context = &cache;
    refused(input, "without context parallelism");
  });
}

}  // namespace
}  // namespace megatron
