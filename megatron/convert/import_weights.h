// Weights of another format into the parameters of a model of any layout, or into a checkpoint.
#pragma once

#include <string>
#include <vector>

#include "megatron/checkpoint/sharded_tensor.h"
#include "megatron/convert/tensor_map.h"
#include "megatron/convert/tensor_source.h"

namespace megatron {

// What a source holds beyond the map.
struct SourceCheck {
  std::vector<std::string> tied_copies;  // output layers that equal the tied embedding
  std::vector<std::string> buffers;      // ignored
};

// Compares names and shapes of `source` with the map. `rows` and `buffers` are the family's. Throws
// Error that names missing tensors, extra tensors and tensors of another shape.
SourceCheck check_source(TensorSource& source, const TensorMap& map,
                         const std::vector<TensorRow>& rows,
                         const std::vector<std::string>& buffers);

// A rectangle of a parameter: a view of the source where it is one piece of it, else a new tensor.
at::Tensor read_parameter(TensorSource& source, const MappedParameter& parameter,
                          const Rectangle& region);

// Fills every tensor of `state`, a model's shards, and converts types. Reads only what overlaps
// them. Padding rows of the vocabulary become zero. Throws Error for a tensor that the map lacks.
void import_weights(TensorSource& source, const TensorMap& map, const ShardedStateDict& state);

// All parameters as whole tensors that are read when they are saved: of type `dtype`, or each of its
// source's type.
ShardedStateDict imported_state(TensorSource& source, const TensorMap& map);

}  // namespace megatron
