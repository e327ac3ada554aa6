// Records of a training run: its description, steps, evaluations and results.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace megatron {

// Multi-token prediction at one depth of a step.
struct MtpRecord {
  double loss = 0;             // nats: summed loss over the tokens that count
  double tokens = 0;           // tokens that count
  double acceptance_rate = 0;  // percent of these whose label was the most likely token
};

// The experts of one layer in a step.
struct MoeLayerRecord {
  std::string layer;  // such as decoder.layers.3
  // Losses by name (load_balancing_loss, seq_load_balancing_loss, global_load_balancing_loss,
  // z_loss), without their coefficients: means over micro-batches.
  std::vector<std::pair<std::string, double>> losses;
  double load = 0;     // tokens of the busiest expert over the mean of all
  double dropped = 0;  // copies of tokens that exceeded an expert's capacity
};

// What happened to the operands of a step's FP8 products, on all ranks.
struct LowPrecisionRecord {
  std::string recipe;
  double elements = 0;     // quantised
  double saturated = 0;    // of these, clamped to the format's largest value
  double underflowed = 0;  // of these, became 0 and were not
};

// One optimizer step. Times and rates are those of this step; the log averages them.
struct StepRecord {
  int64_t iteration = 0;  // 1-based
  int64_t consumed_samples = 0;
  double loss = 0, grad_norm = 0, learning_rate = 0;
  double loss_scale = 0;  // of fp16; 0: the loss is not scaled
  std::optional<LowPrecisionRecord> low_precision;
  std::vector<MtpRecord> mtp;       // by depth
  std::vector<MoeLayerRecord> moe;  // layers with experts, in order
  double step_ms = 0;               // wall time
  double tokens_per_s = 0;
  double model_tflops = 0;        // model TFLOP/s of all ranks; 0: not measured
  double gemm_peak_fraction = 0;  // model_tflops over the measured GEMM rate; 0: unknown
  double memory_mib = 0;          // resident memory of the largest rank; 0: not measured
  int64_t batch_size = 0;         // samples in this step; 0: unknown
};

struct EvaluationRecord {
  int64_t iteration = 0;
  std::string split;  // "validation" or "test"
  double loss = 0;    // nats per token
  std::optional<double> bits_per_byte;
};

// A running evaluation.
struct EvaluationProgress {
  std::string split;              // "validation" or "test"
  int64_t done = 0, batches = 0;  // global batches
  double seconds = 0;             // since the evaluation began
};

using NamedValues = std::vector<std::pair<std::string, std::string>>;

// What is fixed over a run, for the start of the log and for the report.
struct RunDescription {
  std::string title;                // such as "4 layers x 256, 4.2M parameters"
  NamedValues settings;             // options that differ from their defaults
  std::vector<std::string> stages;  // one line per pipeline stage: layers and parameters
  std::string layout;           // such as "TP=2 x PP=2 x DP=1, 4 processes (gloo), 1 thread each"
  int64_t first_iteration = 0;  // iterations done before this run
  int64_t first_consumed_samples = 0;  // samples consumed by them
  int64_t train_iters = 0;
  bool batch_size_grows = false;  // lines of steps show it
  int64_t world_size = 1;         // ranks; Megatron's "throughput" is TFLOP/s per rank
  // GEMM rate of all ranks, measured at the start; 0: not measured.
  double gemm_peak_tflops = 0;
};

// A titled list of results, such as losses in bits per byte next to reference models.
struct RunSummary {
  std::string title;
  NamedValues rows;
};

}  // namespace megatron
