// The tensors of a GGUF file under Hugging Face's names, with its values: decoded, rows of q and k in
// its order, norms without the added one.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "megatron/convert/gguf_architecture.h"
#include "megatron/convert/tensor_source.h"
#include "megatron/formats/gguf_file.h"

namespace megatron {

// Row [head][pair i][half j] of q and k in llama's files is row [head][half j][pair i] of Hugging
// Face: llama.cpp rotates neighbouring features, transformers those half a head apart.
// `heads`: the number of heads in the first dimension.
at::Tensor split_halves(const at::Tensor& rows, int64_t heads);
at::Tensor interleave_halves(const at::Tensor& rows, int64_t heads);

class GgufTensors : public TensorSource {
 public:
  // `heads` and `groups` of the model. `dtype` is that of all values; without it F16 and BF16 keep
  // theirs, and all others are fp32. Throws Error for tensors that the architecture does not have.
  GgufTensors(GgufFile file, const GgufArchitecture& architecture, int64_t heads, int64_t groups,
              std::optional<at::ScalarType> dtype);

  std::string path() const override { return file_.path().string(); }
  std::vector<std::string> names() const override;
  const SourceTensor* find(const std::string& name) const override;
  at::Tensor read(const std::string& name, const Rectangle& region) override;
  void release(const std::string& name) override;

 private:
  struct Entry {
    std::string gguf_name;
    SourceTensor tensor;
    int64_t interleaved_heads = 0;  // 0: rows are in order
    bool has_added_one = false;
  };
  at::Tensor decode_rows(const Entry& entry, int64_t first, int64_t count) const;

  GgufFile file_;
  std::map<std::string, Entry> entries_;
};

}  // namespace megatron
