// A family of models as Hugging Face's transformers knows them: what its config.json and its tensors
// mean here. docs/adding_a_model.md shows how to add one.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "megatron/convert/hf_config.h"
#include "megatron/convert/tensor_map.h"

namespace megatron {

struct HfFamily {
  std::string model_type;    // of config.json
  std::string architecture;  // the class of the model with its output layer
  // Prefix of all tensors but the output layer's, which files of the bare model lack.
  std::string prefix = "model.";
  // Reads or writes the keys of config.json and the fields that they set. `model` starts as
  // family_defaults(). Throws Error for values that do not work here.
  void (*configure)(HfConfig& hf, GPTModelConfig& model);
  std::vector<TensorRow> rows;
  // Patterns of tensors in files that hold nothing to load: buffers.
  std::vector<std::string> buffers = {};
};

// All families (families/families.cpp), in the order in which an export of a model without a source
// tries them.
const std::vector<HfFamily>& hf_families();

// The family of a configuration, by its architectures, else by its model_type. Throws Error for an
// unknown one, with those that are known, and for those that cannot work here, with the reason.
const HfFamily& find_hf_family(const nlohmann::json& config, const std::string& path);
// By model_type. Throws Error if there is none.
const HfFamily& hf_family(std::string_view model_type);

// What the families have in common: RMSNorm, SwiGLU, rotary positions, no biases, no dropout, a
// vocabulary that is padded to a multiple of the tensor-parallel size only.
GPTModelConfig family_defaults();

// The model that a config.json describes. Throws Error for keys that are not known. `notes` gets a line
// about those that are not known and off (null or false).
GPTModelConfig read_hf_config(const HfFamily& family, const nlohmann::json& config,
                              const std::string& path, std::vector<std::string>* notes = nullptr);

// The fields in which two models of the same layout differ, as text; empty if there are none.
std::string model_differences(GPTModelConfig left, const GPTModelConfig& right);

// The keys that describe the model, without those of tokens or dtypes. Throws Error for a model that
// the family cannot express, with the fields.
nlohmann::json write_hf_config(const HfFamily& family, const GPTModelConfig& model);

// `config`, the configuration of an earlier state of the model, with the keys changed whose fields
// changed since: the rest stays as it was written.
nlohmann::json updated_hf_config(const HfFamily& family, const nlohmann::json& config,
                                 const GPTModelConfig& model);

// The first family that can express the model. Throws Error if there is none.
const HfFamily& family_of_model(const GPTModelConfig& model);

}  // namespace megatron
