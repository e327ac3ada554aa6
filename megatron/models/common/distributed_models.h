// From built model chunks to trained ones (Megatron's dist_utils): hooks, mixed precision, and data
// parallelism. The same for all kinds of models.
#pragma once

#include <functional>
#include <string>

#include "megatron/config/model/ddp_config.h"
#include "megatron/config/model/model_config.h"
#include "megatron/data_parallel/distributed_data_parallel.h"
#include "megatron/models/common/float16_module.h"

namespace megatron {

// Deprecated by Megatron. Only encoder_or_decoder can be built.
enum class ModelType { encoder_or_decoder, encoder_and_decoder, retro_encoder, retro_decoder };

// Receives lines without newline. A builder calls it on the first rank of the world only.
using Logger = std::function<void(const std::string& line)>;

struct DistributedModelArguments {
  std::optional<DistributedDataParallelConfig> ddp_config = {};  // default: its defaults
  // Gathers updated parameters chunk by chunk, during the optimizer's step: of several chunks none
  // is divided into buckets. Requires overlap_param_gather of ddp_config, and the same field of the
  // optimizer's configuration.
  bool overlap_param_gather_with_optimizer_step = false;
  bool use_megatron_fsdp = false;  // sets the field of ddp_config
  bool use_torch_fsdp2 = false;    // sets the field of ddp_config
  bool wrap_with_ddp = true;       // false: the chunks are not wrapped
  // Data-parallel rank 0 broadcasts its parameters before they are wrapped.
  bool data_parallel_random_init = true;
  // Applied to every chunk if bf16 or fp16 is set; an empty function: none.
  MixedPrecisionWrapper mixed_precision_wrapper = Float16Module;
  ModelType model_type = ModelType::encoder_or_decoder;
};

// Throws Error for contradictions, before anything is built.
void check_arguments(const DistributedModelArguments& arguments);

// Throws Error for groups that a builder needs and that are null.
void check_groups(const ProcessGroupCollection& groups);

// Runs pre_wrap_hooks, converts, wraps, and runs post_wrap_hooks. `chunks` are all of this rank.
// Collective over the world. A module that is wrapped must be a GroupedModule. Throws Error if a
// hook or the mixed-precision wrapper returns another number of chunks, null ones or one twice.
ModelChunks make_distributed(ModelChunks chunks, const ModelConfig& config,
                             const TransformerConfig& transformer,
                             const ProcessGroupCollection& groups,
                             const DistributedModelArguments& arguments, const Logger& logger);

}  // namespace megatron
