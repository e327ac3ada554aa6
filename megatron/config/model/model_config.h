// What the configurations of all kinds of models have in common (Megatron-Bridge's ModelConfig).
// A configuration also has a member `builder`, the registered name of its builder.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include <nlohmann/json.hpp>

namespace megatron {

class DistributedDataParallel;
class MegatronModule;

// A model chunk of a rank, and its data-parallel wrapper: null before it is wrapped.
struct ModelChunk {
  std::shared_ptr<MegatronModule> module = nullptr;
  std::shared_ptr<DistributedDataParallel> data_parallel = nullptr;
};
using ModelChunks = std::vector<ModelChunk>;

// Changes or replaces a rank's chunks. Without a result the chunks stay, and the builder warns.
using ModelHook = std::function<std::optional<ModelChunks>(const ModelChunks&)>;

struct ModelConfig {
  // The checkpoint was written by a quantizer: default_layer_spec then gives layers whose linears
  // and norms are separate modules.
  bool restore_modelopt_state = false;
  // An object of the caller's own that checkpoints keep; null: none.
  nlohmann::json extra_checkpoint_metadata = nullptr;
  // Run by build_distributed_models, in order: on the chunks as built (to load weights, freeze
  // parameters or add adapters), and after data parallelism has wrapped them. They are not stored.
  std::vector<ModelHook> pre_wrap_hooks = {};
  std::vector<ModelHook> post_wrap_hooks = {};
};

}  // namespace megatron
