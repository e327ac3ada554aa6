// Writes a GGUF file (version 3), one tensor at a time.
#pragma once

#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "megatron/formats/gguf_metadata.h"
#include "megatron/formats/output_file.h"
#include "megatron/ops/quantization/ggml_type.h"

namespace megatron {

struct GgufTensorInfo {
  std::string name;
  GgmlType type;               // F32, F16, BF16 or Q8_0
  std::vector<int64_t> shape;  // rows first
};

// The file appears under its name when commit() is called; without that, nothing is left.
class GgufWriter {
 public:
  // Writes the header. Throws Error for duplicate names, more than four dimensions, rows that do not
  // fit the type, and write errors.
  GgufWriter(const std::string& path, const GgufMetadata& metadata,
             std::vector<GgufTensorInfo> tensors);

  // Encodes and writes the next tensor, in the order of the constructor's list. `name` and the shape
  // must be that one's. Floating point; any strides.
  void write(const std::string& name, const at::Tensor& values);
  // Throws Error if tensors are missing.
  void commit();

 private:
  void pad();

  OutputFile file_;
  std::vector<GgufTensorInfo> tensors_;
  size_t alignment_;
  size_t next_ = 0;
};

}  // namespace megatron
