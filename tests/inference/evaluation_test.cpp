#include "megatron/inference/evaluation.h"

#include <cmath>
#include <fstream>
#include <gmock/gmock.h>

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "megatron/base/error.h"

#include "tests/inference/inference_model.h"
#include "tests/program.h"
#include "tests/temporary_folder.h"

namespace megatron {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

TEST(ScoreText, EveryTokenIsPredictedOnceFromThoseBeforeItInItsPart) {
  const GPTModelConfig config = inference_test_config(/*rope=*/false, /*query_groups=*/4);
  const GPTModelChunks chunks = {
      inference_test_model(config, ProcessGroupCollection::single_rank())};
  std::vector<int64_t> ids;
  for (int64_t i = 0; i < 50; ++i) ids.push_back(i * i % 61);
  const int64_t window = 24;  // all positions of the model
  const at::NoGradGuard no_grad;
  double expected = 0.0;
  for (int64_t first = 0; first + 1 < 50; first += window - 1) {
    const int64_t s = std::min<int64_t>(window, 50 - first);
    const at::Tensor part = at::tensor(ids, at::kLong).narrow(0, first, s);
    const at::Tensor logprobs =
        chunks.front()
            ->forward({.input_ids = part.unsqueeze(0),
                       .position_ids = at::arange(s, at::kLong).unsqueeze(0)},
                      ForwardContext::make(false, 0, at::zeros({1}, at::kLong), s, false, 0, 1))[0]
            .narrow(1, 0, 61)
            .to(at::kDouble)
            .log_softmax(1);
    for (int64_t i = 1; i < s; ++i) expected -= logprobs[i - 1][part[i]].item<double>();
  }
  const TextScore score =
      score_text(chunks, ids, window, {.scheduler = {.block_size = 8, .chunk_size = 8}},
                 *chunks.front()->groups().world);
  EXPECT_EQ(score.tokens, 49);
  EXPECT_NEAR(score.nats, expected, 1e-3);
  EXPECT_NEAR(score.perplexity(), std::exp(expected / 49), 1e-3);
  EXPECT_THROW(score_text(chunks, {1}, 8, {}, *chunks.front()->groups().world), Error);
}

TEST(ChoiceQuestions, BadLinesAreNamed) {
  const TemporaryFolder folder;
  const auto read = [&](const std::string& text) {
    std::ofstream(folder / "q.jsonl") << text;
    return read_choice_questions(folder / "q.jsonl");
  };
  const std::string good = R"({"prompt": "a", "choices": ["b", "c"], "answer": 1})";
  EXPECT_EQ(read(good + "\n\n" + good).size(), 2u);
  for (const auto& [line, message] :
       {std::pair{"{", "line 2"},
        {R"({"prompt": "a", "choices": ["b"]})", "line 2: Expected 'answer', but got none"},
        {R"({"prompt": "a", "choices": ["b"], "answer": 1})", "below the number of choices 1"},
        {R"({"prompt": "a", "choices": [""], "answer": 0})", "not empty"},
        {R"({"prompt": "a", "choices": ["b"], "answer": 0, "hint": 1})", "'hint'"}}) {
    const std::string text = good + "\n" + line;
    EXPECT_THAT([&] { read(text); }, ThrowsMessage<Error>(HasSubstr(message)));
  }
  EXPECT_THROW(read(""), Error);
}

class EvaluateProgram : public testing::Test {
 protected:
  nlohmann::json run(const std::string& flags) {
    const ProgramResult result =
        run_program("evaluate --load " TEST_DATA_DIR "/hf/gpt2 --threads 1 " + flags);
    EXPECT_EQ(result.status, 0) << result.errors;
    return result.status == 0 ? nlohmann::json::parse(result.output) : nlohmann::json();
  }

  const TemporaryFolder folder_;
};

TEST_F(EvaluateProgram, ScoresDoNotDependOnTheLayout) {
  std::ofstream text(folder_ / "text.txt");
  for (int i = 0; i < 20; ++i) text << "Hello world, two  spaces and line " << i << "\n";
  text.close();
  std::ofstream(folder_ / "q.jsonl")
      << R"({"prompt": "Hello", "choices": [" world", " qqqq"], "answer": 0})"
      << "\n"
      << R"({"prompt": "two", "choices": [" x", "  spaces", " years"], "answer": 1})"
      << "\n";
  const std::string flags = "--text-file " + (folder_ / "text.txt") + " --text-window 32 " +
                            "--choices-file " + (folder_ / "q.jsonl");
  const auto one = run(flags);
  EXPECT_EQ(one["text"]["window"], 32);
  EXPECT_GT(one["text"]["tokens"], 100);
  // An untrained model of 512 tokens.
  EXPECT_NEAR(one["text"]["loss"].get<double>(), std::log(512.0), 0.8);
  EXPECT_EQ(one["choices"]["questions"], 2);
  for (const char* layout : {" --nproc 2 --tensor-model-parallel-size 2",
                             " --nproc 2 --pipeline-model-parallel-size 2", " --nproc 2"}) {
    const auto ours = run(flags + layout);
    EXPECT_NEAR(ours["text"]["loss"].get<double>(), one["text"]["loss"].get<double>(), 1e-5);
    EXPECT_EQ(ours["choices"]["accuracy"], one["choices"]["accuracy"]) << layout;
  }
}

TEST_F(EvaluateProgram, NeedsSomethingToEvaluate) {
  const std::string load = "evaluate --load " TEST_DATA_DIR "/hf/gpt2";
  const ProgramResult none = run_program(load);
  EXPECT_NE(none.status, 0);
  EXPECT_THAT(none.errors, HasSubstr("--text-file or --choices-file"));
  std::ofstream(folder_ / "text.txt") << "Hello world";
  const ProgramResult window =
      run_program(load + " --text-file " + (folder_ / "text.txt") + " --text-window 100000");
  EXPECT_NE(window.status, 0);
  EXPECT_THAT(window.errors, HasSubstr("--text-window of at most"));
}

}  // namespace
}  // namespace megatron
