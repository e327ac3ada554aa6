// A training run apart from model and optimizer: data, batches, evaluation, checkpoints, logging.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace megatron {

struct BatchConfig {
  int64_t micro_batch_size = 1;
  std::optional<int64_t> global_batch_size;  // default: micro_batch_size * dp
  std::vector<int64_t> rampup_batch_size;    // first size, increment, samples; empty: constant
  bool decrease_batch_size_if_needed = false;
};

enum class TokenizerType {
  GPT2BPETokenizer,
  HuggingFaceTokenizer,
  ByteTokenizer,
  NullTokenizer,
  SentencePieceTokenizer,
  GPTSentencePieceTokenizer,
  Llama2Tokenizer,
  TikTokenizer
};

struct TokenizerConfig {
  std::optional<TokenizerType> tokenizer_type;  // default: inferred from the files
  std::string vocab_file;                       // vocab.json
  std::string merge_file;                       // merges.txt
  std::string tokenizer_model;  // tokenizer.json or its folder; tokenizer.model; ...
  bool tokenizer_hf_include_special_tokens = false;
  std::string tiktoken_pattern = "v2";
  int64_t tiktoken_num_special_tokens = 1000;
  std::vector<std::string> tokenizer_special_tokens;  // of TikTokenizer; empty: Megatron's seven
};

// The given type, or the one that the names of the files suggest.
TokenizerType tokenizer_type_of(const TokenizerConfig& config);

struct DataConfig {
  // Path prefixes of .bin and .idx files, with or without weights (data/blend.h).
  std::vector<std::string> data_path;
  std::string data_args_path;  // file with the words of data_path
  std::vector<std::string> train_data_path, valid_data_path, test_data_path;
  std::string per_split_data_args_path;  // JSON file with those three
  std::string split = "969,30,1";
  std::string data_cache_path;
  bool mmap_bin_files = true;
  bool mock_data = false;
  bool eod_mask_loss = false;
};

struct TrainingConfig {
  int64_t train_iters = 0;               // with train_samples: set by validate()
  std::optional<int64_t> train_samples;  // instead of train_iters
  int64_t seed = 1234;
  int64_t eval_interval = 1000;  // 0 disables evaluation
  int64_t eval_iters = 100;
  int64_t exit_interval = 0;  // 0 disables it
  std::optional<double> exit_duration_in_mins;
  bool check_for_nan_in_loss = true;
  int64_t empty_unused_memory_level = 0;  // 1: after each pass; 2: after optimizer steps too
};

struct CheckpointConfig {
  std::string save;
  std::string load;
  std::string save_hf;        // Hugging Face folders of the saved iterations
  int64_t save_interval = 0;  // iterations; 0: save at the end only
  bool exit_on_missing_checkpoint = false;
  bool finetune = false;  // load weights only; start at iteration 0
  bool no_load_optim = false;
  bool no_save_optim = false;
};

// Profiler trace of a few steps (Megatron's ProfilingConfig). Steps count completed steps: 10 to 12
// records iterations 11 and 12 of the log.
struct ProfileConfig {
  bool profile = false;
  int64_t profile_step_start = 10;  // completed steps when recording starts
  int64_t profile_step_end = 12;    // completed steps when recording ends
  std::vector<int64_t> profile_ranks = {0};
  std::string profile_dir = "profile";
};

struct LoggingConfig {
  int64_t log_interval = 1;
  std::string tensorboard_dir;
  std::string log_json;
  std::string report;    // HTML report
  bool verbose = false;  // prints what the model builder builds
};

}  // namespace megatron
