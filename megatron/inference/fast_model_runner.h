// Decode and prefill of dense models on a CPU at the speed of memory: packed weights, fused
// operators, and one parallel region per step, in which the threads meet at barriers. No autograd
// graph; memory is kept from step to step.
//
// The sums of a row do not depend on the rows beside it nor on the number of threads: chunks of a
// prompt give the bits of the whole prompt, and batched sequences those of each alone.
#pragma once

#include <memory>
#include <optional>

#include "megatron/inference/decode_weights.h"
#include "megatron/inference/model_runner.h"
#include "megatron/ops/decode/paged_attention.h"
#include "megatron/ops/decode/row_operations.h"

namespace megatron {

struct FastModelRunnerOptions {
  int64_t block_size = 64;
  int64_t num_blocks = 0;
  // Of the matrices; default: that of the model's parameters.
  std::optional<WeightFormat> weights = {};
  // Of keys and values: fp32, bf16 or fp16; default: that of the model's parameters.
  std::optional<at::ScalarType> cache_dtype = {};
};

class FastModelRunner : public ModelRunner {
 public:
  // Throws Error for a model that reason_against_fast_runner() refuses, and for a cache of no blocks.
  // The model must outlive the runner: embeddings are its own.
  FastModelRunner(const GPTModel& model, const FastModelRunnerOptions& options);
  FastModelRunner(const FastModelRunner&) = delete;
  FastModelRunner& operator=(const FastModelRunner&) = delete;

  // Memory of one block of the cache, to choose num_blocks.
  static int64_t block_bytes(const GPTModelConfig& config, int64_t block_size,
                             at::ScalarType cache_dtype);

  at::Tensor forward(std::span<const StepRow> rows) override;
  void copy_block(int64_t from, int64_t to) override { cache_.copy_block(from, to); }
  int64_t block_size() const override { return cache_.shape().block_size; }
  int64_t num_blocks() const override { return cache_.shape().num_blocks; }
  int64_t vocab_size() const override { return weights_.output.n(); }

  int64_t weight_bytes() const { return weights_.matrix_bytes(); }
  const PagedCache& cache() const { return cache_; }

 private:
  struct Token {
    int64_t id, position, block, slot;
  };
  struct Rotary {
    at::Tensor cos, sin;  // [positions, rotated] fp32
  };

  // Checks the rows and lists their tokens.
  void gather(std::span<const StepRow> rows);
  void reserve();
  void extend_rotary(int64_t positions);

  // The steps below run on every thread of the team.
  void run(ThreadTeam& team);
  void run_layer(ThreadTeam& team, int64_t layer);
  void embed(const ThreadTeam& team);
  // Writes the norm of x's rows to `to`, in the matrices' input type.
  void normalize(const ThreadTeam& team, const DecodeNorm& norm, void* to);
  // Norms and rotates queries and keys of qkv_, and stores keys and values in the cache.
  void store_heads(const ThreadTeam& team, int64_t layer);
  // Rows [rows, k] of inputs as the matrix takes them. Where it quantizes them, contains a barrier.
  struct MatrixInput {
    const void* x;
    int64_t stride;
  };
  MatrixInput matrix_input(ThreadTeam& team, const PackedMatrix& matrix, int64_t rows,
                           const void* inputs, int64_t stride);
  // x += multiplier * post_norm(input weights^T + bias)
  void project(ThreadTeam& team, const PackedMatrix& matrix, const DecodeNorm& post_norm,
               const void* input, int64_t input_stride);
  void compute_logits(ThreadTeam& team);

  RowNorm row_norm(const DecodeNorm& norm) const;
  // Row i of a buffer of `width` inputs of matrices.
  template <typename Body>
  void with_input_row(void* buffer, int64_t row, int64_t width, const Body& body) const;

  const GPTModelConfig config_;
  DecodeWeights weights_;
  PagedCache cache_;
  PagedAttention full_, windowed_;
  std::unique_ptr<ModelRotaryEmbedding> rotary_embedding_;  // null without rotary positions
  Rotary rotary_, rotary_local_;
  kernels::Activation activation_;
  kernels::GluOptions glu_;
  float softmax_scale_;

  std::vector<Token> tokens_;
  std::vector<int64_t> wanted_;  // tokens whose logits are returned
  std::vector<PagedQueries> sequences_;
  // [tokens, width]. Inputs of matrices are fp32 or bf16.
  std::vector<float> x_, inputs_, mlp_inputs_, qkv_, queries_, attended_, branch_, activated_;
  std::vector<unsigned char> quantized_;  // rows of inputs of one matrix
  at::Tensor logits_;
};

}  // namespace megatron
