// The output of `megatron inspect` for a checkpoint or a safetensors file, as JSON and as text.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include <nlohmann/json_fwd.hpp>

namespace megatron {

// `path` is a checkpoint, a directory of checkpoints (`iteration` selects one, by default the
// tracker's) or a safetensors file. Fields:
//   kind         "checkpoint" or "safetensors"
//   path         the directory or file that was read
//   tensors      list of {key, dtype, shape, chunks, elements, bytes}, sorted by layer
//   totals       {tensors, elements, bytes, parameters, other_elements, files}; parameters counts
//                the elements of keys that do not start with "optimizer."
//   model        {num_layers, embedding} as far as the keys show them
// Checkpoints only:
//   iteration, common (as saved), layout (a line, if there is a fingerprint), stored_iterations
//   damage       a line for every shard that is missing or has another size than when written
// Files only:
//   metadata     strings of the header
// Reads headers only and does not verify checksums. Throws Error as CheckpointReader::open.
nlohmann::json summarize_checkpoint(const std::filesystem::path& path,
                                    std::optional<int64_t> iteration = std::nullopt);

// The summary as text: facts, a table of the tensors, totals.
std::string format_checkpoint_summary(const nlohmann::json& summary);

}  // namespace megatron
