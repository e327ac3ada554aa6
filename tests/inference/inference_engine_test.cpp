// The engine with a tiny model: what runs beside a request, evictions, chunks and sharing do not
// change a bit of its output.
#include "megatron/inference/inference_engine.h"

#include <cmath>
#include <gmock/gmock.h>
#include <mutex>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "megatron/base/error.h"
#include "megatron/inference/module_runner.h"
#include "megatron/inference/run_requests.h"

#include "tests/inference/inference_model.h"
#include "tests/parallel/thread_world.h"

namespace megatron {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

GPTModelConfig rope_config() {
  GPTModelConfig config = inference_test_config(/*rope=*/true, /*query_groups=*/2);
  config.seq_length = 64;
  return config;
}

// 61 tokens of one byte: 'A' + id.
class LetterTokenizer : public Tokenizer {
 public:
  LetterTokenizer() {
    for (int id = 0; id < 61; ++id) letters_.push_back(static_cast<char>('A' + id));
  }
  std::unique_ptr<TokenEncoder> make_encoder() const override {
    throw Error("no encoder in this test");
  }
  std::string_view token_bytes(int64_t id) const override {
    return std::string_view(letters_).substr(static_cast<size_t>(id), 1);
  }
  size_t last_safe_cut(std::string_view, size_t) const override { return 0; }
  int64_t vocab_size() const override { return 61; }
  std::optional<int64_t> eod() const override { return std::nullopt; }
  std::string identifiers() const override { return "{}"; }

 private:
  std::string letters_;
};

struct EngineCase {
  int64_t block_size = 4, num_blocks = 64, max_requests = 8, chunk_size = 8;
  bool prefix_caching = true;
  int64_t num_speculative_tokens = 0;
};

class EngineTest : public testing::Test {
 protected:
  explicit EngineTest(const GPTModelConfig& config = rope_config())
      : config_(config),
        chunks_{inference_test_model(config, ProcessGroupCollection::single_rank())} {}

  InferenceEngine& start(const EngineCase& test = {}) {
    runner_ = std::make_unique<ModuleRunner>(chunks_, test.block_size);
    runner_->allocate(test.num_blocks);
    engine_ = std::make_unique<InferenceEngine>(
        *runner_, config_,
        EngineOptions{.scheduler = {.max_requests = test.max_requests,
                                    .max_tokens = 64,
                                    .chunk_size = test.chunk_size,
                                    .prefix_caching = test.prefix_caching,
                                    .num_speculative_tokens = test.num_speculative_tokens},
                      .tokenizer = &tokenizer_});
    return *engine_;
  }

  Completion alone(const InferenceRequest& request, const EngineCase& test = {}) {
    InferenceEngine& engine = start(test);
    engine.submit(request);
    return engine.run().at(0).completions.at(0);
  }

  GPTModelConfig config_;
  GPTModelChunks chunks_;
  LetterTokenizer tokenizer_;
  std::unique_ptr<ModuleRunner> runner_;
  std::unique_ptr<InferenceEngine> engine_;
};

InferenceRequest request(int64_t first, int64_t length, int64_t max_new_tokens,
                         double temperature) {
  InferenceRequest result{.max_new_tokens = max_new_tokens, .logprobs = true};
  for (int64_t i = 0; i < length; ++i) result.prompt.push_back((first + i * i) % 61);
  result.sampling = {.temperature = temperature, .seed = 7};
  return result;
}

std::vector<InferenceRequest> mixed_requests(int64_t count) {
  std::vector<InferenceRequest> requests;
  for (int64_t i = 0; i < count; ++i)
    requests.push_back(request(i % 5, 1 + i * 7 % 23, 1 + i * 5 % 13, i % 3 * 0.5));
  return requests;
}

void expect_bit_equal(const Completion& ours, const Completion& expected) {
  EXPECT_EQ(ours.tokens, expected.tokens);
  EXPECT_EQ(ours.text, expected.text);
  ASSERT_EQ(ours.logprobs.size(), expected.logprobs.size());
  for (size_t i = 0; i < ours.logprobs.size(); ++i)
    EXPECT_EQ(ours.logprobs[i].logprob, expected.logprobs[i].logprob) << "token " << i;
}

TEST_F(EngineTest, OutputIsBitEqualWhateverIsBatchedBeside) {
  const auto requests = mixed_requests(12);
  std::vector<Completion> expected;
  for (const InferenceRequest& one : requests) expected.push_back(alone(one));
  InferenceEngine& engine = start();
  for (const InferenceRequest& one : requests) engine.submit(one);
  for (const InferenceResult& result : engine.run()) {
    SCOPED_TRACE(result.request);
    expect_bit_equal(result.completions.at(0), expected.at(result.request));
  }
}

TEST_F(EngineTest, EvictionPauseAndResumeDoNotChangeABit) {
  const auto requests = mixed_requests(10);
  std::vector<Completion> expected;
  for (const InferenceRequest& one : requests) expected.push_back(alone(one));
  for (const bool prefix_caching : {false, true}) {
    // 10 blocks of 4: sequences of up to 35 tokens push each other out.
    InferenceEngine& engine =
        start({.num_blocks = 10, .max_requests = 4, .prefix_caching = prefix_caching});
    for (const InferenceRequest& one : requests) engine.submit(one);
    for (int64_t i = 0; engine.has_work(); ++i) {
      engine.step();
      if (i % 3 == 0) engine.evict(i / 3 % 10);
      if (i % 4 == 0) engine.pause(i % 10);
      if (i % 4 == 2) engine.resume((i - 2) % 10);
    }
    for (int64_t i = 0; i < 10; ++i) engine.resume(i);
    const auto results = engine.run();
    ASSERT_EQ(results.size(), 10u);
    EXPECT_GT(engine.scheduler().statistics().evicted_sequences, 3);
    for (const InferenceResult& result : results) {
      SCOPED_TRACE(result.request);
      expect_bit_equal(result.completions.at(0), expected.at(result.request));
    }
  }
}

TEST_F(EngineTest, ChunksOfAnySizeGiveTheSameTokens) {
  const InferenceRequest one = request(3, 23, 12, 0);
  const Completion whole = alone(one, {.block_size = 32, .chunk_size = 32});
  for (const auto& [block, chunk] : {std::pair{1, 1}, {2, 4}, {4, 8}, {3, 9}, {5, 20}}) {
    const Completion ours = alone(one, {.block_size = block, .chunk_size = chunk});
    EXPECT_EQ(ours.tokens, whole.tokens) << "chunk " << chunk;
    for (size_t i = 0; i < whole.logprobs.size(); ++i)
      EXPECT_NEAR(ours.logprobs[i].logprob, whole.logprobs[i].logprob, 1e-4);
  }
}

TEST_F(EngineTest, SharedPrefixesGiveTheSameBits) {
  InferenceRequest first = request(3, 20, 6, 0), second = first;
  second.prompt.back() = 9;  // after two common chunks
  const Completion expected = alone(second, {.prefix_caching = false});
  InferenceEngine& engine = start();
  engine.submit(first);
  engine.run();
  engine.submit(second);
  const auto results = engine.run();
  EXPECT_EQ(engine.scheduler().statistics().shared_tokens, 16);
  expect_bit_equal(results.at(0).completions.at(0), expected);
}

TEST_F(EngineTest, SamplesOfARequestAreThoseOfOneSeed) {
  InferenceRequest one = request(3, 10, 8, 1.0);
  one.n = 3;
  InferenceEngine& engine = start();
  engine.submit(one);
  const InferenceResult result = engine.run().at(0);
  ASSERT_EQ(result.completions.size(), 3u);
  EXPECT_NE(result.completions[0].tokens, result.completions[1].tokens);
  one.n = 1;
  expect_bit_equal(result.completions[0], alone(one));
}

TEST_F(EngineTest, LogprobsOfThePromptAndTheOutputAreThoseOfAFullPass) {
  InferenceRequest one = request(3, 13, 5, 0);
  one.prompt_logprobs = true;
  one.top_logprobs = 3;
  InferenceEngine& engine = start();
  engine.submit(one);
  engine.step();
  engine.evict(0);
  const InferenceResult result = engine.run().at(0);
  std::vector<int64_t> ids = one.prompt;
  const auto& output = result.completions.at(0);
  ids.insert(ids.end(), output.tokens.begin(), output.tokens.end());
  const auto s = static_cast<int64_t>(ids.size());
  const at::NoGradGuard no_grad;
  const at::Tensor logprobs =
      chunks_.front()
          ->forward({.input_ids = at::tensor(ids, at::kLong).unsqueeze(0),
                     .position_ids = at::arange(s, at::kLong).unsqueeze(0)},
                    ForwardContext::make(false, 0, at::zeros({1}, at::kLong), s, false, 0, 1))[0]
          .narrow(1, 0, 61)
          .log_softmax(1);
  ASSERT_EQ(result.prompt_logprobs.size(), 12u);
  ASSERT_EQ(output.logprobs.size(), 5u);
  for (int64_t i = 1; i < s; ++i) {
    const TokenLogprob& ours = i < 13 ? result.prompt_logprobs[i - 1] : output.logprobs[i - 13];
    EXPECT_EQ(ours.token, ids[i]);
    EXPECT_NEAR(ours.logprob, logprobs[i - 1][ids[i]].item<double>(), 1e-4) << i;
    ASSERT_EQ(ours.top.size(), 3u);
    EXPECT_EQ(ours.top[0].first, logprobs[i - 1].argmax().item<int64_t>());
  }
}

class DoubleEngineTest : public EngineTest {
 protected:
  static GPTModelConfig config() {
    GPTModelConfig config = rope_config();
    config.transformer.params_dtype = at::kDouble;
    return config;
  }
  DoubleEngineTest() : EngineTest(config()) {}
};

// Sampled tokens are those of the same seed without drafts, so their distribution is too. In fp64,
// so that rounding in rows of several tokens does not change a choice.
TEST_F(DoubleEngineTest, SpeculationChangesNoToken) {
  int64_t accepted = 0;
  for (int64_t seed = 0; seed < 12; ++seed) {
    InferenceRequest one = request(3, 4, 30, seed == 0 ? 0 : 0.25);
    for (int i = 0; i < 3; ++i)  // a prompt that repeats itself
      one.prompt.insert(one.prompt.end(), one.prompt.begin(), one.prompt.begin() + 4);
    one.sampling.seed = seed;
    const Completion expected = alone(one);
    const Completion ours = alone(one, {.num_speculative_tokens = 3});
    EXPECT_EQ(ours.tokens, expected.tokens) << "seed " << seed;
    EXPECT_EQ(ours.text, expected.text);
    accepted += engine_->scheduler().statistics().accepted_tokens;
  }
  EXPECT_GT(accepted, 5);
}

TEST_F(DoubleEngineTest, ATinyVocabularyKeepsItsDistributionWithSpeculation) {
  // Of four likely tokens: drafts are often right and often wrong.
  InferenceRequest one = request(3, 4, 40, 1.0);
  for (int64_t id = 4; id < 61; ++id) one.sampling.logit_bias[id] = -100.0;
  std::map<std::vector<int64_t>, int64_t> counts[2];
  int64_t accepted = 0, rejected = 0;
  for (const int64_t drafts : {0, 3}) {
    for (uint64_t seed = 0; seed < 20; ++seed) {
      one.sampling.seed = seed;
      ++counts[drafts > 0][alone(one, {.num_speculative_tokens = drafts}).tokens];
      const auto& statistics = engine_->scheduler().statistics();
      accepted += statistics.accepted_tokens;
      rejected += statistics.drafted_tokens - statistics.accepted_tokens;
    }
  }
  EXPECT_EQ(counts[1], counts[0]);
  EXPECT_GT(accepted, 20);
  EXPECT_GT(rejected, 20);
}

TEST_F(EngineTest, SpeculationIsBitEqualWhateverIsBatchedBesideAndAfterEvictions) {
  auto requests = mixed_requests(10);
  for (InferenceRequest& one : requests) {
    one.prompt.resize(std::min<size_t>(one.prompt.size(), 8));
    one.prompt.insert(one.prompt.end(), one.prompt.begin(), one.prompt.end());
    one.max_new_tokens += 8;
  }
  const EngineCase test{.num_blocks = 10, .max_requests = 4, .num_speculative_tokens = 3};
  std::vector<Completion> expected;
  for (const InferenceRequest& one : requests) expected.push_back(alone(one, test));
  InferenceEngine& engine = start(test);
  for (const InferenceRequest& one : requests) engine.submit(one);
  for (int64_t i = 0; engine.has_work(); ++i) {
    engine.step();
    if (i % 3 == 0) engine.evict(i / 3 % 10);
  }
  EXPECT_GT(engine.scheduler().statistics().evicted_sequences, 3);
  for (const InferenceResult& result : engine.take_results()) {
    SCOPED_TRACE(result.request);
    expect_bit_equal(result.completions.at(0), expected.at(result.request));
  }
}

TEST_F(EngineTest, StopStringsSpanTokensAndStopIdsStay) {
  InferenceRequest one = request(3, 10, 12, 0);
  const Completion all = alone(one);
  ASSERT_EQ(all.finish_reason, FinishReason::length);
  ASSERT_EQ(all.text.size(), 12u);
  one.stop_strings = {all.text.substr(5, 3)};
  const size_t first = all.text.find(one.stop_strings[0]);
  const Completion stopped = alone(one);
  EXPECT_EQ(stopped.finish_reason, FinishReason::stop);
  EXPECT_EQ(stopped.text, all.text.substr(0, first));
  EXPECT_EQ(stopped.tokens.size(), first + 3);
  one.stop_strings.clear();
  one.stop_ids = {all.tokens[4]};
  one.echo = true;
  const Completion ended = alone(one);
  const auto end = std::ranges::find(all.tokens, all.tokens[4]) + 1;
  EXPECT_EQ(ended.tokens, std::vector<int64_t>(all.tokens.begin(), end));
  EXPECT_EQ(ended.text, tokenizer_.decode(one.prompt) +
                            all.text.substr(0, static_cast<size_t>(end - all.tokens.begin()) - 1));
}

TEST_F(EngineTest, OneBadRequestDoesNotEndTheOthers) {
  InferenceEngine& engine = start({.num_blocks = 8});
  const InferenceRequest good = request(3, 5, 4, 0);
  engine.submit(good);
  InferenceRequest bad = good;
  bad.prompt.assign(40, 1);
  EXPECT_THAT([&] { engine.submit(bad); },
              ThrowsMessage<Error>(HasSubstr("within the 32 tokens of the key-value cache")));
  bad = good;
  bad.sampling.temperature = -1;
  EXPECT_THAT([&] { engine.submit(bad); }, ThrowsMessage<Error>(HasSubstr("temperature")));
  bad = good;
  bad.prompt = {61};
  EXPECT_THAT([&] { engine.submit(bad); },
              ThrowsMessage<Error>(HasSubstr("vocabulary size 61, but got id 61")));
  bad.prompt = {};
  EXPECT_THROW(engine.submit(bad), Error);
  bad = good;
  bad.stop_strings = {""};
  EXPECT_THROW(engine.submit(bad), Error);
  engine.submit(good);
  const auto results = engine.run();
  ASSERT_EQ(results.size(), 2u);
  expect_bit_equal(results[0].completions.at(0), results[1].completions.at(0));
}

TEST_F(EngineTest, ACancelledRequestKeepsItsTokensAndLeavesTheOthersAlone) {
  const InferenceRequest one = request(3, 5, 9, 0), other = request(4, 6, 9, 0);
  const Completion expected = alone(other), all = alone(one);
  InferenceEngine& engine = start();
  const int64_t cancelled = engine.submit(one);
  engine.submit(other);
  int seen = 0;
  engine.on_token([&](int64_t id, int64_t, int64_t, const std::string&) {
    if (id == cancelled && ++seen == 3) engine.cancel(id);
  });
  const auto results = engine.run();
  ASSERT_EQ(results.size(), 2u);
  EXPECT_EQ(results[0].completions[0].finish_reason, FinishReason::cancelled);
  EXPECT_EQ(results[0].completions[0].tokens,
            std::vector<int64_t>(all.tokens.begin(), all.tokens.begin() + 3));
  expect_bit_equal(results[1].completions[0], expected);
  EXPECT_EQ(engine.scheduler().blocks().available(), 64);
}

// Some hundred requests of mixed lengths, some cancelled: each answer is that of the request alone.
TEST_F(EngineTest, HundredsOfRequestsGetTheirOwnAnswers) {
  InferenceEngine& engine = start({.num_blocks = 24});
  const auto requests = mixed_requests(15);
  std::map<int64_t, Completion> first;
  for (int64_t i = 0; i < 300; ++i) {
    engine.submit(requests[i % 15]);
    if (i % 10 == 9) engine.cancel(i);
    engine.step();
  }
  int64_t answered = 0;
  for (const InferenceResult& result : engine.run()) {
    const Completion& ours = result.completions.at(0);
    if (ours.finish_reason == FinishReason::cancelled) continue;
    ++answered;
    const auto [found, is_new] = first.try_emplace(result.request % 15, ours);
    if (!is_new) expect_bit_equal(ours, found->second);
  }
  EXPECT_EQ(answered, 270);
  EXPECT_EQ(engine.scheduler().blocks().available(), 24);
  for (const auto& [i, completion] : first) expect_bit_equal(completion, alone(requests[i]));
}

TEST(ModuleRunner, RefusesRowsThatDoNotFitTheCache) {
  const GPTModelChunks chunks = {
      inference_test_model(rope_config(), ProcessGroupCollection::single_rank())};
  ModuleRunner runner(chunks, 4);
  // 2 layers of keys and values of 2 groups of 8 features in fp32.
  EXPECT_EQ(runner.bytes_per_block(), 4 * 2 * 2 * 2 * 8 * 4);
  EXPECT_THROW(runner.allocate(0), Error);
  runner.allocate(3);
  const std::vector<int64_t> tokens = {1, 2, 3, 4, 5}, blocks = {2, 0}, outside = {2, 3};
  const std::vector<int64_t> unknown = {61};
  const auto run = [&](StepRow row) { return runner.forward(std::span(&row, 1)); };
  EXPECT_EQ(run({.tokens = tokens, .blocks = blocks}).sizes(), (std::vector<int64_t>{1, 61}));
  EXPECT_EQ(run({.tokens = tokens, .blocks = blocks, .logits = RowLogits::all}).size(0), 5);
  EXPECT_EQ(run({.tokens = tokens, .blocks = blocks, .logits = RowLogits::none}).size(0), 0);
  EXPECT_THROW(run({.tokens = tokens, .position = 4, .blocks = blocks}), Error);
  EXPECT_THROW(run({.tokens = tokens, .blocks = outside}), Error);
  EXPECT_THROW(run({.tokens = unknown, .blocks = blocks}), Error);
  EXPECT_THROW(run({.blocks = blocks}), Error);
}

TEST(ModuleRunner, CopiedBlocksContinueAlike) {
  const GPTModelChunks chunks = {
      inference_test_model(rope_config(), ProcessGroupCollection::single_rank())};
  ModuleRunner runner(chunks, 4);
  runner.allocate(2);
  const std::vector<int64_t> tokens = {1, 2, 3}, next = {4}, zero = {0}, one = {1};
  StepRow row{.tokens = tokens, .blocks = zero};
  runner.forward(std::span(&row, 1));
  runner.copy_block(0, 1);
  row = {.tokens = next, .position = 3, .blocks = zero};
  const at::Tensor expected = runner.forward(std::span(&row, 1)).clone();
  row.blocks = one;
  EXPECT_TRUE(at::equal(runner.forward(std::span(&row, 1)), expected));
  EXPECT_THROW(runner.copy_block(0, 2), Error);
}

TEST(RunRequests, BuffersBelowABlockAreRefusedWithNumbers) {
  EXPECT_EQ(blocks_in_buffer(1000, 300, 16), 3);
  EXPECT_THAT([] { blocks_in_buffer(1000, 2048, 16); },
              ThrowsMessage<Error>(HasSubstr("one block of 16 tokens, which is 2.0 KiB, but "
                                             "got 1000 B; 2048 bytes work")));
}

// Tensor, pipeline, expert and data parallelism; in fp64, so that sums of other orders do not change
// a choice.
TEST(RunRequests, EveryLayoutGivesTheTokensOfOneRank) {
  GPTModelConfig config = rope_config();
  config.transformer.num_layers = 4;
  config.transformer.params_dtype = at::kDouble;
  const auto requests = mixed_requests(9);
  std::map<int64_t, std::vector<int64_t>> expected;
  const RunRequestsOptions options{
      .scheduler = {.block_size = 4, .max_requests = 4, .max_tokens = 16, .chunk_size = 8}};
  run_thread_world(1, [&](RankContext& rank) {
    const GPTModelChunks chunks = {
        inference_test_model(config, make_model_groups(config.transformer, rank))};
    for (const auto& [i, result] : run_requests(chunks, requests, options).results)
      expected[i] = result.completions.at(0).tokens;
  });
  ASSERT_EQ(expected.size(), 9u);
  for (const auto& [world, tp, pp] :
       {std::tuple{2, 2, 1}, {2, 1, 2}, {4, 2, 2}, {3, 1, 1}, {4, 1, 2}}) {
    SCOPED_TRACE(fmt::format("world {} tp {} pp {}", world, tp, pp));
    config.transformer.tensor_model_parallel_size = tp;
    config.transformer.pipeline_model_parallel_size = pp;
    std::mutex mutex;
    std::map<int64_t, std::vector<int64_t>> ours;
    run_thread_world(world, [&](RankContext& rank) {
      const GPTModelChunks chunks = {
          inference_test_model(config, make_model_groups(config.transformer, rank))};
      const auto outcome = run_requests(chunks, requests, options);
      const std::lock_guard lock(mutex);
      for (const auto& [i, result] : outcome.results) {
        EXPECT_FALSE(ours.contains(i)) << "request " << i << " ran twice";
        ours[i] = result.completions.at(0).tokens;
      }
    });
    EXPECT_EQ(ours, expected);
  }
}

TEST(RunRequests, ExpertParallelRanksGiveTheTokensOfOneRank) {
  GPTModelConfig config = rope_config();
  config.transformer.params_dtype = at::kDouble;
  config.transformer.moe.num_moe_experts = 4;
  config.transformer.moe.moe_router_topk = 2;
  const auto requests = mixed_requests(5);
  const RunRequestsOptions options{
      .scheduler = {.block_size = 4, .max_requests = 4, .max_tokens = 16, .chunk_size = 8}};
  std::map<int64_t, std::vector<int64_t>> by_size[2];
  for (const int size : {1, 2}) {
    config.transformer.expert_model_parallel_size = size;
    run_thread_world(size, [&](RankContext& rank) {
      const GPTModelChunks chunks = {
          inference_test_model(config, make_model_groups(config.transformer, rank))};
      const auto outcome = run_requests(chunks, requests, options);
      for (const auto& [i, result] : outcome.results)
        by_size[size - 1][i] = result.completions.at(0).tokens;
    });
  }
  EXPECT_EQ(by_size[0].size(), 5u);
  EXPECT_EQ(by_size[1], by_size[0]);
}

}  // namespace
}  // namespace megatron
