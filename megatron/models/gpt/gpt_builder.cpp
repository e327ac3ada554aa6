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

std::vector<std::string> GPTModelBuilder::describe_chunk(const ProcessGroupCollection& groups,
                                                         std::optional<int> vp_stage) const {
  const int stage = groups.pp->rank(), chunk = vp_stage.value_or(0);
  const PipelineStage held = PipelineStage::of(layout_, stage, chunk);
  std::string text = fmt::format("building GPTModel, chunk {} of {}: ", chunk + 1, num_chunks());
  if (held.num_layers == 0) {
    text += "no layers";
  } else {
    text += fmt::format("layers {}-{}", held.first_layer + 1, held.first_layer + held.num_layers);
  }
  if (held.pre_process) text += ", embedding";
  if (held.has_mtp_layers(config().transformer))
    text += fmt::format(", {} MTP layer(s)", config().transformer.mtp.mtp_num_layers);
  if (held.post_process) text += ", output layer";
  std::vector<std::string> lines = {std::move(text)};
  std::istringstream spec(to_string(resolve_layer_spec(config(), held)));
  for (std::string line; std::getline(spec, line);) lines.push_back("  " + line);
  return lines;
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
  for (const auto& parameter : model->parameters()) count += parameter->data.numel();
  return count;
}

}  // namespace megatron
