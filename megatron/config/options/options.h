// Everything that a command line or a YAML file can set. The defaults are the initial values here;
// names, help and units are in option_table.h.
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
  double temperature = 1.0;  // 0: greedy
  int64_t top_k = 0;         // 0: all
  double top_p = 0.0;        // 0: all
  int64_t num_samples = 1;
};

struct BenchConfig {
  int64_t steps = 5;
  int64_t warmup_steps = 2;
};

struct ParityConfig {
  std::string case_file;   // <case>.json, with <case>.safetensors beside it
  double tolerance = 1.0;  // scales every bound
  std::string json;        // where to write what was compared
};

struct PreprocessConfig {
  std::vector<std::string> input;  // text (one document a file) or .jsonl (one document a line)
  std::string output_prefix;       // of .bin and .idx
  std::vector<std::string> json_keys = {"text"};
  int64_t workers = 1;
  bool append_eod = false;
  std::string document_start;  // plain text: lines that open a document
  bool statistics = false;
};

struct TokenizeConfig {
  bool decode = false;
};

struct PlanConfig {
  std::optional<int64_t> world_size;  // tensor x pipeline x context parallel where not given
  std::string draw_schedule;          // the SVG file to write
};

struct VerifyLayoutConfig {
  std::vector<std::string> layouts;  // such as tp2+sp; empty: those that fit the model
  bool shrink = false;
  double bound = 1e-8;  // on every relative difference
  int64_t random = 0;   // models and layouts to draw; 0: the given model
};

struct InspectConfig {
  std::string checkpoint;
};

struct OptionListConfig {
  bool markdown = false;
  bool megatron_lm_flags = false;
};

struct Options {
  std::string config_file;  // the YAML file that was read
  GPTModelConfig model;
  OptimizerConfig optimizer;
  DistributedDataParallelConfig ddp;
  BatchConfig batch;
  TokenizerConfig tokenizer;
  DataConfig data;
  TrainingConfig training;
  CheckpointConfig checkpoint;
  LoggingConfig logging;
  ProfileConfig profile;
  LaunchConfig launch;
  GenerationConfig generation;
  BenchConfig bench;
  ParityConfig parity;
  PreprocessConfig preprocess;
  TokenizeConfig tokenize;
  PlanConfig plan;
  VerifyLayoutConfig verify_layout;
  InspectConfig inspect;
  OptionListConfig option_list;
};

}  // namespace megatron
