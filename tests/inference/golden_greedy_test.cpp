// Greedy tokens and log-probabilities of the golden Hugging Face models, through the engine.
#include <filesystem>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "megatron/convert/source_model.h"
#include "megatron/formats/safetensors_file.h"
#include "megatron/inference/run_requests.h"
#include "megatron/parallel/model_groups.h"

#include "tests/models/gpt/built_model.h"
#include "tests/parallel/thread_world.h"

namespace megatron {
namespace {

namespace fs = std::filesystem;

fs::path golden(const std::string& name) {
  return fs::path(TEST_DATA_DIR) / "hf" / name;
}

std::vector<std::string> golden_names() {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(golden(""))) {
    if (fs::exists(entry.path() / "expected.safetensors"))
      names.push_back(entry.path().filename().string());
  }
  std::ranges::sort(names);
  return names;
}

std::vector<int64_t> ids_of(const at::Tensor& row) {
  const at::Tensor ids = row.to(at::kLong).contiguous();
  return {ids.const_data_ptr<int64_t>(), ids.const_data_ptr<int64_t>() + ids.numel()};
}

struct Layout {
  int tp = 1, pp = 1;
};

// The results of the requests on a golden model.
std::map<int64_t, InferenceResult> run_golden(const std::string& name,
                                              const std::vector<InferenceRequest>& requests,
                                              const RunRequestsOptions& options, Layout layout) {
  std::map<int64_t, InferenceResult> results;
  run_thread_world(layout.tp * layout.pp, [&](RankContext& rank) {
    SourceModel source = open_source_model(golden(name));
    GPTModelConfig config = source.config;
    config.transformer.tensor_model_parallel_size = layout.tp;
    config.transformer.pipeline_model_parallel_size = layout.pp;
    config.finalize();
    const GPTModelChunks chunks =
        build_gpt_model_chunks(config, make_model_groups(config, rank), at::kCPU);
    load_source_model(source, sharded_state_dict(chunks));
    const auto outcome = run_requests(chunks, requests, options);
    if (rank.rank == 0) results = outcome.results;
  });
  return results;
}

RunRequestsOptions small_blocks(bool prefix_caching) {
  return {.scheduler = {.block_size = 2,
                        .max_requests = 4,
                        .max_tokens = 8,
                        .chunk_size = 4,
                        .prefix_caching = prefix_caching}};
}

class GoldenGreedy : public testing::TestWithParam<std::string> {};

void expect_greedy(const std::string& name, const RunRequestsOptions& options, Layout layout) {
  const auto expected = SafetensorsFile::open(golden(name) / "expected.safetensors");
  const at::Tensor prompts = expected.tensor("greedy_prompt"), greedy = expected.tensor("greedy");
  std::vector<InferenceRequest> requests;
  // Each prompt twice, so that some share their blocks.
  for (int64_t i = 0; i < 2 * prompts.size(0); ++i) {
    requests.push_back({.prompt = ids_of(prompts[i % prompts.size(0)]),
                        .max_new_tokens = greedy.size(1) - prompts.size(1),
                        .sampling = {.temperature = 0}});
  }
  const auto results = run_golden(name, requests, options, layout);
  ASSERT_EQ(results.size(), requests.size());
  for (const auto& [i, result] : results) {
    EXPECT_EQ(result.completions.at(0).tokens,
              ids_of(greedy[i % prompts.size(0)].narrow(0, prompts.size(1),
                                                        greedy.size(1) - prompts.size(1))))
        << "request " << i;
  }
}

TEST_P(GoldenGreedy, TokensEqualThoseOfTransformers) {
  expect_greedy(GetParam(), small_blocks(/*prefix_caching=*/true), {});
  expect_greedy(GetParam(), {}, {});
}

TEST_P(GoldenGreedy, LogprobsOfThePromptEqualThoseOfTransformers) {
  const auto expected = SafetensorsFile::open(golden(GetParam()) / "expected.safetensors");
  const at::Tensor inputs = expected.tensor("input_ids");
  const at::Tensor logprobs = expected.tensor("logits").to(at::kDouble).log_softmax(2);
  std::vector<InferenceRequest> requests;
  for (int64_t i = 0; i < inputs.size(0); ++i) {
    requests.push_back({.prompt = ids_of(inputs[i]),
                        .max_new_tokens = 1,
                        .sampling = {.temperature = 0},
                        .logprobs = true,
                        .prompt_logprobs = true});
  }
  const auto results = run_golden(GetParam(), requests, small_blocks(true), {});
  for (int64_t i = 0; i < inputs.size(0); ++i) {
    const InferenceResult& result = results.at(i);
    std::vector<TokenLogprob> all = result.prompt_logprobs;
    all.push_back(result.completions.at(0).logprobs.at(0));
    ASSERT_EQ(std::ssize(all), inputs.size(1));
    for (int64_t j = 0; j < inputs.size(1); ++j)
      EXPECT_NEAR(all[j].logprob, logprobs[i][j][all[j].token].item<double>(), 2e-4) << j;
  }
}

INSTANTIATE_TEST_SUITE_P(Inference, GoldenGreedy, testing::ValuesIn(golden_names()),
                         [](const auto& info) { return info.param; });

TEST(GoldenGreedyLayouts, TensorAndPipelineRanksGiveTheSameTokens) {
  for (const char* name : {"gpt2", "gemma2", "qwen2"}) {
    for (const Layout layout : {Layout{2, 1}, {1, 2}}) {
      SCOPED_TRACE(testing::Message() << name << " tp " << layout.tp << " pp " << layout.pp);
      expect_greedy(name, small_blocks(/*prefix_caching=*/false), layout);
    }
  }
}

}  // namespace
}  // namespace megatron
