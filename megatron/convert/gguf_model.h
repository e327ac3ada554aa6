// GGUF files as models to convert: opened like a Hugging Face folder, and written from a checkpoint.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "megatron/convert/checkpoint_conversion.h"
#include "megatron/convert/source_model.h"
#include "megatron/ops/quantization/ggml_type.h"

namespace megatron {

// The configuration alone; reads no tensors but rope_freqs.weight.
GPTModelConfig read_gguf_config(const std::filesystem::path& path);

// Opens the model of a file. Values are exact in fp32; `dtype` rounds them. The record holds a
// config.json and the tokenizer as files of a Hugging Face folder. Throws Error for what the format
// or the model does not allow.
SourceModel open_gguf_model(const std::filesystem::path& path,
                            std::optional<at::ScalarType> dtype = std::nullopt);

// Writes a checkpoint's model to `output`, which must not exist. Matrices have the type `type` (F32,
// F16, BF16 or Q8_0), without one that of the weights; vectors are F32, and matrices whose rows are no
// multiple of 32 are F16 where Q8_0 was asked for. Tokenizer and special tokens are those of the model's
// source; without a source the file has no tokenizer. Throws Error for a family that GGUF has no
// architecture for, and options of the model that the architecture does not have.
ConvertedModel export_gguf(const std::filesystem::path& load, const std::filesystem::path& output,
                           std::optional<GgmlType> type);

}  // namespace megatron
