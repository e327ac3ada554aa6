#include "megatron/inference/decode_bench.h"

#include <gtest/gtest.h>

#include "megatron/base/error.h"
#include "megatron/parallel/model_groups.h"

#include "tests/models/gpt/built_model.h"
#include "tests/parallel/thread_world.h"

namespace megatron {
namespace {

TEST(DecodeBench, ReportsRatesOfEveryFormatOfWeights) {
  GPTModelConfig config;
  config.vocab_size = 61;
  config.share_embeddings_and_output_weights = true;
  config.seq_length = 16;
  config.transformer.num_layers = 1;
  config.transformer.hidden_size = 64;
  config.transformer.num_attention_heads = 4;
  run_thread_world(1, [&](RankContext& rank) {
    const auto model =
        build_gpt_model(config, make_model_groups(config.transformer, rank), at::kCPU);
    initialize_weights(*model, 5);
    DecodeBenchOptions options{
        .prompt_tokens = 9, .new_tokens = 4, .batch = 2, .warmup = 0, .repeats = 2};
    double bytes_before = 0;
    for (const char* weights : {"int4", "int8", "bf16", "fp32"}) {
      options.weights = weight_format_from_name(weights);
      const nlohmann::json result = run_decode_bench(*model, options);
      for (const char* rate : {"decode_tokens_per_s", "prefill_tokens_per_s", "bandwidth_fraction",
                               "read_bandwidth_gb_per_s"})
        EXPECT_GT(result.at(rate).get<double>(), 0) << weights << " " << rate;
      EXPECT_EQ(result.at("weights"), weights);
      EXPECT_EQ(result.at("batch"), 2);
      EXPECT_GT(result.at("weight_mib").get<double>(), bytes_before) << weights;
      bytes_before = result.at("weight_mib").get<double>();
    }
    options.new_tokens = 9;  // beyond the learned positions
    EXPECT_THROW(run_decode_bench(*model, options), Error);
    EXPECT_THROW(weight_format_from_name("int3"), Error);
  });
}

}  // namespace
}  // namespace megatron
