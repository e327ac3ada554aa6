// `megatron generate` as a program.
#include <filesystem>
#include <fstream>
#include <gmock/gmock.h>
#include <sstream>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tests/program.h"
#include "tests/temporary_folder.h"

namespace megatron {
namespace {

class GenerateProgram : public testing::Test {
 protected:
  const TemporaryFolder folder_;
};

// The byte tokenizer has 257 ids, of which an untrained model with 512 chooses about every second
// token.
TEST_F(GenerateProgram, SamplesOnlyIdsOfTheTokenizer) {
  const std::string save = folder_ / "c";
  const ProgramResult trained = run_program(
      "train --mock-data --tokenizer-type ByteTokenizer --vocab-size 512 --num-layers 1 "
      "--hidden-size 16 --num-attention-heads 2 --seq-length 64 --max-position-embeddings 64 "
      "--train-iters 1 --eval-interval 1 --eval-iters 1 --threads 1 --lr 1e-3 --save " +
      save);
  ASSERT_EQ(trained.status, 0) << trained.errors;
  for (const char* flags :
       {"--num-samples 4 --temperature 1", "--temperature 0", "--num-samples 4 --top-k 400",
        "--num-samples 4 --top-p 0.95",
        "--nproc 2 --tensor-model-parallel-size 2 --num-samples 4 --temperature 1"}) {
    const ProgramResult result = run_program("generate --load " + save +
                                             " --prompt ab --max-new-tokens 40 "
                                             "--threads 1 " +
                                             flags);
    EXPECT_EQ(result.status, 0) << flags << ": " << result.errors;
    EXPECT_THAT(result.output, testing::HasSubstr("ab")) << flags;
  }
}

using nlohmann::json;
using testing::HasSubstr;

class PromptsFile : public testing::Test {
 protected:
  void write(const std::vector<std::string>& lines) {
    std::ofstream file(folder_ / "prompts.jsonl");
    for (const std::string& line : lines) file << line << "\n";
  }

  ProgramResult run(const std::string& flags) const {
    return run_program("generate --load " TEST_DATA_DIR "/hf/gpt2 --threads 1 --prompts-file " +
                       (folder_ / "prompts.jsonl") + " --output " + (folder_ / "out.jsonl") + " " +
                       flags);
  }

  // The same tokens, and log-probabilities that differ by the rounding of other layouts.
  static void expect_same(json line, json expected, const char* flags) {
    const auto ours = line["logprobs"].get<std::vector<double>>(),
               theirs = expected["logprobs"].get<std::vector<double>>();
    ASSERT_EQ(ours.size(), theirs.size()) << flags;
    for (size_t i = 0; i < ours.size(); ++i) EXPECT_NEAR(ours[i], theirs[i], 1e-4) << flags;
    line.erase("logprobs");
    expected.erase("logprobs");
    EXPECT_EQ(line, expected) << flags;
  }

  std::vector<json> output() const {
    std::ifstream file(folder_ / "out.jsonl");
    std::vector<json> lines;
    for (std::string line; std::getline(file, line);) lines.push_back(json::parse(line));
    return lines;
  }

  const TemporaryFolder folder_;
};

TEST_F(PromptsFile, EachLineGetsItsAnswerInOrder) {
  write({R"({"prompt": "Hello world", "max_new_tokens": 5, "temperature": 0})",
         R"({"prompt": [40, 413], "max_new_tokens": 3, "seed": 3, "top_logprobs": 2})", "",
         R"({"prompt": "Hello world", "temperature": 0, "echo": true, "prompt_logprobs": true})",
         R"({"prompt": "Hello", "temperature": 0.8, "n": 2})"});
  const ProgramResult result = run("--max-new-tokens 4");
  ASSERT_EQ(result.status, 0) << result.errors;
  const auto lines = output();
  ASSERT_EQ(lines.size(), 4u);
  EXPECT_EQ(lines[0]["tokens"].size(), 5u);
  EXPECT_EQ(lines[0]["logprobs"].size(), 5u);
  EXPECT_EQ(lines[0]["finish_reason"], "length");
  EXPECT_EQ(lines[1]["tokens"].size(), 3u);
  EXPECT_EQ(lines[1]["top_logprobs"].size(), 3u);
  EXPECT_GE(lines[1]["top_logprobs"][0][0]["logprob"], lines[1]["logprobs"][0]);
  EXPECT_EQ(lines[2]["tokens"].size(), 4u);
  EXPECT_TRUE(lines[2]["text"].get<std::string>().starts_with("Hello world"));
  EXPECT_EQ(lines[2]["prompt_logprobs"].size(), 5u);
  EXPECT_EQ(lines[3]["samples"].size(), 2u);
  EXPECT_EQ(lines[3]["samples"][0]["tokens"], lines[3]["tokens"]);
  EXPECT_NE(lines[3]["samples"][1]["tokens"], lines[3]["tokens"]);
  const std::vector<int64_t> first = lines[0]["tokens"], third = lines[2]["tokens"];
  EXPECT_EQ(third, std::vector<int64_t>(first.begin(), first.begin() + 4));
}

TEST_F(PromptsFile, DataParallelRanksShareTheRequestsOut) {
  std::vector<std::string> prompts;
  for (int i = 0; i < 7; ++i)
    prompts.push_back(R"({"prompt": [)" + std::to_string(i + 5) + R"(], "temperature": 1})");
  write(prompts);
  ASSERT_EQ(run("--max-new-tokens 6").status, 0);
  const auto expected = output();
  ASSERT_EQ(expected.size(), 7u);
  for (const char* flags :
       {"--nproc 2", "--nproc 2 --threads-as-ranks --inference-dynamic-batching-prefix-caching",
        "--nproc 2 --pipeline-model-parallel-size 2"}) {
    const ProgramResult result = run(std::string("--max-new-tokens 6 ") + flags);
    ASSERT_EQ(result.status, 0) << result.errors;
    const auto lines = output();
    ASSERT_EQ(lines.size(), 7u);
    for (size_t i = 0; i < 7; ++i) expect_same(lines[i], expected[i], flags);
  }
}

TEST_F(PromptsFile, ABadLineDoesNotEndTheOthers) {
  write({R"({"prompt": "Hello", "temperature": "hot"})", R"({"prompt": "Hello")",
         R"({"prompt": "Hello", "temprature": 1})", R"({"prompt": "Hello", "top_p": 7})",
         R"({"prompt": "Hello", "max_new_tokens": 100000})", R"({"max_new_tokens": 3})",
         R"({"prompt": "Hello", "temperature": 0})"});
  const ProgramResult result = run("--max-new-tokens 4");
  EXPECT_EQ(result.status, 1);
  EXPECT_THAT(result.errors, HasSubstr("6 of 7 requests failed"));
  EXPECT_THAT(result.errors, HasSubstr("prompts.jsonl line 1: Expected 'temperature' as a number, "
                                       "but got \"hot\""));
  const auto lines = output();
  ASSERT_EQ(lines.size(), 7u);
  const auto error_of = [&](size_t i) { return lines[i]["error"].get<std::string>(); };
  EXPECT_THAT(error_of(1), HasSubstr("line 2: Expected a JSON object"));
  EXPECT_THAT(error_of(2), HasSubstr("line 3: Expected a known key, but got 'temprature'"));
  EXPECT_THAT(error_of(3), HasSubstr("line 4: Expected top_p between 0 and 1, but got 7"));
  EXPECT_THAT(error_of(4), HasSubstr("line 5: Expected prompt and continuation within"));
  EXPECT_THAT(error_of(5), HasSubstr("line 6: Expected 'prompt'"));
  EXPECT_EQ(lines[6]["tokens"].size(), 4u);
}

TEST_F(PromptsFile, BadSettingsAreRefusedWithNumbers) {
  write({R"({"prompt": "Hello"})"});
  for (const auto& [flags, message] :
       {std::pair{"--inference-dynamic-batching-block-size 0",
                  "block-size of at least 1, but got 0"},
        {"--inference-dynamic-batching-chunk-size 100", "64, but got 100; 64 works"},
        {"--inference-dynamic-batching-max-tokens 100", "of at least 143"},
        {"--num-speculative-tokens 40", "of at least 743"},
        {"--inference-dynamic-batching-buffer-size-gb 1000000", "within the machine's memory"},
        {"--inference-dynamic-batching-buffer-size-gb 0", "buffer-size-gb above 0"},
        {"--inference-dynamic-batching-buffer-size-gb 0.000001", "at least one block of 64 tokens"},
        {"--prompt x", "--prompt or --prompts-file"}}) {
    const ProgramResult result = run(flags);
    EXPECT_NE(result.status, 0) << flags;
    EXPECT_THAT(result.errors, HasSubstr(message)) << flags;
  }
}

}  // namespace
}  // namespace megatron
