// Options shared by all tensor-parallel layers: dtype, device, groups and kinds of communication.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include <ATen/core/Tensor.h>

#include "megatron/base/parameter.h"
#include "megatron/config/model/low_precision_config.h"
#include "megatron/config/model/tp_comm_overlap.h"
#include "megatron/parallel/process_group_collection.h"

namespace megatron {

struct LayerOptions {
  at::TensorOptions tensor;  // dtype and device of the parameters
  ProcessGroupPtr tp;
  bool sequence_parallel = false;
  // With sequence parallelism, column-parallel layers save their local input and all-gather it
  // again in backward, instead of saving the gathered input.
  bool all_gather_input_in_backward = false;
  // With sequence parallelism, collectives run in pieces that overlap with matmuls.
  bool tp_comm_overlap = false;
  std::shared_ptr<const TpOverlaps> tp_overlaps = nullptr;  // which; null: those without names
  ProcessGroupPtr cp = nullptr;  // ranks that share a sequence; null without context parallelism
  // All groups of the rank, for experts; null: one rank.
  std::shared_ptr<const ProcessGroupCollection> groups = nullptr;
  // Autocast: modules compute in this dtype, whatever the parameters' dtype.
  std::optional<at::ScalarType> compute_dtype = {};

  // A linear layer quantises its operands as this says; not set: it does not.
  std::optional<LowPrecisionConfig> low_precision = {};

  // `tensor` in the dtype that modules compute in. It may be undefined.
  at::Tensor cast(const at::Tensor& tensor) const {
    return compute_dtype && tensor.defined() ? tensor.to(*compute_dtype) : tensor;
  }
  // A parameter's values in that dtype; its gradient reaches the parameter.
  Parameter cast(const Parameter& parameter) const {
    Parameter result = parameter;
    result.data = cast(parameter.data);
    return result;
  }

  // The sharding of a parameter that is partitioned along `dim`, or replicated if that is -1.
  TensorParallelSharding sharding(int dim = -1, int stride = 1) const {
    return {dim, stride, tp->rank(), tp->size()};
  }

  // Of the linear layer called `name` (tp_comm_buffer_name), else `initial`.
  LinearOverlap overlap_of(const std::string& name, const LinearOverlap& initial) const {
    if (tp_overlaps == nullptr) return initial;
    const auto found = tp_overlaps->find(name);
    return found == tp_overlaps->end() ? initial : found->second;
  }
};

}  // namespace megatron
