// Compares a model in the format of another library with that library's results, in any layout:
// logits, loss, gradients, greedy continuations, token ids; then the conversion back.
#pragma once

#include <filesystem>

#include "megatron/config/options/options.h"
#include "megatron/convert/source_model.h"
#include "megatron/parallel/rank_context.h"
#include "megatron/parity/comparison.h"

namespace megatron {

// Sets the model of `options` to that of `model` (open_source_model), in fp32, with the shape of the
// folder's inputs. The layout stays.
void configure_source_parity(Options& options, const std::filesystem::path& folder,
                             const std::filesystem::path& model);

// `folder` holds the results: expected.safetensors (input_ids [b, s], logits, loss, grad_norm.<name>,
// greedy_prompt, greedy, long_input_ids, long_logits), grads.safetensors, tokenizer_expected.json; for
// a GGUF file dequantized.<name>, the first rows of its tensors.
// `options` come from configure_source_parity and validate(). Data-parallel ranks share the rows of
// the gradients' batch. Collective over the world; every rank returns the merged comparison. Notes
// list what is not compared.
Comparison run_source_parity(SourceModel& source, const std::filesystem::path& folder,
                             const std::filesystem::path& model, const Options& options,
                             const RankContext& rank);

}  // namespace megatron
