// The transforms of a family's table: how the values of a parameter lie in the tensors of the other
// format. Each is a `Transform` (tensor_map.h). Shapes: n heads, g query groups, d head dimension,
// f ffn, h hidden.
#pragma once

#include "megatron/convert/tensor_map.h"

namespace megatron {

// One tensor of the same shape and order.
std::vector<MapPart> same(const MapContext& context);

// One matrix, transposed: linear layers that store [in, out].
std::vector<MapPart> transposed(const MapContext& context);

// Three tensors: q [n d, h], k and v [g d, h] (or biases [n d], [g d]). Ours is by group: the group's
// queries, its key, its value.
std::vector<MapPart> query_key_value(const MapContext& context);

// One tensor with q, k and v one after another, [(n + 2 g) d, h] or [(n + 2 g) d].
std::vector<MapPart> joined_query_key_value(const MapContext& context);

// The same, transposed: [h, (n + 2 g) d].
std::vector<MapPart> transposed_query_key_value(const MapContext& context);

// Two tensors: gate and up, each [f, h] (or [f]). Ours is gate, then up. A family that stores both in
// one tensor in that order needs `same`.
std::vector<MapPart> gate_and_up(const MapContext& context);

}  // namespace megatron
