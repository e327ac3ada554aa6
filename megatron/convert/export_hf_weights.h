// A model of any layout in Hugging Face's form, for C++ callers: its tensors one by one, or a folder.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>

#include "megatron/convert/source_record.h"
#include "megatron/models/gpt/gpt_builder.h"

namespace megatron {

// Calls visit(name, tensor) with every tensor, in the order of the model, on every rank: to feed an
// inference engine. Tensors are on the CPU, of the types of `source`, or without one of the model's
// type and named as by the first family that can express the model. One tensor is in memory at a
// time. The parameters of sharded models must be complete. Collective over the world of the chunks.
// Throws Error for a model that no family expresses.
void export_hf_weights(
    const GPTModelChunks& chunks,
    const std::function<void(const std::string& name, const at::Tensor& tensor)>& visit,
    const std::optional<SourceRecord>& source = {});

// Writes the folder that transformers' save_pretrained would: configuration, weights, and the
// tokenizer's files where `source` has them. As above; `folder` must not exist or be empty.
void save_hf_pretrained(const GPTModelChunks& chunks, const std::filesystem::path& folder,
                        const std::optional<SourceRecord>& source = {});

}  // namespace megatron
