#include "megatron/convert/import_weights.h"

#include <algorithm>

#include <ATen/ATen.h>
#include <fmt/ranges.h>

#include "megatron/base/error.h"
#include "megatron/convert/padding_groups.h"

namespace megatron {
namespace {

std::string listed(const std::vector<std::string>& names) {
  constexpr size_t kMost = 8;
  std::vector<std::string> shown(names.begin(), names.begin() + std::min(names.size(), kMost));
  const std::string more =
      names.size() > kMost ? fmt::format(" and {} more", names.size() - kMost) : "";
  return fmt::format("{}{}", fmt::join(shown, ", "), more);
}

bool matches_any(const std::string& name, const std::vector<std::string>& patterns) {
  return std::ranges::any_of(patterns,
                             [&](const auto& pattern) { return matches_pattern(name, pattern); });
}

// The tensor that an output layer of a tied model repeats; null if `name` is none.
const MappedTensor* tied_tensor(const std::string& name, const TensorMap& map,
                                const std::vector<TensorRow>& rows) {
  for (const TensorRow& row : rows) {
    if (row.parameter != "output_layer.weight" || row.tensors.front() != name) continue;
    const MappedParameter* embedding = map.find_parameter("embedding.word_embeddings.weight");
    return embedding == nullptr ? nullptr : map.find_tensor(embedding->parts.front().tensor);
  }
  return nullptr;
}

bool equal_bits(TensorSource& source, const std::string& left, const std::string& right) {
  const SourceTensor* a = source.find(left);
  const SourceTensor* b = source.find(right);
  if (a == nullptr || b == nullptr || a->shape != b->shape || a->dtype != b->dtype) return false;
  const Rectangle whole = whole_rectangle(a->shape);
  return at::equal(source.read(left, whole).contiguous().view(at::kByte),
                   source.read(right, whole).contiguous().view(at::kByte));
}

at::Tensor oriented(const at::Tensor& values, const MapPart& part) {
  return part.transposed ? values.t() : values;
}

// The type that holds the values of all parts.
at::ScalarType parameter_dtype(TensorSource& source, const MappedParameter& parameter) {
  at::ScalarType dtype = source.find(parameter.parts.front().tensor)->dtype;
  for (const MapPart& part : parameter.parts)
    dtype = at::promote_types(dtype, source.find(part.tensor)->dtype);
  return dtype;
}

}  // namespace

SourceCheck check_source(TensorSource& source, const TensorMap& map,
                         const std::vector<TensorRow>& rows,
                         const std::vector<std::string>& buffers) {
  std::vector<std::string> missing, wrong, extra;
  for (const MappedTensor& tensor : map.tensors) {
    const SourceTensor* found = source.find(tensor.name);
    if (found == nullptr) {
      missing.push_back(tensor.name);
    } else if (found->shape != tensor.shape) {
      wrong.push_back(fmt::format("{} {} instead of {}", tensor.name, format_shape(found->shape),
                                  format_shape(tensor.shape)));
    } else if (!at::isFloatingType(found->dtype) || c10::elementSize(found->dtype) < 2) {
      fail("Expected '{}' of {} as F64, F32, F16 or BF16, but got {}", tensor.name, source.path(),
           c10::toString(found->dtype));
    }
  }
  SourceCheck result;
  for (const std::string& name : source.names()) {
    if (map.find_tensor(name) != nullptr) continue;
    if (matches_any(name, buffers)) {
      result.buffers.push_back(name);
      continue;
    }
    const MappedTensor* tied = tied_tensor(name, map, rows);
    if (tied != nullptr && missing.empty() && wrong.empty() &&
        equal_bits(source, name, tied->name)) {
      result.tied_copies.push_back(name);
    } else {
      extra.push_back(tied == nullptr ? name
                                      : name + " (its values differ from the tied embedding)");
    }
  }
  std::vector<std::string> problems;
  if (!missing.empty()) problems.push_back("it lacks " + listed(missing));
  if (!wrong.empty()) problems.push_back("the shapes of its tensors differ: " + listed(wrong));
  if (!extra.empty())
    problems.push_back("it has tensors that are not part of it: " + listed(extra));
  check(problems.empty(),
        "Expected the tensors of the model that config.json describes in {}, but {}", source.path(),
        fmt::join(problems, "; "));
  return result;
}

at::Tensor read_parameter(TensorSource& source, const MappedParameter& parameter,
                          const Rectangle& region) {
  at::Tensor result;
  for (const MapPart& part : parameter.parts) {
    const auto overlap = intersect(part.ours, region);
    if (!overlap) continue;
    const at::Tensor values = oriented(source.read(part.tensor, theirs_of(part, *overlap)), part);
    if (values.sizes() == region.shape && parameter.parts.size() == 1) return values;
    if (!result.defined()) result = at::empty(region.shape, parameter_dtype(source, parameter));
    narrow_to(result, region.offset, *overlap).copy_(values);
  }
  return result;
}

void import_weights(TensorSource& source, const TensorMap& map, const ShardedStateDict& state) {
  const at::NoGradGuard no_grad;
  for (const ShardedTensor& shard : state) {
    const MappedParameter* parameter = map.find_parameter(shard.key);
    check(parameter != nullptr, "Expected the parameter {} in the map of {}, but it has none",
          shard.key, source.path());
    const Rectangle wanted{shard.global_offset, shard.data.sizes().vec()};
    std::vector<int64_t> shape = shard.global_shape;
    if (shard.allow_shape_mismatch && !shape.empty()) shape[0] = parameter->shape[0];
    if (grows_with_groups(shard.key) && shape.size() == parameter->shape.size()) {
      for (size_t i = 0; i < shape.size(); ++i) shape[i] = std::min(shape[i], parameter->shape[i]);
    }
    check(shape == parameter->shape, "Expected {} of shape {}, but the model has {}", shard.key,
          format_shape(parameter->shape), format_shape(shard.global_shape));
    at::Tensor data = shard.data.detach();
    if (shard.global_shape != parameter->shape) data.zero_();
    for (const MapPart& part : parameter->parts) {
      const auto overlap = intersect(part.ours, wanted);
      if (!overlap) continue;
      narrow_to(data, wanted.offset, *overlap)
          .copy_(oriented(source.read(part.tensor, theirs_of(part, *overlap)), part));
    }
    for (const MapPart& part : parameter->parts) source.release(part.tensor);
  }
}

ShardedStateDict imported_state(TensorSource& source, const TensorMap& map) {
  ShardedStateDict state;
  for (const MappedParameter& parameter : map.parameters) {
    const Rectangle whole = whole_rectangle(parameter.shape);
    state.push_back(
        {.key = parameter.name,
         .data = at::empty(
             parameter.shape,
             at::TensorOptions().dtype(parameter_dtype(source, parameter)).device(at::kMeta)),
         .global_shape = parameter.shape,
         .global_offset = whole.offset,
         .read = [&source, &parameter, whole] {
           return read_parameter(source, parameter, whole);
         }});
  }
  return state;
}

}  // namespace megatron
