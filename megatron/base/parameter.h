// A parameter and its attributes: sharding, initialization, main gradient. Checkpoints, gradient
// reduction, norms and optimizers read these attributes.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

namespace megatron {

// Initial values: N(0, std), drawn from a generator keyed by the parameter's name, or a constant.
struct Initialization {
  enum class Kind { normal, constant };
  Kind kind = Kind::constant;
  double value = 0.0;  // standard deviation or constant

  static Initialization normal(double std) { return {Kind::normal, std}; }
  static Initialization constant(double value) { return {Kind::constant, value}; }
};

// How the global tensor is sharded over the tensor-parallel group.
struct TensorParallelSharding {
  int partition_dim = -1;    // sharded dimension; -1: replicated
  int partition_stride = 1;  // blocks that are sharded separately: 2 for [gate; up]
  int rank = 0;
  int size = 1;
};

// How a stack of experts is sharded over the expert-parallel group: dimension 0 counts the experts,
// and each rank holds a contiguous run of them.
struct ExpertParallelSharding {
  int rank = 0;
  int size = 1;
};

// Gradients are clipped by the norm over all parameters of the same group.
enum class GradientNormGroup {
  model,                  // the reported gradient norm
  multi_token_prediction  // MTP layers with mtp_detach_heads
};

// A contiguous block of a shard along partition_dim: local rows [local_start, local_start + length)
// are the global rows from global_start on.
struct ShardFragment {
  int64_t local_start = 0;
  int64_t length = 0;
  int64_t global_start = 0;
};

class Parameter {
 public:
  // `local_shape` is the shape of this rank's shard. `data` is uninitialized and requires grad.
  Parameter(std::vector<int64_t> local_shape, at::TensorOptions options,
            TensorParallelSharding sharding, Initialization initialization);

  // The same on every pipeline stage, for example decoder.layers.7.mlp.linear_fc1.weight. Set by
  // MegatronModule::assign_names.
  std::string name;
  at::Tensor data;
  at::Tensor main_grad;  // accumulated gradient; undefined if no gradients are kept

  TensorParallelSharding sharding;
  Initialization initialization;
  // Each rank computes the gradient of its sequence shard only, so gradients are summed over TP.
  bool sequence_parallel = false;
  // A copy of a parameter of another pipeline stage (tied output weights, MTP's embedding). Its
  // gradient is summed over the embedding group; norms and checkpoints skip the copy.
  bool shared = false;
  bool shared_embedding = false;  // is a copy or has one
  bool is_embedding_or_output_parameter = false;
  bool is_embedding_parameter = false;  // embeddings and output layer: MuP keeps their lr
  bool allow_shape_mismatch = false;    // vocabulary padding depends on the layout
  // A stack of experts: dimension 0 counts them. Its sharding.rank and size are of the experts'
  // tensor-parallel group, and its gradient is reduced over the expert-data-parallel group.
  bool expert = false;
  ExpertParallelSharding expert_sharding;
  bool is_buffer = false;             // state that is not trained, such as a router's bias
  bool keep_fp32 = false;             // Float16Module does not convert it
  bool gradient_is_deferred = false;  // complete only after the step's last backward pass
  GradientNormGroup gradient_norm_group = GradientNormGroup::model;

  std::vector<int64_t> global_shape() const;
  // Dimensions of the tensor of one expert, or of the parameter where it is no stack.
  int64_t matrix_dim() const { return data.dim() - (expert ? 1 : 0); }
  // The parameter of the i-th expert of this rank: a view of the stack, under the name
  // <...>.experts.local_experts.<global number>.<...>, which Megatron's sequential experts have.
  Parameter expert_part(int64_t i) const;
  // Sorted by local_start. A replicated parameter has one fragment.
  std::vector<ShardFragment> fragments() const;
  // View of the fragment in `local`, a tensor of this parameter's local shape.
  at::Tensor fragment_view(const at::Tensor& local, const ShardFragment& fragment) const;
  // Offset of the fragment in the global tensor.
  std::vector<int64_t> fragment_offset(const ShardFragment& fragment) const;
  // This rank's shard of a global tensor. Throws Error if its shape is not global_shape().
  at::Tensor local_part(const at::Tensor& global) const;

  // Whether this rank, among its TP group and the pipeline stages, counts the parameter in norms
  // and writes it to checkpoints.
  bool is_main_copy() const {
    return !shared && (sharding.partition_dim >= 0 || sharding.rank == 0);
  }
};

using ParameterPtr = std::shared_ptr<Parameter>;

}  // namespace megatron
