#include "megatron/convert/gguf_tensors.h"

#include <ATen/ATen.h>
#include <fmt/ranges.h>

#include "megatron/base/error.h"
#include "megatron/base/integer_math.h"
#include "megatron/ops/quantization/ggml_blocks.h"

namespace megatron {
namespace {

at::ScalarType natural_dtype(GgmlType type) {
  if (type == GgmlType::F16) return at::kHalf;
  if (type == GgmlType::BF16) return at::kBFloat16;
  return at::kFloat;
}

// Swaps the two inner factors of the first dimension, [heads, outer, inner, ...].
at::Tensor swap_inner(const at::Tensor& rows, int64_t heads, int64_t outer, int64_t inner) {
  std::vector<int64_t> shape = {heads, outer, inner};
  shape.insert(shape.end(), rows.sizes().begin() + 1, rows.sizes().end());
  return rows.reshape(shape).transpose(1, 2).reshape(rows.sizes());
}

}  // namespace

at::Tensor split_halves(const at::Tensor& rows, int64_t heads) {
  return swap_inner(rows, heads, rows.size(0) / heads / 2, 2);
}

at::Tensor interleave_halves(const at::Tensor& rows, int64_t heads) {
  return swap_inner(rows, heads, 2, rows.size(0) / heads / 2);
}

GgufTensors::GgufTensors(GgufFile file, const GgufArchitecture& architecture, int64_t heads,
                         int64_t groups, std::optional<at::ScalarType> dtype)
    : file_(std::move(file)) {
  std::vector<std::string> unknown;
  for (const std::string& gguf_name : file_.names()) {
    if (gguf_name == "rope_freqs.weight") continue;  // part of the configuration
    const auto name = hf_tensor_name(architecture, gguf_name);
    if (!name) {
      unknown.push_back(gguf_name);
      continue;
    }
    const GgufEntry& stored = file_.entry(gguf_name);
    Entry entry{.gguf_name = gguf_name,
                .tensor = {stored.shape, dtype.value_or(natural_dtype(stored.type))}};
    if (architecture.interleaves_query_key) {
      if (name->find(".q_proj.") != std::string::npos) entry.interleaved_heads = heads;
      if (name->find(".k_proj.") != std::string::npos) entry.interleaved_heads = groups;
    }
    entry.has_added_one = adds_one(architecture, *name);
    if (entry.interleaved_heads > 0) {
      check(!stored.shape.empty() && stored.shape[0] % (2 * entry.interleaved_heads) == 0,
            "Expected rows of {} in {} for {} heads of an even size, but got {}", gguf_name, path(),
            entry.interleaved_heads, format_shape(stored.shape));
    }
    entries_.emplace(*name, std::move(entry));
  }
  check(unknown.empty(), "Expected the tensors of the architecture {} in {}, but it has also {}",
        architecture.name, path(), fmt::join(unknown, ", "));
}

std::vector<std::string> GgufTensors::names() const {
  std::vector<std::string> names;
  for (const auto& [name, entry] : entries_) names.push_back(name);
  return names;
}

const SourceTensor* GgufTensors::find(const std::string& name) const {
  const auto found = entries_.find(name);
  return found == entries_.end() ? nullptr : &found->second.tensor;
}

// Rows of the file, [count, ...].
at::Tensor GgufTensors::decode_rows(const Entry& entry, int64_t first, int64_t count) const {
  const GgufEntry& stored = file_.entry(entry.gguf_name);
  std::vector<int64_t> shape = stored.shape;
  int64_t row_values = 1;
  for (size_t i = 1; i < shape.size(); ++i) row_values *= shape[i];
  const auto bytes = file_.bytes(entry.gguf_name);
  // A vector is one row of blocks; quantized ones are read whole.
  const bool by_rows = shape.size() > 1 || ggml_type_size(stored.type).block_values == 1;
  const at::ScalarType dtype = entry.has_added_one ? at::kFloat : entry.tensor.dtype;
  if (!by_rows) {
    at::Tensor whole = at::empty(shape, dtype);
    dequantize_ggml(stored.type, bytes, whole);
    return whole.narrow(0, first, count);
  }
  shape[0] = count;
  at::Tensor rows = at::empty(shape, dtype);
  const int64_t row_bytes = ggml_row_bytes(stored.type, row_values);
  dequantize_ggml(
      stored.type,
      bytes.subspan(static_cast<size_t>(first * row_bytes), static_cast<size_t>(count * row_bytes)),
      rows);
  return rows;
}

at::Tensor GgufTensors::read(const std::string& name, const Rectangle& region) {
  const Entry& entry = entries_.at(name);
  const std::vector<int64_t>& shape = entry.tensor.shape;
  if (shape.empty()) return file_.tensor(entry.gguf_name, entry.tensor.dtype);
  int64_t first = region.offset[0], count = region.shape[0];
  if (entry.interleaved_heads > 0) {
    // Whole heads, whose rows are then put in order.
    const int64_t head = shape[0] / entry.interleaved_heads;
    const int64_t end = round_up(first + count, head);
    first = first / head * head;
    count = end - first;
  }
  at::Tensor rows = decode_rows(entry, first, count);
  if (entry.interleaved_heads > 0)
    rows = split_halves(rows, count / (shape[0] / entry.interleaved_heads));
  if (entry.has_added_one) rows = (rows - 1).to(entry.tensor.dtype);
  std::vector<int64_t> origin(shape.size(), 0);
  origin[0] = first;
  return narrow_to(rows, origin, region);
}

void GgufTensors::release(const std::string& name) {
  file_.release(entries_.at(name).gguf_name);
}

}  // namespace megatron
