#include "megatron/formats/gguf_writer.h"

#include <algorithm>
#include <set>
#include <type_traits>

#include <ATen/ATen.h>

#include "megatron/base/error.h"
#include "megatron/base/integer_math.h"
#include "megatron/formats/gguf_format.h"
#include "megatron/formats/rectangle.h"
#include "megatron/ops/quantization/ggml_blocks.h"

namespace megatron {
namespace {

void write_text(OutputFile& file, const std::string& text) {
  file.write_value<uint64_t>(text.size());
  file.write(text.data(), text.size());
}

void write_array(OutputFile& file, const GgufArray& array);

template <typename T>
void write_item(OutputFile& file, const T& value) {
  if constexpr (std::is_same_v<T, std::string>) {
    write_text(file, value);
  } else if constexpr (std::is_same_v<T, GgufArray>) {
    write_array(file, value);
  } else if constexpr (std::is_same_v<T, bool>) {
    file.write_value<uint8_t>(value ? 1 : 0);
  } else {
    file.write_value<T>(value);
  }
}

void write_array(OutputFile& file, const GgufArray& array) {
  file.write_value<uint32_t>(static_cast<uint32_t>(array.values.index()));
  file.write_value<uint64_t>(array.size());
  std::visit(
      [&](const auto& values) {
        using T = typename std::decay_t<decltype(values)>::value_type;
        for (const auto& value : values) write_item<T>(file, value);
      },
      array.values);
}

int64_t encoded_bytes(const GgufTensorInfo& tensor) {
  const int64_t row = tensor.shape.empty() ? 1 : tensor.shape.back();
  ggml_row_bytes(tensor.type, row);  // checks the row
  return ggml_row_bytes(tensor.type, shape_volume(tensor.shape));
}

size_t alignment_of(const GgufMetadata& metadata) {
  const auto* value = metadata.find(kGgufAlignmentKey);
  return value != nullptr ? std::get<uint32_t>(*value) : kGgufDefaultAlignment;
}

}  // namespace

GgufWriter::GgufWriter(const std::string& path, const GgufMetadata& metadata,
                       std::vector<GgufTensorInfo> tensors)
    : file_(path), tensors_(std::move(tensors)), alignment_(alignment_of(metadata)) {
  file_.write_value<uint32_t>(kGgufMagic);
  file_.write_value<uint32_t>(kGgufVersion);
  file_.write_value<uint64_t>(tensors_.size());
  file_.write_value<uint64_t>(metadata.entries().size());
  for (const auto& [key, value] : metadata.entries()) {
    write_text(file_, key);
    file_.write_value<uint32_t>(static_cast<uint32_t>(value.index()));
    std::visit([&](const auto& held) { write_item(file_, held); }, value);
  }
  std::set<std::string> names;
  uint64_t offset = 0;
  for (const GgufTensorInfo& tensor : tensors_) {
    check(names.insert(tensor.name).second,
          "Expected unique tensor names in a GGUF file, but got '{}' twice", tensor.name);
    check(tensor.shape.size() <= kGgufMostDimensions,
          "Expected tensors of at most {} dimensions in a GGUF file, but '{}' has shape {}",
          kGgufMostDimensions, tensor.name, format_shape(tensor.shape));
    write_text(file_, tensor.name);
    file_.write_value<uint32_t>(static_cast<uint32_t>(tensor.shape.size()));
    for (auto size = tensor.shape.rbegin(); size != tensor.shape.rend(); ++size) {
      file_.write_value<uint64_t>(static_cast<uint64_t>(*size));
    }
    file_.write_value<uint32_t>(static_cast<uint32_t>(tensor.type));
    file_.write_value<uint64_t>(offset);
    offset += round_up(static_cast<uint64_t>(encoded_bytes(tensor)), alignment_);
  }
  pad();
}

void GgufWriter::pad() {
  const std::string zeros(round_up(file_.bytes_written(), alignment_) - file_.bytes_written(),
                          '\0');
  file_.write(zeros.data(), zeros.size());
}

void GgufWriter::write(const std::string& name, const at::Tensor& values) {
  check(next_ < tensors_.size() && tensors_[next_].name == name,
        "Expected tensor '{}' next in the GGUF file, but got '{}'",
        next_ < tensors_.size() ? tensors_[next_].name : "(none)", name);
  const GgufTensorInfo& info = tensors_[next_];
  check(values.sizes() == info.shape, "Expected tensor '{}' of shape {}, but got {}", name,
        format_shape(info.shape), format_shape(values.sizes().vec()));
  const at::Tensor memory = values.detach().to(at::kCPU).contiguous();
  std::vector<std::byte> encoded(static_cast<size_t>(encoded_bytes(info)));
  try {
    quantize_ggml(info.type, memory, encoded);
  } catch (const Error& error) {
    fail("Expected to write tensor '{}': {}", name, error.what());
  }
  constexpr size_t kPiece = size_t{1} << 20;  // OutputFile copies what it is given
  for (size_t done = 0; done < encoded.size(); done += kPiece) {
    file_.write(encoded.data() + done, std::min(kPiece, encoded.size() - done));
  }
  pad();
  ++next_;
}

void GgufWriter::commit() {
  check(next_ == tensors_.size(), "Expected {} tensors in the GGUF file, but {} were written",
        tensors_.size(), next_);
  file_.commit();
}

}  // namespace megatron
