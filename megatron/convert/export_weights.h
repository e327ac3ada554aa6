// Parameters of a model of any layout, or of a checkpoint, as the tensors of another format.
#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include <ATen/core/Tensor.h>

#include "megatron/checkpoint/checkpoint_reader.h"
#include "megatron/checkpoint/sharded_tensor.h"
#include "megatron/convert/tensor_map.h"
#include "megatron/parallel/process_group.h"

namespace megatron {

// A rectangle of a parameter and its values.
struct HeldValues {
  Rectangle region;
  at::Tensor values;
};

// What this rank holds of a parameter; over all ranks, each element once.
using ParameterValues = std::function<std::vector<HeldValues>(const MappedParameter& parameter)>;

// Of a model: the shards that this rank would write to a checkpoint. The tensors are those of
// `state`, whose memory must live on.
ParameterValues values_of_state(const ShardedStateDict& state);
// Of a checkpoint, which is read one parameter at a time. Other than that, the rank holds all.
ParameterValues values_of_checkpoint(CheckpointReader& checkpoint);

// What this rank holds of a tensor: rectangles of it and their values, of the parameters' types.
std::vector<HeldValues> held_of_tensor(const TensorMap& map, const MappedTensor& tensor,
                                       const ParameterValues& values);

// Calls visit(name, tensor) for every tensor, in the order of the map, on every rank. `dtype_of` gives
// its type. One tensor is in memory at a time. Collective over the world.
void stream_tensors(const TensorMap& map, const ParameterValues& values,
                    const std::function<at::ScalarType(const std::string& name)>& dtype_of,
                    const ProcessGroup& world,
                    const std::function<void(const std::string& name, const at::Tensor&)>& visit);

}  // namespace megatron
