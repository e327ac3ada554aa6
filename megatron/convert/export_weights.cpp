#include "megatron/convert/export_weights.h"

#include <map>
#include <memory>

#include <ATen/ATen.h>

#include "megatron/base/error.h"
#include "megatron/convert/tensor_source.h"

namespace megatron {

ParameterValues values_of_state(const ShardedStateDict& state) {
  auto shards = std::make_shared<std::map<std::string, std::vector<HeldValues>>>();
  for (const ShardedTensor& shard : state) {
    if (shard.replica_id != 0) continue;
    (*shards)[shard.key].push_back(
        {{shard.global_offset, shard.data.sizes().vec()}, shard.data.detach()});
  }
  return [shards](const MappedParameter& parameter) {
    const auto found = shards->find(parameter.name);
    return found == shards->end() ? std::vector<HeldValues>() : found->second;
  };
}

ParameterValues values_of_checkpoint(CheckpointReader& checkpoint) {
  // The tensors of a parameter follow one another: the last parameter is read once.
  auto last = std::make_shared<std::pair<std::string, at::Tensor>>();
  return [&checkpoint, last](const MappedParameter& parameter) {
    if (last->first != parameter.name) {
      last->second = at::Tensor();
      last->second = checkpoint.load_tensor(parameter.name);
      last->first = parameter.name;
    }
    return std::vector<HeldValues>{{whole_rectangle(last->second.sizes().vec()), last->second}};
  };
}

std::vector<HeldValues> held_of_tensor(const TensorMap& map, const MappedTensor& tensor,
                                       const ParameterValues& values) {
  std::vector<HeldValues> result;
  size_t last = map.parameters.size();
  std::vector<HeldValues> held;
  for (const auto& [parameter, index] : tensor.parts) {
    if (parameter != last) held = values(map.parameters[parameter]);
    last = parameter;
    const MapPart& part = map.parameters[parameter].parts[index];
    for (const HeldValues& piece : held) {
      // Padding rows of the vocabulary lie outside every part.
      const auto overlap = intersect(part.ours, piece.region);
      if (!overlap) continue;
      const at::Tensor ours = narrow_to(piece.values, piece.region.offset, *overlap);
      result.push_back({theirs_of(part, *overlap), part.transposed ? ours.t() : ours});
    }
  }
  return result;
}

void stream_tensors(const TensorMap& map, const ParameterValues& values,
                    const std::function<at::ScalarType(const std::string& name)>& dtype_of,
                    const ProcessGroup& world,
                    const std::function<void(const std::string& name, const at::Tensor&)>& visit) {
  const at::NoGradGuard no_grad;
  for (const MappedTensor& tensor : map.tensors) {
    const auto dtype = dtype_of(tensor.name);
    // Each element is on one rank, so the sum of the bytes is exact.
    at::Tensor whole = at::zeros(tensor.shape, at::TensorOptions().dtype(dtype).device(
                                                   world.size() > 1 ? world.device() : at::kCPU));
    const std::vector<int64_t> origin(tensor.shape.size(), 0);
    for (const HeldValues& piece : held_of_tensor(map, tensor, values))
      narrow_to(whole, origin, piece.region).copy_(piece.values);
    if (world.size() > 1) {
      at::Tensor bytes = whole.view(-1).view(at::kByte);
      world.all_reduce(bytes);
    }
    visit(tensor.name, whole.cpu());
  }
}

}  // namespace megatron
