// What `megatron inspect` tells about a checkpoint or a safetensors file: as JSON, and as text made
// from it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include <nlohmann/json_fwd.hpp>

namespace megatron {

// `path` is the folder of an iteration, the folder above it (`iteration` or the tracker says
// which), or a safetensors file. Fields:
//   kind         "checkpoint" or "safetensors"
//   path         the folder or file that was read
//   tensors      a list of {key, dtype, shape, chunks, elements, bytes}, in the order of layers
//   totals       {tensors, elements, bytes, parameters, other_elements, files}: parameters are the
//   elements
//                of keys that do not begin with "optimizer."
//   model        {num_layers, embedding}: what the keys show; absent fields could not be told
// for a checkpoint also
//   iteration, common (as saved), layout (a line, where a fingerprint was saved),
//   stored_iterations, damage       a line for every shard that is missing or has another size than
//   it was written with
// and for a file
//   metadata     its strings
// Only headers are read: the data is not compared with its checksums. Throws Error as
// CheckpointReader::open.
nlohmann::json summarize_checkpoint(const std::filesystem::path& path,
                                    std::optional<int64_t> iteration = std::nullopt);

// A table of the tensors between what is above and below it.
std::string format_checkpoint_summary(const nlohmann::json& summary);

}  // namespace megatron
