// The tensors of a Hugging Face folder: model.safetensors, or the shards that
// model.safetensors.index.json lists.
#pragma once

#include <filesystem>
#include <map>
#include <vector>

#include "megatron/convert/tensor_source.h"
#include "megatron/formats/safetensors_file.h"

namespace megatron {

class HfTensors : public TensorSource {
 public:
  // Maps the files and reads their headers. Throws Error where an index names a file outside the
  // folder or a tensor that its file lacks, where a shard holds a tensor that the index does not
  // list, and for folders with weights of another kind only.
  static HfTensors open(const std::filesystem::path& folder);

  std::string path() const override { return folder_.string(); }
  std::vector<std::string> names() const override;
  const SourceTensor* find(const std::string& name) const override;
  at::Tensor read(const std::string& name, const Rectangle& region) override;
  void release(const std::string& name) override;

 private:
  struct Entry {
    size_t file;
    SourceTensor tensor;
  };
  void add_file(const std::filesystem::path& file);

  std::filesystem::path folder_;
  std::vector<SafetensorsFile> files_;
  std::map<std::string, Entry> entries_;
};

}  // namespace megatron
