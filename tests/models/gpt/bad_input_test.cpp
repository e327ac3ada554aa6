// Invalid arguments of a forward pass and invalid configurations are refused with clear messages.
#include <cstdlib>
#include <gmock/gmock.h>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "megatron/base/error.h"
#include "megatron/transformer/static_inference_context.h"

#include "tests/models/gpt/small_gpt.h"

namespace megatron {
namespace {

using testing::HasSubstr;

struct BadInput {
  const char* name;
  std::function<void(GPTModelInput&)> spoil;
  std::vector<const char*> texts;  // in the message
};

PackedSeqParams packed(std::vector<int64_t> offsets) {
  return {.cu_seqlens_q = at::tensor(offsets, at::kLong), .cu_seqlens_kv = {}};
}

const BadInput kBadInputs[] = {
    {"no_input",
     [](auto& i) { i.input_ids = at::Tensor(); },
     {"input_ids or decoder_input", "got neither"}},
    {"one_dimensional_ids",
     [](auto& i) { i.input_ids = i.input_ids.view({-1}); },
     {"input_ids of shape [b, 4]", "[8]"}},
    {"ids_of_wrong_dtype",
     [](auto& i) { i.input_ids = i.input_ids.to(at::kInt); },
     {"dtype int64", "Int"}},
    {"ids_with_wrong_rows",
     [](auto& i) { i = token_input(3, 4); },
     {"input_ids with 2 rows", "got 3"}},
    {"ids_outside_the_vocabulary",
     [](auto& i) {
       i.input_ids = at::full({2, 4}, 100, at::kLong);
     },
     {"token ids in [0, 100)", "got 100"}},
    {"labels_of_wrong_shape",
     [](auto& i) {
       i.labels = at::zeros({2, 3}, at::kLong);
     },
     {"labels of shape [2, 4]", "[2, 3]"}},
    {"labels_of_wrong_shape_without_ids",
     [](auto& i) {
       i.decoder_input = at::zeros({4, 2, 12});
       i.input_ids = at::Tensor();
       i.labels = at::zeros({3, 4}, at::kLong);
     },
     {"labels of shape [2, 4]", "[3, 4]"}},
    {"labels_outside_the_vocabulary",
     [](auto& i) {
       i.labels = at::full({2, 4}, 100, at::kLong);
     },
     {"[0, 100)", "got 100"}},
    {"loss_mask_of_wrong_shape",
     [](auto& i) {
       i.loss_mask = at::ones({4, 2});
     },
     {"loss_mask of shape [2, 4]", "[4, 2]"}},
    {"position_ids_of_wrong_shape",
     [](auto& i) { i.position_ids = at::zeros({4}, at::kLong); },
     {"position_ids of shape [2, 4]", "[4]"}},
    {"no_position_ids",
     [](auto& i) { i.position_ids = at::Tensor(); },
     {"position_ids", "got none"}},
    {"positions_beyond_the_table",
     [](auto& i) { i.position_ids = i.position_ids + 1; },
     {"positions below 4 (--max-position-embeddings)", "got 4"}},
    {"decoder_input_of_wrong_width",
     [](auto& i) {
       i.decoder_input = at::zeros({4, 2, 11});
     },
     {"decoder_input of shape [4, 2, 12]", "[4, 2, 11]"}},
    {"decoder_input_with_wrong_rows",
     [](auto& i) {
       i.decoder_input = at::zeros({4, 3, 12});
     },
     {"decoder_input of shape [4, 2, 12]", "[4, 3, 12]"}},
    {"mask_of_wrong_size",
     [](auto& i) {
       i.attention_mask = at::zeros({2, 1, 3, 4}, at::kBool);
     },
     {"attention mask of shape [1 or 2, 1, 4, 4]", "[2, 1, 3, 4]"}},
    {"mask_per_head",
     [](auto& i) {
       i.attention_mask = at::zeros({2, 4, 4, 4}, at::kBool);
     },
     {"attention mask of shape [1 or 2, 1, 4, 4]", "[2, 4, 4, 4]"}},
    {"floating_point_mask",
     [](auto& i) {
       i.attention_mask = at::zeros({1, 1, 4, 4});
     },
     {"dtype bool", "Float", "mask.to(bool) works"}},
    {"bias_of_wrong_size",
     [](auto& i) {
       i.extra_block_arguments.attention_bias = at::zeros({1, 3, 4, 4});
     },
     {"attention bias of shape [1 or 2, 1 or 4, 4, 4]", "[1, 3, 4, 4]"}},
    {"boolean_bias",
     [](auto& i) {
       i.extra_block_arguments.attention_bias = at::zeros({1, 1, 4, 4}, at::kBool);
     },
     {"floating-point attention bias", "Bool", "attention_mask"}},
    {"rotary_tables_of_wrong_length",
     [](auto& i) {
       i.extra_block_arguments.rotary = RotaryTable{at::ones({3, 2}), at::ones({3, 2})};
     },
     {"rotary tables for 4 positions", "got 3"}},
    {"two_packed_rows",
     [](auto& i) {
       i.packed_seq_params = packed({0, 4});
     },
     {"one row (b = 1)", "got 2", "concatenate the rows"}},
};

TEST(GPTModelInput, InvalidArgumentsAreRefused) {
  const at::NoGradGuard no_grad;
  const auto model = build_gpt(small_gpt_config());
  for (const BadInput& bad : kBadInputs) {
    GPTModelInput input = token_input(2, 4);
    bad.spoil(input);
    for (const char* text : bad.texts) {
      EXPECT_THAT([&] { model->forward(input, evaluation_context(2, 4)); },
                  testing::ThrowsMessage<Error>(testing::AllOf(
                      HasSubstr("Expected "), HasSubstr(", but got "), HasSubstr(text))))
          << bad.name;
    }
  }
}

TEST(GPTModelInput, InvalidPackedSequencesAreRefused) {
  const at::NoGradGuard no_grad;
  for (const PositionEmbeddingType positions :
       {PositionEmbeddingType::learned_absolute, PositionEmbeddingType::none}) {
    GPTModelConfig config = small_gpt_config();
    config.position_embedding_type = positions;
    const auto model = build_gpt(config);
    for (const auto& [offsets, text] :
         {std::pair<std::vector<int64_t>, const char*>{{0, 2, 2, 4}, "to increase"},
          {{0, 3, 2, 4}, "to increase"},
          {{0, 2}, "to end at the 4 tokens"},
          {{0, 5}, "to end at the 4 tokens"},
          {{1, 4}, "to begin at 0"},
          {{0}, "[sequences + 1]"}}) {
      GPTModelInput input = token_input(1, 4);
      input.packed_seq_params = packed(offsets);
      EXPECT_THAT([&] { model->forward(input, evaluation_context(1, 4)); },
                  testing::ThrowsMessage<Error>(HasSubstr(text)));
    }
    GPTModelInput input = token_input(1, 4);
    input.packed_seq_params = packed({0, 4});
    StaticInferenceContext context(4);
    input.inference_context = &context;
    EXPECT_THAT(
        [&] { model->forward(input, evaluation_context(1, 4)); },
        testing::ThrowsMessage<Error>(HasSubstr("packed sequences or an inference context")));
  }
}

TEST(GPTModelInput, SequenceLongerThanPositionTableIsRefused) {
  const at::NoGradGuard no_grad;
  const auto model = build_gpt(small_gpt_config());
  EXPECT_THAT([&] { model->forward(token_input(2, 5), evaluation_context(2, 5)); },
              testing::ThrowsMessage<Error>(HasSubstr("positions below 4")));
}

TEST(GPTModelInput, CacheOverflowIsRefused) {
  const at::NoGradGuard no_grad;
  const auto model = build_gpt(small_gpt_config());
  StaticInferenceContext context(3);
  GPTModelInput input = token_input(2, 4);
  input.inference_context = &context;
  input.runtime_gather_output = true;
  EXPECT_THROW(model->forward(input, evaluation_context(2, 4)), Error);
}

TEST(GPTModelInput, LabelsWithLastTokenLogitsAreRefused) {
  const at::NoGradGuard no_grad;
  const auto model = build_gpt(small_gpt_config());
  StaticInferenceContext context(4);
  GPTModelInput input = token_input(2, 4);
  input.labels = input.input_ids;
  input.inference_context = &context;
  input.runtime_gather_output = true;
  EXPECT_THAT(
      [&] { model->forward(input, evaluation_context(2, 4)); },
      testing::ThrowsMessage<Error>(HasSubstr("materialize_only_last_token_logits = false works")));
}

// A later stage accepts the previous stage's output only.
TEST(GPTModelInput, LaterStageNeedsAnInputTensor) {
  const at::NoGradGuard no_grad;
  const GPTModelConfig config = small_gpt_config();
  const PipelineStage last{.rank = 1,
                           .size = 2,
                           .pre_process = false,
                           .post_process = true,
                           .first_layer = 1,
                           .num_layers = 1};
  GPTModel model(config, local_layer_spec(config.transformer), last,
                 ProcessGroupCollection::single_rank(), at::TensorOptions().dtype(at::kFloat));
  initialize_weights(model, 1);
  const auto forward = [&](const GPTModelInput& input) {
    return model.forward(input, evaluation_context(2, 4));
  };
  EXPECT_THAT([&] { forward(token_input(2, 4)); },
              testing::ThrowsMessage<Error>(HasSubstr("set_input_tensor before forward")));
  model.set_input_tensor(at::zeros({4, 3, 12}));
  EXPECT_THAT([&] { forward(token_input(2, 4)); },
              testing::ThrowsMessage<Error>(HasSubstr("[4, 2, 12]")));
  model.set_input_tensor(at::zeros({4, 2, 12}));
  EXPECT_THAT(
      [&] {
        forward({.decoder_input = at::zeros({4, 2, 12})});
      },
      testing::ThrowsMessage<Error>(HasSubstr("use set_input_tensor there")));
  EXPECT_EQ(forward(token_input(2, 4)).sizes(), at::IntArrayRef({2, 4, 100}));
  EXPECT_THROW(forward(token_input(2, 4)), Error) << "an input tensor is consumed by one pass";
}

TEST(GPTModelConfiguration, UnsupportedCombinationsAreRefusedAtBuild) {
  const auto refusal = [](const auto& change) {
    GPTModelConfig config = small_gpt_config();
    change(config);
    try {
      build_gpt(config);
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  EXPECT_THAT(refusal([](auto& c) { c.position_embedding_type = PositionEmbeddingType::mrope; }),
              HasSubstr("for mrope_section, but got none"));
  EXPECT_THAT(refusal([](auto& c) {
                c.transformer.attention_backend = AttentionBackend::flash;
                c.transformer.attention_dropout = 0.1;
              }),
              HasSubstr("attention_dropout above 0, but got flash"));
  EXPECT_THAT(refusal([](auto& c) {
                c.transformer.attention_backend = AttentionBackend::flash;
                c.transformer.window_size = {2, 0};
              }),
              HasSubstr("window_size, but got flash"));
  setenv("NVTE_FLASH_ATTN", "0", /*replace=*/1);
  EXPECT_THAT(refusal([](auto& c) { c.transformer.attention_backend = AttentionBackend::flash; }),
              HasSubstr("NVTE_FLASH_ATTN=1"));
  unsetenv("NVTE_FLASH_ATTN");
}

// There is no fallback from an attention backend that was chosen explicitly.
TEST(GPTModelConfiguration, ExplicitBackendRefusesUnsupportedInput) {
  const at::NoGradGuard no_grad;
  GPTModelConfig config = small_gpt_config();
  config.transformer.attention_backend = AttentionBackend::flash;
  const auto model = build_gpt(config);
  EXPECT_EQ(model->attention_backend(), AttentionBackend::flash);
  GPTModelInput input = token_input(2, 4);
  EXPECT_NO_THROW(model->forward(input, evaluation_context(2, 4)));
  input.attention_mask = at::ones({1, 1, 4, 4}, at::kBool).triu(1);
  EXPECT_THAT([&] { model->forward(input, evaluation_context(2, 4)); },
              testing::ThrowsMessage<Error>(HasSubstr("an attention mask, but got flash")));
}

}  // namespace
}  // namespace megatron
