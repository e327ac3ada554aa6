#include "megatron/models/common/distributed_models.h"

#include <set>

#include "megatron/base/error.h"
#include "megatron/base/human_bytes.h"
#include "megatron/data_parallel/broadcast_parameters.h"
#include "megatron/data_parallel/frozen_parameters.h"
#include "megatron/parallel/object_collectives.h"

namespace megatron {
namespace {

void warn(const Logger& logger, const ProcessGroupCollection& groups, const std::string& text) {
  if (groups.world->rank() != 0) return;
  if (logger) {
    logger("warning: " + text);
  } else {
    fmt::print(stderr, "warning: {}\n", text);
  }
}

void check_chunks(const ModelChunks& chunks, size_t expected, const std::string& source) {
  check(chunks.size() == expected, "Expected {} model chunk{} from {}, but got {}", expected,
        expected == 1 ? "" : "s", source, chunks.size());
  std::set<const MegatronModule*> modules;
  for (const ModelChunk& chunk : chunks) {
    check(chunk.module != nullptr, "Expected a module in every chunk from {}, but got null",
          source);
    check(modules.insert(chunk.module.get()).second,
          "Expected different modules in the chunks from {}, but got one of them twice", source);
  }
}

ModelChunks run_hooks(const std::vector<ModelHook>& hooks, const char* name, ModelChunks chunks,
                      const ProcessGroupCollection& groups, const Logger& logger) {
  for (size_t i = 0; i < hooks.size(); ++i) {
    const std::string hook = fmt::format("{}[{}]", name, i);
    check(hooks[i] != nullptr, "Expected a callable as {}, but got an empty function", hook);
    std::optional<ModelChunks> result = hooks[i](chunks);
    if (!result) {
      warn(logger, groups,
           fmt::format("{} returned no chunks; those before it stay. A hook that changes them in "
                       "place may return them",
                       hook));
      continue;
    }
    check_chunks(*result, chunks.size(), hook);
    chunks = std::move(*result);
  }
  return chunks;
}

std::vector<ParameterPtr> parameters_of(const ModelChunks& chunks) {
  std::vector<ParameterPtr> parameters;
  for (const ModelChunk& chunk : chunks) {
    const std::vector<ParameterPtr> of_chunk = chunk.module->parameters();
    parameters.insert(parameters.end(), of_chunk.begin(), of_chunk.end());
  }
  return parameters;
}

// One line per tensor- and pipeline-parallel rank, of one copy of the model.
void log_parameter_counts(const ModelChunks& chunks, const ProcessGroupCollection& groups,
                          const Logger& logger) {
  int64_t count = 0;
  for (const ParameterPtr& parameter : parameters_of(chunks)) {
    if (!parameter->is_buffer) count += parameter->data.numel();
  }
  const std::string mine =
      fmt::format("parameters on tensor-parallel rank {}, pipeline rank {}: {} ({})",
                  groups.tp->rank(), groups.pp->rank(), count, human_parameters(count));
  const std::vector<std::string> lines = all_gather_strings(mine, *groups.mp);
  if (!logger || groups.world->rank() != 0) return;
  for (const std::string& line : lines) logger(line);
}

DistributedDataParallelConfig resolved_ddp_config(const DistributedModelArguments& arguments) {
  DistributedDataParallelConfig config =
      arguments.ddp_config.value_or(DistributedDataParallelConfig{});
  config.use_megatron_fsdp |= arguments.use_megatron_fsdp;
  config.use_torch_fsdp2 |= arguments.use_torch_fsdp2;
  return config;
}

void wrap(ModelChunks& chunks, const ProcessGroupCollection& groups,
          const DistributedModelArguments& arguments) {
  const DistributedDataParallelConfig config = resolved_ddp_config(arguments);
  if (arguments.data_parallel_random_init)
    broadcast_parameters(parameters_of(chunks), *groups.dp_cp, *groups.expt_dp);
  check_frozen_parameters(parameters_of(chunks), groups);
  for (size_t i = 0; i < chunks.size(); ++i) {
    const auto* grouped = dynamic_cast<const GroupedModule*>(chunks[i].module.get());
    check(grouped != nullptr,
          "Expected a module with module_groups() (a GroupedModule) to wrap, but chunk {} has "
          "none; wrap_with_ddp = false works",
          i);
    chunks[i].data_parallel = std::make_shared<DistributedDataParallel>(
        grouped->module_groups(), config, groups.dp_cp,
        disables_bucketing(i, chunks.size(), arguments.overlap_param_gather_with_optimizer_step),
        groups.expt_dp);
    chunks[i].data_parallel->gather_with_optimizer_step(
        arguments.overlap_param_gather_with_optimizer_step);
  }
}

void check_step_overlap(const DistributedModelArguments& arguments) {
  if (!arguments.overlap_param_gather_with_optimizer_step) return;
  const DistributedDataParallelConfig config = resolved_ddp_config(arguments);
  check(
      arguments.wrap_with_ddp,
      "Expected wrap_with_ddp with overlap_param_gather_with_optimizer_step, but got false; leave "
      "one out");
  check(config.overlap_param_gather,
        "Expected overlap_param_gather=true of ddp_config with "
        "overlap_param_gather_with_optimizer_step, but got false; give both or neither");
  const bool gathers_before_use =
      config.use_torch_fsdp2 ||
      (config.use_megatron_fsdp &&
       config.data_parallel_sharding_strategy == DataParallelShardingStrategy::optim_grads_params);
  check(!gathers_before_use,
        "Expected data_parallel_sharding_strategy optim or optim_grads with "
        "overlap_param_gather_with_optimizer_step, but got {}, which gathers each layer before its "
        "forward pass; leave one out",
        config.use_torch_fsdp2 ? "use_torch_fsdp2" : "optim_grads_params");
}

}  // namespace

void check_groups(const ProcessGroupCollection& groups) {
  const std::pair<const char*, bool> needed[] = {
      {"world", groups.world != nullptr},    {"tp", groups.tp != nullptr},
      {"pp", groups.pp != nullptr},          {"cp", groups.cp != nullptr},
      {"mp", groups.mp != nullptr},          {"dp_cp", groups.dp_cp != nullptr},
      {"ep", groups.ep != nullptr},          {"expt_tp", groups.expt_tp != nullptr},
      {"expt_dp", groups.expt_dp != nullptr}};
  for (const auto& [name, given] : needed)
    check(
        given,
        "Expected the group {} in pg_collection, but got none; make_model_groups gives all groups "
        "of a rank, and ProcessGroupCollection::single_rank those of one",
        name);
}

void check_arguments(const DistributedModelArguments& arguments) {
  check(arguments.model_type == ModelType::encoder_or_decoder,
        "Expected model_type encoder_or_decoder, but got another; leave it out (it is deprecated)");
  const DistributedDataParallelConfig config = resolved_ddp_config(arguments);
  check_data_parallel(config);
  check(arguments.wrap_with_ddp || !(config.use_megatron_fsdp || config.use_torch_fsdp2),
        "Expected wrap_with_ddp with {}, but got false; leave one out",
        config.use_megatron_fsdp ? "use_megatron_fsdp" : "use_torch_fsdp2");
  check_step_overlap(arguments);
}

ModelChunks make_distributed(ModelChunks chunks, const ModelConfig& config,
                             const TransformerConfig& transformer,
                             const ProcessGroupCollection& groups,
                             const DistributedModelArguments& arguments, const Logger& logger) {
  chunks = run_hooks(config.pre_wrap_hooks, "pre_wrap_hooks", std::move(chunks), groups, logger);
  log_parameter_counts(chunks, groups, logger);
  if ((transformer.bf16 || transformer.fp16) && arguments.mixed_precision_wrapper) {
    for (ModelChunk& chunk : chunks)
      chunk.module = arguments.mixed_precision_wrapper(transformer, chunk.module);
    check_chunks(chunks, chunks.size(), "mixed_precision_wrapper");
  }
  if (arguments.wrap_with_ddp) {
    check(!transformer.moe.delay_wgrad_compute ||
              !reduces_during_backward(resolved_ddp_config(arguments)),
          "Expected no overlap_grad_reduce and no sharded gradients of ddp_config with "
          "delay_wgrad_compute, which completes weight gradients after their backward pass, but "
          "got one; use_distributed_optimizer works");
    wrap(chunks, groups, arguments);
  }
  return run_hooks(config.post_wrap_hooks, "post_wrap_hooks", std::move(chunks), groups, logger);
}

}  // namespace megatron
