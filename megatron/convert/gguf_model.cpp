#include "megatron/convert/gguf_model.h"

#include "megatron/base/error.h"
#include "megatron/convert/gguf_config.h"
#include "megatron/convert/gguf_tensors.h"
#include "megatron/tokenizers/gguf_tokenizer.h"

namespace megatron {
namespace {

const GgufArchitecture& architecture_of_file(const GgufFile& file) {
  return gguf_architecture(file.metadata().text("general.architecture"), file.path().string());
}

}  // namespace

GPTModelConfig read_gguf_config(const std::filesystem::path& path) {
  const GgufFile file = GgufFile::open(path);
  const GgufArchitecture& architecture = architecture_of_file(file);
  const nlohmann::json config = hf_config_of_gguf(header_of_gguf(file), architecture);
  return read_hf_config(hf_family(architecture.model_types.front()), config, path.string());
}

SourceModel open_gguf_model(const std::filesystem::path& path,
                            std::optional<at::ScalarType> dtype) {
  GgufFile file = GgufFile::open(path);
  const GgufArchitecture& architecture = architecture_of_file(file);
  SourceRecord record;
  record.model_type = hf_family(architecture.model_types.front()).model_type;
  record.config = hf_config_of_gguf(header_of_gguf(file), architecture);
  record.files = tokenizer_files_of_gguf(file.metadata());
  const nlohmann::json generation = generation_config_of_gguf(file.metadata());
  if (!generation.is_null()) record.files["generation_config.json"] = generation.dump(2) + "\n";
  const auto heads = record.config["num_attention_heads"].get<int64_t>();
  const auto groups = record.config["num_key_value_heads"].get<int64_t>();
  auto tensors = std::make_unique<GgufTensors>(std::move(file), architecture, heads, groups, dtype);
  SourceModel model = make_source_model(std::move(record), path.string(), std::move(tensors));
  const char* name = model.record.dtype == at::kBFloat16 ? "bfloat16"
                     : model.record.dtype == at::kHalf   ? "float16"
                                                         : "float32";
  model.record.config["torch_dtype"] = name;
  return model;
}

}  // namespace megatron
