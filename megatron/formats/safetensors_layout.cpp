#include "megatron/formats/safetensors_layout.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include <nlohmann/json.hpp>

#include "megatron/base/error.h"
#include "megatron/base/integer_math.h"
#include "megatron/formats/rectangle.h"
#include "megatron/formats/safetensors_format.h"

namespace megatron {

int64_t PlannedTensor::bytes() const {
  return shape_volume(shape) * static_cast<int64_t>(c10::elementSize(dtype));
}

SafetensorsLayout plan_safetensors(const std::vector<PlannedTensor>& tensors,
                                   const std::map<std::string, std::string>& metadata) {
  std::vector<size_t> order(tensors.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::ranges::stable_sort(order, [&](size_t a, size_t b) {
    return c10::elementSize(tensors[a].dtype) > c10::elementSize(tensors[b].dtype);
  });
  auto header = nlohmann::json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  SafetensorsLayout layout;
  layout.begin.resize(tensors.size());
  int64_t offset = 0;
  for (const size_t index : order) {
    const PlannedTensor& tensor = tensors[index];
    check(tensor.name != "__metadata__" && !header.contains(tensor.name),
          "Expected unique tensor names in a safetensors file, but got '{}' twice", tensor.name);
    header[tensor.name] = {{"dtype", safetensors_dtype_name(tensor.dtype)},
                           {"shape", tensor.shape},
                           {"data_offsets", {offset, offset + tensor.bytes()}}};
    layout.begin[index] = offset;
    offset += tensor.bytes();
  }
  std::string text = header.dump();
  text.resize(round_up(text.size(), size_t{8}), ' ');
  const uint64_t length = text.size();
  layout.header.resize(sizeof(length));
  std::memcpy(layout.header.data(), &length, sizeof(length));
  layout.header += text;
  const auto data = static_cast<int64_t>(layout.header.size());
  for (int64_t& begin : layout.begin) begin += data;
  layout.file_bytes = data + offset;
  return layout;
}

}  // namespace megatron
