#include "megatron/convert/tensor_map.h"

#include <algorithm>
#include <map>
#include <optional>

#include "megatron/base/error.h"
#include "megatron/models/gpt/gpt_builder.h"

namespace megatron {
namespace {

// The numbers that the `*` of the pattern stand for; empty if the name does not match.
std::optional<std::vector<std::string>> match_numbers(std::string_view name,
                                                      std::string_view pattern) {
  std::vector<std::string> numbers;
  size_t at = 0;
  for (size_t i = 0; i < pattern.size(); ++i) {
    if (pattern[i] != '*') {
      if (at >= name.size() || name[at++] != pattern[i]) return std::nullopt;
      continue;
    }
    size_t end = at;
    while (end < name.size() && name[end] >= '0' && name[end] <= '9') ++end;
    if (end == at) return std::nullopt;
    numbers.emplace_back(name.substr(at, end - at));
    at = end;
  }
  if (at != name.size()) return std::nullopt;
  return numbers;
}

std::string with_numbers(std::string_view pattern, const std::vector<std::string>& numbers) {
  std::string name;
  size_t next = 0;
  for (const char letter : pattern) {
    if (letter == '*') {
      name += numbers.at(next++);
    } else {
      name += letter;
    }
  }
  return name;
}

struct NamedShape {
  std::string name;
  std::vector<int64_t> shape;
};

// The global parameters of a model, without padding of the vocabulary.
std::vector<NamedShape> parameter_shapes(GPTModelConfig config) {
  config.reset_layout();
  config.should_pad_vocab = false;
  config.make_vocab_size_divisible_by = GPTModelConfig().make_vocab_size_divisible_by;
  config.transformer.perform_initialization = false;
  const auto model = GPTModelBuilder(std::move(config), {.device = at::kMeta})
                         .build_model(ProcessGroupCollection::single_rank());
  std::vector<NamedShape> shapes;
  for (const ShardedTensor& tensor : model->sharded_state_dict()) {
    const bool known = std::ranges::any_of(
        shapes, [&](const NamedShape& other) { return other.name == tensor.key; });
    if (!known) shapes.push_back({tensor.key, tensor.global_shape});
  }
  return shapes;
}

// Adds the parts of a parameter to the tensors that hold them. A tensor is as large as its parts
// reach.
void index_parts(TensorMap& map, size_t parameter, std::map<std::string, size_t>& position) {
  const std::vector<MapPart>& parts = map.parameters[parameter].parts;
  for (size_t i = 0; i < parts.size(); ++i) {
    const auto [entry, is_new] = position.try_emplace(parts[i].tensor, map.tensors.size());
    if (is_new) {
      map.tensors.push_back(
          {parts[i].tensor, std::vector<int64_t>(parts[i].theirs.shape.size(), 0), {}});
    }
    MappedTensor& tensor = map.tensors[entry->second];
    for (size_t d = 0; d < tensor.shape.size(); ++d) {
      tensor.shape[d] =
          std::max(tensor.shape[d], parts[i].theirs.offset[d] + parts[i].theirs.shape[d]);
    }
    tensor.parts.emplace_back(parameter, i);
  }
}

template <typename Items>
auto* find_named(Items& items, std::string_view name) {
  const auto found = std::ranges::find_if(items, [&](const auto& i) { return i.name == name; });
  return found == items.end() ? nullptr : &*found;
}

}  // namespace

const MappedParameter* TensorMap::find_parameter(std::string_view name) const {
  return find_named(parameters, name);
}

const MappedTensor* TensorMap::find_tensor(std::string_view name) const {
  return find_named(tensors, name);
}

TensorMap make_tensor_map(const std::vector<TensorRow>& rows, const GPTModelConfig& config,
                          std::string_view family) {
  TensorMap map;
  std::map<std::string, size_t> position;
  for (const auto& [name, shape] : parameter_shapes(config)) {
    bool found = false;
    for (const TensorRow& row : rows) {
      const auto numbers = match_numbers(name, row.parameter);
      if (!numbers) continue;
      std::vector<std::string> tensors;
      for (const std::string& pattern : row.tensors)
        tensors.push_back(with_numbers(pattern, *numbers));
      map.parameters.push_back({name, shape, row.transform({config, shape, tensors})});
      index_parts(map, map.parameters.size() - 1, position);
      found = true;
      break;
    }
    check(found,
          "Expected a model of the {} family, but it has the parameter {}, which models of that "
          "family lack",
          family, name);
  }
  return map;
}

Rectangle theirs_of(const MapPart& part, const Rectangle& region) {
  Rectangle result = region;
  const size_t dims = region.offset.size();
  for (size_t d = 0; d < dims; ++d) {
    const size_t other = part.transposed ? dims - 1 - d : d;
    result.offset[other] = region.offset[d] - part.ours.offset[d] + part.theirs.offset[other];
    result.shape[other] = region.shape[d];
  }
  return result;
}

TensorMap without_prefix(TensorMap map, std::string_view prefix) {
  const auto strip = [&](std::string& name) {
    if (name.starts_with(prefix)) name.erase(0, prefix.size());
  };
  for (MappedTensor& tensor : map.tensors) strip(tensor.name);
  for (MappedParameter& parameter : map.parameters) {
    for (MapPart& part : parameter.parts) strip(part.tensor);
  }
  return map;
}

bool matches_pattern(std::string_view name, std::string_view pattern) {
  return match_numbers(name, pattern).has_value();
}

}  // namespace megatron
