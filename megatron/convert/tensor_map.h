// Which values of our parameters are which values of another format's tensors. A map is a list of
// pairs of rectangles, so that it works in both directions and for any shard: a rank reads or writes
// only what overlaps its own rectangles.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "megatron/config/model/gpt_model_config.h"
#include "megatron/formats/rectangle.h"

namespace megatron {

// A rectangle of a parameter, and the same values in a tensor of the other format.
struct MapPart {
  std::string tensor;
  Rectangle ours, theirs;
  bool transposed = false;  // both are matrices; `theirs` holds the transposed values
};

struct MappedParameter {
  std::string name;            // as in checkpoints
  std::vector<int64_t> shape;  // global, without padding of the vocabulary
  std::vector<MapPart> parts;  // they tile the parameter
};

struct MappedTensor {
  std::string name;
  std::vector<int64_t> shape;
  std::vector<std::pair<size_t, size_t>> parts;  // index of the parameter and of its part
};

struct TensorMap {
  std::vector<MappedParameter> parameters;  // in the order of the model
  std::vector<MappedTensor> tensors;        // in the order in which the parameters name them

  // Null if there is none.
  const MappedParameter* find_parameter(std::string_view name) const;
  const MappedTensor* find_tensor(std::string_view name) const;
};

// What a transform sees: the model, the shape of the parameter, and the names of the tensors that
// hold its values.
struct MapContext {
  const GPTModelConfig& config;
  const std::vector<int64_t>& shape;
  const std::vector<std::string>& tensors;
};
using Transform = std::vector<MapPart>(const MapContext& context);

// A row of a family's table. `*` stands for a number (the layer), the same in all names.
struct TensorRow {
  std::string parameter;
  std::vector<std::string> tensors;
  Transform* transform;
};

// Builds the map of the model's parameters. Rows of parameters that the model does not have are left
// out. Throws Error for a parameter without a row; `family` names the table in the message.
TensorMap make_tensor_map(const std::vector<TensorRow>& rows, const GPTModelConfig& config,
                          std::string_view family);

// The part of `part.theirs` that holds the values of `region`, a rectangle within `part.ours`.
Rectangle theirs_of(const MapPart& part, const Rectangle& region);

// Removes `prefix` from the names of tensors: files of a model without its head lack it.
TensorMap without_prefix(TensorMap map, std::string_view prefix);

// Whether `name` matches `pattern`, in which each `*` stands for a number.
bool matches_pattern(std::string_view name, std::string_view pattern);

}  // namespace megatron
