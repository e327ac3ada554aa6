#include "megatron/transformer/moe/topk_router.h"

#include <set>

#include <ATen/ATen.h>
#include <torch/csrc/autograd/graph_task.h>

#include "megatron/base/error.h"
#include "megatron/ops/loss/attached_loss.h"
#include "megatron/transformer/moe/input_jitter.h"
#include "megatron/transformer/moe/router_losses.h"
#include "megatron/transformer/moe/router_scores.h"
#include "megatron/transformer/moe/routing.h"
#include "megatron/transformer/moe/token_group.h"

namespace megatron {
namespace {

bool is_recomputation() {
  return torch::autograd::get_current_graph_task_id() != -1;
}

// State that is saved but not trained.
// Zero also where the weights stay uninitialized: nobody else may set it.
ParameterPtr make_buffer(int64_t size, const LayerOptions& options, at::ScalarType dtype) {
  auto buffer = std::make_shared<Parameter>(std::vector<int64_t>{size}, options.tensor.dtype(dtype),
                                            options.sharding(), Initialization::constant(0));
  buffer->data.set_requires_grad(false);
  buffer->data.zero_();
  buffer->keep_fp32 = true;
  buffer->is_buffer = true;
  return buffer;
}

// How many micro-batches are on the ranks that share the experts. Data-parallel ranks follow each
// other in blocks of the ranks that share a micro-batch.
int64_t microbatches_at_experts(const LayerOptions& options, bool shares_rows) {
  const ProcessGroupCollection& groups = *options.groups;
  // Without sequence parallelism, tensor-parallel ranks send the same tokens.
  if (!options.sequence_parallel && options.tp->size() > 1) return groups.tp_ep->size();
  if (shares_rows) return 1;
  std::set<int> blocks;
  for (const int rank : groups.tp_ep->ranks()) blocks.insert(rank / groups.tp_cp->size());
  return static_cast<int64_t>(blocks.size());
}

}  // namespace

TopKRouter::TopKRouter(const BuildArguments& arguments)
    : config_(arguments.config.moe),
      options_(arguments.options),
      layer_number_(arguments.layer_number) {
  const TransformerConfig& config = arguments.config;
  const int64_t experts = *config_.num_moe_experts;
  weight_ = register_parameter(
      "weight", std::make_shared<Parameter>(std::vector<int64_t>{experts, config.hidden_size},
                                            options_.tensor, options_.sharding(),
                                            Initialization::normal(config.hidden_std())));
  weight_->sequence_parallel = options_.sequence_parallel;
  if (config.add_bias_linear) {
    bias_ = register_parameter(
        "bias", std::make_shared<Parameter>(std::vector<int64_t>{experts}, options_.tensor,
                                            options_.sharding(), Initialization::constant(0)));
    bias_->sequence_parallel = options_.sequence_parallel;
  }
  if (!config_.moe_router_enable_expert_bias) return;
  expert_bias_ = register_parameter("expert_bias", make_buffer(experts, options_, at::kFloat));
  local_tokens_per_expert_ =
      register_parameter("local_tokens_per_expert", make_buffer(experts, options_, at::kDouble));
}

std::string TopKRouter::name() const {
  return weight_->name.substr(0, weight_->name.rfind('.'));
}

at::Tensor TopKRouter::logits_of(const at::Tensor& hidden_states,
                                 const ForwardContext& context) const {
  at::Tensor input = hidden_states;
  if (config_.moe_input_jitter_eps && context.training)
    input =
        jittered(input, *config_.moe_input_jitter_eps,
                 context.key(layer_number_, DropoutSite::router_input), context.residual_index());
  // In fp64 computations fp32 would be a loss.
  const at::ScalarType dtype = input.scalar_type() == at::kDouble
                                   ? at::kDouble
                                   : config_.moe_router_dtype.value_or(input.scalar_type());
  const at::Tensor bias = bias_ ? bias_->data.to(dtype) : at::Tensor();
  return at::linear(input.to(dtype), weight_->data.to(dtype), bias).flatten(0, 1);
}

at::Tensor TopKRouter::balanced_choice(const ForwardContext& context) const {
  const TokenGroup tokens(options_, context);
  const at::Tensor token =
      tokens.position_of_token() * tokens.rows_of_all_ranks() + tokens.row_of_token();
  const at::Tensor places = at::arange(config_.moe_router_topk, at::kLong);
  return (token.unsqueeze(1) * config_.moe_router_topk + places)
      .remainder(*config_.num_moe_experts);
}

at::Tensor TopKRouter::chosen_experts(const at::Tensor& logits, const ForwardContext& context,
                                      bool is_training) const {
  ExpertChoice choice{.topk = config_.moe_router_topk,
                      .num_groups = config_.moe_router_num_groups.value_or(0),
                      .group_topk = config_.moe_router_group_topk.value_or(0)};
  if (context.moe && context.moe->replay)
    return context.moe->replay(name(), context.layer_offset).to(logits.device());
  if (config_.moe_router_force_load_balancing) return balanced_choice(context).to(logits.device());
  if (config_.balances_by("sinkhorn")) {
    if (!is_training) return choose_experts(logits, choice);
    const TokenGroup tokens(options_, context);
    const at::Tensor valid = tokens.valid_tokens();
    const at::Tensor all = tokens.gather(logits);
    const at::Tensor all_valid =
        valid.defined() ? tokens.gather(valid.to(at::kByte)).to(at::kBool) : valid;
    return tokens.own(choose_experts(sinkhorn(all, all_valid), choice));
  }
  at::Tensor scores = choice_scores(logits, config_);
  if (expert_bias_) scores = scores + expert_bias_->data;
  return choose_experts(scores, choice);
}

void TopKRouter::drop(RoutingPlan& plan, const at::Tensor& logits,
                      const ForwardContext& context) const {
  const TokenGroup tokens(options_, context);
  const at::Tensor all_chosen = tokens.gather(plan.kept.to(at::kByte)).to(at::kBool);
  const at::Tensor valid = tokens.valid_tokens();
  double count = double(all_chosen.size(0));
  if (valid.defined()) count = tokens.sum(valid.sum(at::kDouble)).item<double>();
  plan.capacity = expert_capacity(int64_t(count), config_.moe_router_topk, *config_.num_moe_experts,
                                  *config_.moe_expert_capacity_factor);
  plan.microbatches_of_capacity = microbatches_at_experts(options_, context.shares_rows);
  const at::Tensor probs = tokens.gather(expert_probabilities(logits, plan.chosen, config_));
  plan.kept =
      tokens.own(within_capacity(all_chosen, probs, plan.capacity, config_.moe_token_drop_policy));
}

RoutingPlan TopKRouter::make_plan(const at::Tensor& logits, const ForwardContext& context,
                                  bool is_training) const {
  const at::NoGradGuard no_grad;
  const int64_t experts = *config_.num_moe_experts;
  const TokenGroup tokens(options_, context);
  at::Tensor valid = tokens.valid_tokens();
  if (valid.defined()) valid = valid.to(logits.device());
  RoutingPlan plan;
  plan.chosen = routing_map_of(chosen_experts(logits, context, is_training), experts);
  plan.wanted = valid.defined() ? plan.chosen.logical_and(valid.unsqueeze(1)) : plan.chosen;
  plan.kept = plan.wanted;
  if (config_.moe_expert_capacity_factor) drop(plan, logits, context);
  if (!is_training) return plan;
  if (config_.has_aux_loss()) {
    MoeStep::Layer* layer = context.moe ? &context.moe->step().layer(name(), experts) : nullptr;
    const at::Tensor by_scores = routing_map_of(
        choose_experts(balancing_scores(logits, config_), {.topk = config_.moe_router_topk}),
        experts);
    plan.losses = balancing_losses(config_, by_scores, valid, tokens, *options_.groups->dp,
                                   context.shares_rows, layer);
  }
  if (config_.moe_z_loss_coeff.value_or(0) > 0) {
    const at::Tensor count =
        valid.defined() ? valid.sum(at::kDouble) : at::tensor(double(logits.size(0)), at::kDouble);
    plan.z_loss_weight = 1 / std::max(tokens.sum(count).item<double>(), 1.0);
  }
  return plan;
}

void TopKRouter::record(const RoutingPlan& plan, const ForwardContext& context) const {
  if (local_tokens_per_expert_)
    local_tokens_per_expert_->data.add_(plan.kept.sum(0, false, at::kDouble));
  if (!context.moe) return;
  MoeStep::Layer& layer = context.moe->step().layer(name(), *config_.num_moe_experts);
  layer.topk = config_.moe_router_topk;
  layer.load += plan.wanted.sum(0).cpu();
  layer.dropped += plan.wanted.sum().cpu() - plan.kept.sum().cpu();
}

Routing TopKRouter::forward(const at::Tensor& hidden_states, const ForwardContext& context) const {
  at::Tensor logits = logits_of(hidden_states, context);
  // Recomputation runs the first time without gradients; a step's record tells that it trains.
  const bool is_training = context.training && (context.moe || at::GradMode::is_enabled());
  std::shared_ptr<const RoutingPlan> plan;
  const bool again = context.moe && is_recomputation();
  if (again) plan = context.moe->find(name(), context.layer_offset);
  const bool is_first_run = plan == nullptr;
  if (is_first_run) {
    plan = std::make_shared<const RoutingPlan>(make_plan(logits, context, is_training));
    if (context.moe && is_training) context.moe->store(name(), context.layer_offset, plan);
    const at::NoGradGuard no_grad;
    if (is_training) record(*plan, context);
  }
  const double weight = context.moe ? context.moe->loss_weight() : 1.0;
  const auto note = [&](const std::string& loss, const at::Tensor& value) {
    if (context.moe && is_first_run)
      context.moe->step().layer(name(), *config_.num_moe_experts).add_loss(loss, value);
  };
  if (plan->z_loss_weight > 0) {
    at::Tensor squares = logits.logsumexp(-1).square();
    const at::Tensor valid = TokenGroup(options_, context).valid_tokens();
    if (valid.defined()) squares = squares * valid.to(squares.device());
    const at::Tensor loss = squares.sum() * plan->z_loss_weight;
    note("z_loss", loss);
    logits = attach_loss(logits, loss, *config_.moe_z_loss_coeff * weight);
  }
  at::Tensor probs = expert_probabilities(logits, plan->chosen, config_);
  if (!plan->losses.empty()) {
    const at::Tensor scores = balancing_scores(logits, config_);
    for (const RouterLoss& loss : plan->losses) {
      const at::Tensor value = (scores * loss.weights.to(scores.scalar_type())).sum();
      note(loss.name, value);
      probs = attach_loss(probs, value, loss.coefficient * weight);
    }
  }
  if (!plan->kept.is_same(plan->chosen)) probs = probs * plan->kept;
  if (context.moe && context.moe->on_routing) context.moe->on_routing(name(), probs, plan->kept);
  const bool pads = config_.moe_pad_expert_input_to_capacity;
  return {.probs = probs,
          .map = plan->kept,
          .padded_rows = pads ? plan->capacity * plan->microbatches_of_capacity : 0};
}

void TopKRouter::update_expert_bias() const {
  const at::NoGradGuard no_grad;
  const at::Tensor counts = local_tokens_per_expert_->data;
  const ProcessGroupCollection& groups = *options_.groups;
  // Without sequence parallelism, tensor-parallel ranks have counted the same tokens.
  (options_.sequence_parallel ? groups.tp_dp_cp : groups.dp_cp)->all_reduce(counts);
  expert_bias_->data.add_((counts.mean() - counts).sign().to(at::kFloat),
                          config_.moe_router_bias_update_rate);
  counts.zero_();
}

}  // namespace megatron
