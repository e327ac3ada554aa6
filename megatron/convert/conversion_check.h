// The checks of `megatron convert --verify`: the round trip is equal bit for bit, and both sides of
// the conversion give the same logits for a fixed prompt.
#pragma once

#include <filesystem>
#include <string>

#include "megatron/convert/checkpoint_conversion.h"

namespace megatron {

// After import_checkpoint: exports the checkpoint beside it, compares, and removes the copy. Returns
// lines for the reader. Throws Error for a difference.
std::string check_import(SourceModel& source, const std::filesystem::path& save);

// After export_checkpoint: compares the logits of the checkpoint with those of the folder, and the
// tensors of a second export of the folder's import with the folder.
std::string check_export(const std::filesystem::path& load, const std::filesystem::path& output);

// After export_gguf: reads the file back and compares its configuration with the checkpoint's, every
// tensor bit for bit with the checkpoint's rounded as the file's types do, and the logits, which
// agree within 1e-4 of the largest (Llama 3's scaling comes back from divisors in fp32).
std::string check_gguf_export(const std::filesystem::path& load,
                              const std::filesystem::path& output);

}  // namespace megatron
