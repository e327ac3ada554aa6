// A parameter and its marks: how it is sharded, initialised and where its gradient is kept.
// Checkpoints, gradient reduction, norms and optimizers read everything from here.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

namespace megatron {

// What an untrained parameter holds: N(0, std) keyed by the parameter's name, or one value
// everywhere.
struct Initialization {
  enum class Kind { normal, constant };
  Kind kind = Kind::constant;
  double value = 0.0;  // std of the normal, or the constant

  static Initialization normal(double std) { return {Kind::normal, std}; }
  static Initialization constant(double value) { return {Kind::constant, value}; }
};

// How the global tensor is split over the tensor-parallel group.
struct TensorParallelSharding {
  int partition_dim = -1;    // the axis that is split; -1: every rank holds the whole
  int partition_stride = 1;  // blocks that are split one by one: 2 for [gate; up]
  int rank = 0;
  int size = 1;
};

// Gradients are clipped by the norm over all parameters of the same group.
enum class GradientNormGroup {
  model,                  // the norm that a step reports
  multi_token_prediction  // detached prediction layers
};

// One block of a shard along partition_dim: local rows [local_start, local_start + length) are the
// global rows from global_start on.
struct ShardFragment {
  int64_t local_start = 0;
  int64_t length = 0;
  int64_t global_start = 0;
};

class Parameter {
 public:
  // `local_shape` is what this rank holds. `data` starts uninitialised and requires a gradient.
  Parameter(std::vector<int64_t> local_shape, at::TensorOptions options,
            TensorParallelSharding sharding, Initialization initialization);

  // Global, stage-independent: for example decoder.layers.7.mlp.linear_fc1.weight. Set by
  // MegatronModule::assign_names.
  std::string name;
  at::Tensor data;
  at::Tensor main_grad;  // where the gradient is accumulated; undefined where no gradients are kept

  TensorParallelSharding sharding;
  Initialization initialization;
  // Every rank computes the gradient of its part of the sequence only: summed over TP.
  bool sequence_parallel = false;
  // A copy of a parameter of another pipeline stage (tied output weights, the embedding of
  // multi-token prediction): its gradient is summed over the embedding group, and norms and
  // checkpoints skip it.
  bool shared = false;
  bool shared_embedding = false;  // has a copy, or is one
  bool is_embedding_or_output_parameter = false;
  bool is_embedding_parameter = false;  // embeddings and the output layer: MuP keeps their rate
  bool allow_shape_mismatch = false;    // vocabulary padding depends on the layout
  bool expert = false;                  // reduced over the expert-data-parallel group
  bool gradient_is_deferred =
      false;  // the backward passes of a step leave some of it for their end
  GradientNormGroup gradient_norm_group = GradientNormGroup::model;

  std::vector<int64_t> global_shape() const;
  // In order of local_start; one whole fragment where the parameter is not split.
  std::vector<ShardFragment> fragments() const;
  // The part of `data` (or of any tensor of its local shape) that a fragment names: a view.
  at::Tensor fragment_view(const at::Tensor& local, const ShardFragment& fragment) const;
  // Where a fragment begins in the global tensor, per dimension.
  std::vector<int64_t> fragment_offset(const ShardFragment& fragment) const;
  // This rank's part, cut from a global tensor. Throws Error when the shape is not global_shape().
  at::Tensor local_part(const at::Tensor& global) const;

  // Whether this rank counts it in norms and writes it to checkpoints, among its TP group and
  // stages.
  bool is_main_copy() const {
    return !shared && (sharding.partition_dim >= 0 || sharding.rank == 0);
  }
};

using ParameterPtr = std::shared_ptr<Parameter>;

}  // namespace megatron
