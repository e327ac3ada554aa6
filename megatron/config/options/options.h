// All options of the program. Defaults are the initial values; option_table.h has names and help.
#pragma once

#include <string>
#include <vector>

#include "megatron/config/model/ddp_config.h"
#include "megatron/config/model/gpt_model_config.h"
#include "megatron/config/model/launch_config.h"
#include "megatron/config/model/optimizer_config.h"
#include "megatron/config/model/training_config.h"

namespace megatron {

struct GenerationConfig {
  std::string prompt;
  int64_t max_new_tokens = 64;
  double temperature = 1.0;  // 0: greedy decoding
  int64_t top_k = 0;         // 0: all tokens
  double top_p = 0.0;        // 0: all tokens
  int64_t num_samples = 1;
  std::string prompts_file;  // JSON lines of requests, instead of `prompt`
  std::string output;        // file of their results; empty: standard output

  // The engine's key-value cache and steps.
  int64_t inference_dynamic_batching_block_size = 64;      // tokens
  double inference_dynamic_batching_buffer_size_gb = 2.0;  // GiB a rank
  int64_t inference_dynamic_batching_max_requests = 16;    // that run at once
  int64_t inference_dynamic_batching_max_tokens = 512;     // of a step
  int64_t inference_dynamic_batching_chunk_size = 128;     // tokens of a prompt's chunk
  bool inference_dynamic_batching_prefix_caching = false;
  int64_t num_speculative_tokens = 0;  // proposed per step by n-gram lookup
};

struct EvaluationConfig {
  std::string text_file;     // text whose perplexity is measured
  std::string choices_file;  // JSON lines of prompts, choices and answers
  int64_t text_window = 0;   // tokens; 0: as many as the model has positions
};

struct BenchConfig {
  int64_t steps = 5;
  int64_t warmup_steps = 2;
  // With Options::decode.
  int64_t prompt_tokens = 512;
  int64_t new_tokens = 128;
  int64_t batch = 1;
  std::string weights;  // fp32, bf16, fp16, int8 or int4; empty: the model's dtype
};

struct ParityConfig {
  std::string case_file;   // <case>.json, with <case>.safetensors beside it
  std::string hf;          // instead: a Hugging Face folder with expected.safetensors
  std::string gguf;        // instead: a folder with model.gguf and expected.safetensors
  double tolerance = 1.0;  // factor on every bound
  std::string json;        // output file of the comparison
};

struct PreprocessConfig {
  std::vector<std::string> input;  // text (a document per file) or .jsonl (a document per line)
  std::string output_prefix;       // of .bin and .idx
  std::vector<std::string> json_keys = {"text"};
  int64_t workers = 1;
  bool append_eod = false;
  std::string document_start;  // regular expression for the first lines of documents
  bool statistics = false;
};

struct PlanConfig {
  std::optional<int64_t> world_size;  // default: TP x PP x CP
  std::string draw_schedule;          // SVG file
};

struct VerifyLayoutConfig {
  std::vector<std::string> layouts;  // such as tp2+sp; empty: those that fit the model
  bool shrink = false;
  double bound = 1e-8;  // on every relative difference
  int64_t random = 0;   // models and layouts to draw; 0: the given model
};

// Between our checkpoints and the folders of other libraries.
struct ConvertConfig {
  std::string from_hf;    // Hugging Face folder to read
  std::string to_hf;      // Hugging Face folder to write
  std::string from_gguf;  // GGUF file to read
  std::string to_gguf;    // GGUF file to write
  std::string gguf_type;  // of its matrices: f32, f16, bf16 or q8_0; empty: that of the weights
  bool verify = false;    // converts back and compares
};

struct InspectConfig {
  std::string checkpoint;
};

struct OptionListConfig {
  bool markdown = false;
  bool megatron_lm_flags = false;
};

// The command line keeps Megatron-LM's defaults where GPTModelConfig has others: embedding and
// output layer share their weights, and the vocabulary is padded.
inline GPTModelConfig command_line_model_defaults() {
  GPTModelConfig config;
  config.share_embeddings_and_output_weights = true;
  config.should_pad_vocab = true;
  return config;
}

struct Options {
  std::string config_file;  // YAML file
  std::string recipe;       // a file of the same kind that ships with the program, by name
  bool decode = false;      // tokenize: ids to text; bench: generation instead of training
  GPTModelConfig model = command_line_model_defaults();
  OptimizerConfig optimizer;
  DistributedDataParallelConfig ddp{.grad_reduce_in_fp32 = true};  // as Megatron-LM with --bf16
  BatchConfig batch;
  TokenizerConfig tokenizer;
  DataConfig data;
  TrainingConfig training;
  CheckpointConfig checkpoint;
  LoggingConfig logging;
  ProfileConfig profile;
  LaunchConfig launch;
  GenerationConfig generation;
  EvaluationConfig evaluation;
  BenchConfig bench;
  ParityConfig parity;
  PreprocessConfig preprocess;
  PlanConfig plan;
  VerifyLayoutConfig verify_layout;
  ConvertConfig convert;
  InspectConfig inspect;
  OptionListConfig option_list;
};

}  // namespace megatron
