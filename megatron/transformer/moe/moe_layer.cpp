#include "megatron/transformer/moe/moe_layer.h"

#include <ATen/ATen.h>

#include "megatron/base/error.h"
#include "megatron/ops/recompute.h"
#include "megatron/transformer/module_registry.h"

namespace megatron {
namespace {

void check_module(const BuildArguments& arguments, const char* slot,
                  const std::vector<std::string>& known) {
  const std::string& name = arguments.spec.submodule(slot).module;
  if (std::ranges::find(known, name) == known.end())
    fail_unknown_module(name, std::string("the slot ") + slot, known);
}

const bool kRegistered = [] {
  feed_forward_modules().add(
      "MoELayer", {.build = [](const BuildArguments& arguments) -> std::shared_ptr<FeedForward> {
                     return std::make_shared<MoELayer>(arguments);
                   },
                   .slots = {"router", "experts", "shared_experts"}});
  return true;
}();

}  // namespace

MoELayer::MoELayer(const BuildArguments& arguments)
    : config_(arguments.config.moe),
      options_(arguments.options),
      recomputes_(arguments.config.recompute.selects("moe")) {
  check(config_.has_experts(), "Expected num_moe_experts for a layer with experts, but got none");
  if (!options_.groups)
    options_.groups =
        std::make_shared<const ProcessGroupCollection>(ProcessGroupCollection::single_rank());
  check_module(arguments, "router", {"TopKRouter"});
  check_module(arguments, "experts", {"SequentialMLP", "TEGroupedMLP"});
  const BuildArguments own = arguments.with(options_);
  router_ = register_module("router", std::make_shared<TopKRouter>(own.at("router")));
  experts_ = register_module("experts", std::make_shared<GroupedExperts>(own.at("experts")));
  check(config_.moe_shared_expert_intermediate_size ||
            arguments.spec.submodule("shared_experts").is_identity(),
        "Expected moe_shared_expert_intermediate_size with a spec that has shared_experts, but got "
        "none; give both or neither");
  if (config_.moe_shared_expert_intermediate_size) {
    check_module(arguments, "shared_experts", {"SharedExpertMLP"});
    shared_experts_ = register_module("shared_experts",
                                      std::make_shared<SharedExperts>(own.at("shared_experts")));
  }
  dispatcher_ = make_token_dispatcher(config_.moe_token_dispatcher_type, *config_.num_moe_experts,
                                      *options_.groups);
}

at::Tensor MoELayer::tokens_of(const at::Tensor& hidden_states, const Routing& routing) const {
  const at::Tensor tokens = hidden_states.flatten(0, 1);
  if (!config_.moe_apply_probs_on_input) return tokens;
  return (tokens * routing.probs.sum(1, /*keepdim=*/true)).to(hidden_states.scalar_type());
}

RowPadding MoELayer::row_padding(const Routing& routing) const {
  return {.capacity = routing.padded_rows,
          .multiple = config_.moe_router_padding_for_quantization.value_or(1)};
}

at::Tensor MoELayer::run(const at::Tensor& hidden_states, const ForwardContext& context,
                         const std::function<void()>& meanwhile) const {
  const Routing routing = router_->forward(hidden_states, context);
  const auto dispatch = dispatcher_->dispatch(tokens_of(hidden_states, routing), routing.probs,
                                              routing.map, row_padding(routing), meanwhile);
  const at::Tensor output = experts_->forward(
      dispatch->hidden_states(),
      config_.moe_apply_probs_on_input ? at::Tensor() : dispatch->probs(), dispatch->counts());
  return dispatch->combine(output).view_as(hidden_states);
}

void MoELayer::check_layout(const ForwardContext& context) const {
  check(
      options_.sequence_parallel || options_.tp->size() == 1 || !context.training,
      "Expected sequence_parallel in training with experts and tensor_model_parallel_size {}, but "
      "got none; sequence_parallel, or tensor_model_parallel_size 1, works",
      options_.tp->size());
}

OutputAndBias MoELayer::forward(const at::Tensor& hidden_states,
                                const ForwardContext& context) const {
  check_layout(context);
  if (config_.moe_shared_expert_overlap) {
    at::Tensor shared;
    const at::Tensor routed =
        run(hidden_states, context, [&] { shared = shared_experts_->forward(hidden_states); });
    return {routed + shared, at::Tensor()};
  }
  const at::Tensor routed = recompute_if(
      recomputes_, [this, context](const at::Tensor& input) { return run(input, context); },
      hidden_states);
  if (!shared_experts_) return {routed, at::Tensor()};
  return {routed + shared_experts_->forward(hidden_states), at::Tensor()};
}

}  // namespace megatron
