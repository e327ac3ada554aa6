#include "megatron/models/gpt/gpt_builder.h"

#include <sstream>

#include "megatron/base/error.h"
#include "megatron/models/common/builder_registry.h"
#include "megatron/models/gpt/gpt_layer_specs.h"

namespace megatron {
namespace {

// The configuration and the groups must agree: layers are split by one, weights by the other.
void check_group_size(const char* field, int64_t size, const ProcessGroupPtr& group) {
  const int64_t ranks = group ? group->size() : 1;
  check(size == ranks, "Expected {} to be the size of its process group ({}), but got {}", field,
        ranks, size);
}

// The chunk that a call to build_model means.
int chunk_of(std::optional<int> vp_stage, int chunks) {
  check(vp_stage.has_value() || chunks == 1,
        "Expected vp_stage, since a rank has {} chunks, but got none; 0 to {} work", chunks,
        chunks - 1);
  const int chunk = vp_stage.value_or(0);
  check(chunk >= 0 && chunk < chunks, "Expected vp_stage {}, but got {}",
        chunks == 1 ? "0 or none, since a rank has one chunk"
                    : fmt::format("of at least 0 and below the {} chunks of a rank", chunks),
        chunk);
  return chunk;
}

// "building GPTModel, stage 1 of 2, chunk 1 of 2: layers 1-2, embedding"
std::string describe_chunk(const PipelineStage& held, const TransformerConfig& config,
                           const PipelineLayout& layout) {
  std::string text = "building GPTModel, ";
  if (layout.stages() > 1) text += fmt::format("stage {} of {}, ", held.rank + 1, layout.stages());
  text += fmt::format("chunk {} of {}: ", held.chunk + 1, layout.chunks());
  if (held.num_layers == 0) {
    text += "no layers";
  } else {
    text += fmt::format("layers {}-{}", held.first_layer + 1, held.first_layer + held.num_layers);
  }
  if (held.pre_process) text += ", embedding";
  if (held.has_mtp_layers(config))
    text += fmt::format(", {} MTP layer(s)", config.mtp.mtp_num_layers);
  if (held.post_process) text += ", output layer";
  return text;
}

GPTModelConfig finalized(GPTModelConfig config) {
  config.finalize();
  return config;
}

// The name of Megatron-Bridge's documentation, and that of its module.
const bool kGptBuilderIsRegistered = [] {
  register_builder<GPTModelBuilder>("megatron.bridge.models.GPTModelBuilder");
  register_builder<GPTModelBuilder>("megatron.bridge.models.gpt.gpt_builder.GPTModelBuilder");
  return true;
}();

}  // namespace

GPTModelBuilder::GPTModelBuilder(GPTModelConfig model_config, BuildOptions options)
    : ModelBuilder(finalized(std::move(model_config)), std::move(options)),
      layout_(PipelineLayout::of(config().transformer)) {}

std::shared_ptr<GPTModel> GPTModelBuilder::build_model(const ProcessGroupCollection& pg_collection,
                                                       std::optional<bool> pre_process,
                                                       std::optional<bool> post_process,
                                                       std::optional<int> vp_stage) const {
  const TransformerConfig& transformer = config().transformer;
  config().required_vocab_size();
  check_groups(pg_collection);
  check_group_size("tensor_model_parallel_size", transformer.tensor_model_parallel_size,
                   pg_collection.tp);
  check_group_size("pipeline_model_parallel_size", transformer.pipeline_model_parallel_size,
                   pg_collection.pp);
  check_group_size("context_parallel_size", transformer.context_parallel_size, pg_collection.cp);
  PipelineStage stage =
      PipelineStage::of(layout_, pg_collection.pp->rank(), chunk_of(vp_stage, num_chunks()));
  stage.pre_process = pre_process.value_or(stage.pre_process);
  stage.post_process = post_process.value_or(stage.post_process);
  const at::Device where = device(pg_collection);
  const LayerSpec layer_spec = resolve_layer_spec(config(), stage);
  auto model =
      std::make_shared<GPTModel>(config(), layer_spec, stage, pg_collection,
                                 at::TensorOptions().dtype(transformer.params_dtype).device(where),
                                 mtp_block_spec(config(), layer_spec, stage));
  if (transformer.perform_initialization && !where.is_meta())
    initialize_weights(*model, options().seed);
  return model;
}

std::vector<std::string> GPTModelBuilder::description() const {
  std::vector<std::string> lines;
  const auto append = [&lines](const std::string& text) {
    std::istringstream stream(text);
    for (std::string line; std::getline(stream, line);) lines.push_back("  " + line);
  };
  if (config().should_pad_vocab && config().vocab_size)
    lines.push_back(fmt::format("vocabulary of {} tokens, padded to {} rows", *config().vocab_size,
                                config().padded_vocab_size()));
  std::optional<LayerSpec> last;  // of the chunk before
  for (int stage = 0; stage < layout_.stages(); ++stage) {
    for (int chunk = 0; chunk < layout_.chunks(); ++chunk) {
      const PipelineStage held = PipelineStage::of(layout_, stage, chunk);
      lines.push_back(describe_chunk(held, config().transformer, layout_));
      LayerSpec spec = resolve_layer_spec(config(), held);
      if (spec != last) append(to_string(spec, held.first_layer + 1));
      if (const auto mtp = mtp_block_spec(config(), spec, held)) append(to_string(*mtp));
      last = std::move(spec);
    }
  }
  return lines;
}

void GPTModelBuilder::check_chunk(const GPTModel& model, const ProcessGroupCollection& groups,
                                  int chunk) const {
  const PipelineStage& stage = model.stage();
  check(
      stage.rank == groups.pp->rank() && stage.chunk == chunk,
      "Expected hooks and wrappers to leave the order of the chunks, but got chunk {} of pipeline "
      "rank {} as chunk {} of rank {}",
      stage.chunk, stage.rank, chunk, groups.pp->rank());
}

std::vector<ParameterPtr> parameters_of(const GPTModelChunks& chunks) {
  std::vector<ParameterPtr> parameters;
  for (const auto& chunk : chunks) {
    for (const ParameterPtr& parameter : chunk->parameters()) parameters.push_back(parameter);
  }
  return parameters;
}

ShardedStateDict sharded_state_dict(const GPTModelChunks& chunks) {
  ShardedStateDict state;
  for (const auto& chunk : chunks) {
    for (ShardedTensor& tensor : chunk->sharded_state_dict()) state.push_back(std::move(tensor));
  }
  return state;
}

void initialize_weights(const GPTModelChunks& chunks, uint64_t seed) {
  for (const auto& chunk : chunks) initialize_weights(*chunk, seed);
}

int64_t count_parameters(const GPTModelConfig& config) {
  // On the meta device, which allocates no storage.
  GPTModelConfig unsharded = config;
  unsharded.reset_layout();
  const auto model = GPTModelBuilder(std::move(unsharded), {.device = at::kMeta})
                         .build_model(ProcessGroupCollection::single_rank());
  int64_t count = 0;
  for (const auto& parameter : model->parameters())
    if (!parameter->is_buffer) count += parameter->data.numel();
  return count;
}

int64_t count_active_parameters(const GPTModelConfig& config) {
  const MoeConfig& moe = config.transformer.moe;
  if (!moe.has_experts()) return count_parameters(config);
  GPTModelConfig active = config;
  active.transformer.moe.num_moe_experts = moe.moe_router_topk;
  active.transformer.moe.moe_router_num_groups = active.transformer.moe.moe_router_group_topk = {};
  // The router is as large as before.
  int64_t layers = 0;
  for (int64_t number = 1; number <= config.transformer.num_layers; ++number)
    layers += moe.is_moe_layer(number);
  if (moe.is_moe_layer(config.transformer.num_layers)) {
    const MultiTokenPredictionConfig& mtp = config.transformer.mtp;
    layers += mtp.mtp_use_repeated_layer ? 1 : mtp.mtp_num_layers;
  }
  const int64_t row = config.transformer.hidden_size + (config.transformer.add_bias_linear ? 1 : 0);
  return count_parameters(active) + layers * row * (*moe.num_moe_experts - moe.moe_router_topk);
}

}  // namespace megatron
