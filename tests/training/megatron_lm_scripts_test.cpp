// The flags of Megatron-LM's example scripts for GPT and Llama, with sizes scaled down: only FP8
// and expert flags are refused, and without them the scripts train, log and save.
#include <algorithm>
#include <gmock/gmock.h>
#include <iterator>
#include <set>
#include <sstream>

#include <fmt/format.h>

#include "megatron/config/megatron_lm/megatron_lm_flags.h"
#include "megatron/config/options/command_line.h"

#include "tests/training/train_program.h"

namespace megatron {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::IsSupersetOf;

struct Script {
  const char* name;
  const char* flags;    // DATA, VOCAB, MERGES, TOKENIZER, OUT stand for paths
  const char* launch;   // in place of torchrun's arguments
  const char* refused;  // flags that are refused
  const char* listed;   // flags that are accepted without effect
};

// examples/gpt3/train_gpt3_175b_distributed.sh
constexpr Script kGpt175b = {
    "gpt3_175b",
    "--num-layers 4 --hidden-size 32 --num-attention-heads 4 --seq-length 32 "
    "--max-position-embeddings 32 --attention-backend auto --micro-batch-size 1 "
    "--global-batch-size 8 --rampup-batch-size 4 4 8 --train-iters 2 --weight-decay 0.1 "
    "--adam-beta1 0.9 --adam-beta2 0.95 --init-method-std 0.006 --clip-grad 1.0 --fp16 --lr 6.0e-5 "
    "--lr-decay-style cosine --min-lr 6.0e-6 --lr-warmup-fraction .001 --lr-decay-iters 2 "
    "--tensor-model-parallel-size 2 --pipeline-model-parallel-size 2 --data-path DATA --vocab-file "
    "VOCAB --merge-file MERGES --split 949,50,1 --log-interval 1 --save-interval 2 --eval-interval "
    "1 --save OUT/c --load OUT/c --eval-iters 1 --tensorboard-dir OUT/tb",
    "--nproc 4 --threads-as-ranks", "", ""};

// The same model counted in samples, as the scripts before 2024 have it.
constexpr Script kGpt175bSamples = {
    "gpt3_175b_samples",
    "--num-layers 4 --hidden-size 32 --num-attention-heads 4 --seq-length 32 "
    "--max-position-embeddings 32 --sequence-parallel --recompute-activations --micro-batch-size 1 "
    "--global-batch-size 8 --rampup-batch-size 4 4 8 --train-samples 9 --lr-decay-samples 8 "
    "--lr-warmup-samples 2 --lr 6.0e-5 --min-lr 6.0e-6 --lr-decay-style cosine --log-interval 1 "
    "--eval-iters 1 --eval-interval 2 --data-path 1.0 DATA --vocab-file VOCAB --merge-file MERGES "
    "--save-interval 2 --save OUT/c --load OUT/c --split 98,2,0 --clip-grad 1.0 --weight-decay 0.1 "
    "--adam-beta1 0.9 --adam-beta2 0.95 --init-method-std 0.006 --tensorboard-dir OUT/tb --fp16 "
    "--loss-scale 8192 --tensor-model-parallel-size 2 --use-mcore-models --no-load-rng",
    "--nproc 2 --threads-as-ranks", "", "--use-mcore-models --no-load-rng"};

// examples/llama/train_llama3_8b_h100_fp8.sh with mock data.
constexpr Script kLlamaMock = {
    "llama3_8b_mock",
    "--use-mcore-models --num-layers 2 --hidden-size 32 --ffn-hidden-size 112 "
    "--num-attention-heads 4 --group-query-attention --num-query-groups 2 --kv-channels 8 "
    "--seq-length 32 --max-position-embeddings 32 --position-embedding-type rope --rotary-base "
    "1000000 --rotary-percent 1.0 --attention-dropout 0.0 --hidden-dropout 0.0 --swiglu "
    "--init-method-std 0.0134 --attention-backend fused --apply-layernorm-1p "
    "--untie-embeddings-and-output-weights --disable-bias-linear --micro-batch-size 1 "
    "--global-batch-size 4 --train-samples 9 --lr-decay-samples 7 --lr-warmup-samples 2 --lr "
    "0.00015 --min-lr 0.00001 --decoupled-lr 5.0e-4 --decoupled-min-lr 4.5e-5 --lr-decay-style "
    "cosine --clip-grad 1.0 --weight-decay 0.1 --adam-beta1 0.9 --adam-beta2 0.95 --bf16 "
    "--grad-reduce-in-bf16 --cross-entropy-loss-fusion --calculate-per-token-loss --manual-gc "
    "--empty-unused-memory-level 1 --exit-duration-in-mins 235 --use-distributed-optimizer "
    "--overlap-grad-reduce --overlap-param-gather --fp8-format hybrid --fp8-amax-history-len 1024 "
    "--fp8-amax-compute-algo max --fp8-param-gather --tensor-model-parallel-size 1 "
    "--context-parallel-size 1 --sequence-parallel --mock-data --tokenizer-type NullTokenizer "
    "--vocab-size 256 --data-cache-path OUT/cache --tiktoken-pattern v2 --split '99,1,0' "
    "--no-create-attention-mask-in-dataloader --no-mmap-bin-files --num-workers 1 --log-interval 1 "
    "--eval-iters 1 --eval-interval 2 --save-interval 2 --log-throughput --profile "
    "--profile-step-start 0 --profile-step-end 1 --ckpt-format torch_dist "
    "--distributed-timeout-minutes 60 --save OUT/c --load OUT/c --tensorboard-dir OUT/tb",
    "--nproc 2 --threads-as-ranks --profile-dir OUT/profile", "--fp8-param-gather",
    "--use-mcore-models --manual-gc --no-create-attention-mask-in-dataloader "
    "--num-workers --log-throughput --ckpt-format --sequence-parallel"};

// The same script with a dataset and a tokenizer of its own.
constexpr Script kLlamaData = {
    "llama3_8b_data",
    "--use-mcore-models --num-layers 2 --hidden-size 32 --ffn-hidden-size 112 "
    "--num-attention-heads 4 --group-query-attention --num-query-groups 2 --kv-channels 8 "
    "--seq-length 32 --max-position-embeddings 32 --position-embedding-type rope --rotary-base "
    "1000000 --rotary-percent 1.0 --attention-dropout 0.0 --hidden-dropout 0.0 --swiglu "
    "--init-method-std 0.0134 --attention-backend fused --apply-layernorm-1p "
    "--untie-embeddings-and-output-weights --disable-bias-linear --micro-batch-size 1 "
    "--global-batch-size 4 --train-samples 9 --lr-decay-samples 7 --lr-warmup-samples 2 --lr "
    "0.00015 --min-lr 0.00001 --decoupled-lr 5.0e-4 --decoupled-min-lr 4.5e-5 --lr-decay-style "
    "cosine --clip-grad 1.0 --weight-decay 0.1 --adam-beta1 0.9 --adam-beta2 0.95 --bf16 "
    "--grad-reduce-in-bf16 --cross-entropy-loss-fusion --calculate-per-token-loss --manual-gc "
    "--empty-unused-memory-level 1 --exit-duration-in-mins 235 --use-distributed-optimizer "
    "--overlap-grad-reduce --overlap-param-gather --tensor-model-parallel-size 2 "
    "--context-parallel-size 1 --sequence-parallel --data-path HF_DATA --tokenizer-type "
    "HuggingFaceTokenizer --tokenizer-model TOKENIZER --data-cache-path OUT/cache --split '99,1,0' "
    "--no-create-attention-mask-in-dataloader --no-mmap-bin-files --num-workers 1 --vocab-size "
    "1024 --log-interval 1 --eval-iters 1 --eval-interval 2 --save-interval 2 --log-throughput "
    "--ckpt-format torch_dist --distributed-timeout-minutes 60 --save OUT/c --load OUT/c "
    "--tensorboard-dir OUT/tb",
    "--nproc 4 --threads-as-ranks", "",
    "--use-mcore-models --manual-gc --no-create-attention-mask-in-dataloader --num-workers "
    "--log-throughput --ckpt-format"};

std::vector<std::string> words_of_text(const std::string& text) {
  std::istringstream stream(text);
  return {std::istream_iterator<std::string>(stream), {}};
}

// The flags that the parser refuses, from its error.
std::set<std::string> refused_flags(const std::vector<std::string>& words) {
  std::set<std::string> flags;
  try {
    parse_options(Command::train, words);
  } catch (const UsageError& error) {
    std::istringstream lines(error.details().empty() ? "  " + std::string(error.what())
                                                     : error.details());
    for (std::string line; std::getline(lines, line);) {
      const size_t at = line.starts_with("  --") ? 2 : line.find("--");
      if (!line.starts_with("  ")) continue;
      flags.insert(line.substr(at, line.find_first_of(" ,;", at) - at));
    }
  }
  return flags;
}

bool belongs_to_later_precision_or_experts(const std::string& flag) {
  const auto known = find_megatron_lm_flag(flag);
  return known && (known->text == "FP8 and FP4" || known->text == "mixture of experts");
}

class MegatronLmScript : public TrainProgram, public testing::WithParamInterface<Script> {
 protected:
  void preprocess(const std::string& tokenizer, const std::string& name) {
    const ProgramResult result = run_program("preprocess " + tokenizer + " --append-eod --input " +
                                             path("text.jsonl") + " --output-prefix " + path(name));
    ASSERT_EQ(result.status, 0) << result.errors;
  }
  // The words of `text` with paths in place of names.
  std::vector<std::string> script_words(const std::string& text) const {
    const std::string data = std::string(TEST_DATA_DIR) + "/data/";
    const std::map<std::string, std::string> names = {
        {"DATA", path("gpt2_text_document")},
        {"HF_DATA", path("hf_text_document")},
        {"VOCAB", data + "gpt2/vocab.json"},
        {"MERGES", data + "gpt2/merges.txt"},
        {"TOKENIZER", data + "hf_tiny/tokenizer.json"}};
    std::vector<std::string> words = words_of_text(text);
    for (std::string& word : words) {
      if (names.contains(word)) word = names.at(word);
      if (word.starts_with("OUT/")) word = path(word.substr(4));
    }
    return words;
  }
};

TEST_P(MegatronLmScript, TrainsWithoutTheFlagsOfLaterPrecisionsAndExperts) {
  const Script& script = GetParam();
  std::ofstream text(path("text.jsonl"));
  for (int i = 0; i < 60; ++i) {
    std::string document;
    for (int word = 0; word < 60; ++word) document += fmt::format("word {} of {}, ", word, i);
    text << nlohmann::json({{"text", document}}) << '\n';
  }
  text.close();
  const std::string golden = std::string(TEST_DATA_DIR) + "/data/";
  preprocess(
      "--vocab-file " + golden + "gpt2/vocab.json --merge-file " + golden + "gpt2/merges.txt",
      "gpt2");
  preprocess("--tokenizer-model " + golden + "hf_tiny/tokenizer.json", "hf");

  const std::vector<std::string> words = script_words(script.flags);
  const std::set<std::string> refused = refused_flags(words);
  for (const std::string& flag : refused)
    EXPECT_TRUE(belongs_to_later_precision_or_experts(flag)) << flag;
  const std::vector<std::string> expected = words_of_text(script.refused);
  EXPECT_EQ(refused, std::set<std::string>(expected.begin(), expected.end()));

  std::string command = "train --threads 1";
  bool keeps = true;
  for (const std::string& word : words) {
    if (word.starts_with("--")) keeps = !refused.contains(word);
    // The quotes reach the program, as they do in the script.
    if (keeps) command += word.front() == '\'' ? " \"" + word + "\"" : " " + word;
  }
  for (const std::string& word : script_words(script.launch)) command += " " + word;
  const ProgramResult result = run_program(command);
  ASSERT_EQ(result.status, 0) << result.errors << "\n" << command;
  EXPECT_THAT(result.output, AllOf(HasSubstr("step 1/2 |"), HasSubstr("step 2/2 |"),
                                   HasSubstr("validation loss")));
  auto checkpoint = CheckpointReader::open(path("c"));
  EXPECT_EQ(checkpoint.common()["iteration"], 2);
  EXPECT_FALSE(std::filesystem::is_empty(path("tb")));
  const size_t line = result.output.find("Flags without effect here, because it is always so: ");
  const std::vector<std::string> listed = words_of_text(script.listed);
  EXPECT_EQ(line == std::string::npos, listed.empty());
  if (listed.empty()) return;
  EXPECT_THAT(words_of_text([&] {
                std::string flags =
                    result.output.substr(line, result.output.find('\n', line) - line);
                std::ranges::replace(flags, ',', ' ');
                return flags;
              }()),
              IsSupersetOf(listed));
}

INSTANTIATE_TEST_SUITE_P(Examples, MegatronLmScript,
                         testing::Values(kGpt175b, kGpt175bSamples, kLlamaMock, kLlamaData),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace megatron
