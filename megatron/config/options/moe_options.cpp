// Options of mixture of experts.
#include "megatron/config/options/option_table.h"

namespace megatron {
namespace {

using M = MoeConfig;

MoeConfig& experts_of(Options& options) {
  return options.model.transformer.moe;
}

void add_experts(OptionTable& table) {
  const auto group =
      table.group("Mixture of experts", kModelCommands, &experts_of, {.architecture = true});
  group.add(&M::num_moe_experts, {.flag = "num-experts",
                                  .help = "Experts of each layer that has them",
                                  .unit = "experts",
                                  .field = "num_moe_experts",
                                  .otherwise = "a dense model"});
  group.add(
      &M::moe_layer_freq,
      {.flag = "moe-layer-freq",
       .help = "Layers with experts: every Nth from the first, or one 0 or 1 per layer, which "
               "may be written as ([0]*3+[1]*58)"});
  group.add(&M::moe_ffn_hidden_size, {.flag = "moe-ffn-hidden-size",
                                      .help = "Width of an expert",
                                      .unit = "features",
                                      .otherwise = "--ffn-hidden-size"});
  group.add(&M::moe_shared_expert_intermediate_size,
            {.flag = "moe-shared-expert-intermediate-size",
             .help = "Total width of the shared experts, which every token passes",
             .unit = "features",
             .otherwise = "no shared experts"});
  group.add(&M::moe_shared_expert_gate,
            {.flag = "moe-shared-expert-gate",
             .help = "Multiply the shared experts' output by a sigmoid gate"});
  group.add(&M::moe_apply_probs_on_input,
            {.flag = "moe-apply-probs-on-input",
             .help = "With --moe-router-topk 1: multiply the experts' input by the probabilities, "
                     "instead of the activation's output"});
}

void add_router(OptionTable& table) {
  const auto group =
      table.group("Mixture of experts", kModelCommands, &experts_of, {.architecture = true});
  group.add(
      &M::moe_router_topk,
      {.flag = "moe-router-topk", .help = "Experts that each token is sent to", .unit = "experts"});
  group.add(&M::moe_router_score_function,
            {.flag = "moe-router-score-function",
             .help = "Scores of the experts: softmax over the chosen ones, or sigmoid or the root "
                     "of softplus, divided by their sum over the chosen ones"});
  group.add(&M::moe_router_pre_softmax,
            {.flag = "moe-router-pre-softmax",
             .help = "Take the softmax over all experts, before the choice"});
  group.add(&M::moe_router_topk_scaling_factor,
            {.flag = "moe-router-topk-scaling-factor",
             .help = "Factor of the chosen experts' probabilities",
             .unit = "factor",
             .otherwise = "1"});
  group.add(&M::moe_router_num_groups,
            {.flag = "moe-router-num-groups",
             .help = "Groups of experts, of which a token's experts come from "
                     "--moe-router-group-topk: the experts of a node or of a device, for example",
             .unit = "groups",
             .otherwise = "one group"});
  group.add(&M::moe_router_group_topk, {.flag = "moe-router-group-topk",
                                        .help = "Groups that each token chooses from",
                                        .unit = "groups",
                                        .otherwise = "all"});
  group.add(&M::moe_router_enable_expert_bias,
            {.flag = "moe-router-enable-expert-bias",
             .help = "Balance the load by a bias on the scores for the choice, without a loss"});
  const auto training = table.group("Mixture of experts", kModelCommands, &experts_of, {});
  training.add(&M::moe_router_bias_update_rate,
               {.flag = "moe-router-bias-update-rate",
                .help = "Step of that bias after each training step",
                .unit = "score"});
  training.add(&M::moe_router_dtype, {.flag = "moe-router-dtype",
                                      .help = "Data type of the router's logits",
                                      .otherwise = "that of activations"});
  training.add(&M::moe_router_force_load_balancing,
               {.flag = "moe-router-force-load-balancing",
                .help = "For benchmarks: send every expert the same number of tokens"});
  training.add(&M::moe_input_jitter_eps,
               {.flag = "moe-input-jitter-eps",
                .help = "In training, multiply the router's input by random numbers of "
                        "[1 - eps, 1 + eps]",
                .unit = "fraction",
                .otherwise = "none"});
}

void add_balancing(OptionTable& table) {
  const auto group = table.group("Mixture of experts", kModelCommands, &experts_of, {});
  group.add(&M::moe_router_load_balancing_type,
            {.flag = "moe-router-load-balancing-type",
             .help = "Any of the losses aux_loss (over a micro-batch), seq_aux_loss (over each "
                     "sequence) and global_aux_loss (over the global batch so far); or sinkhorn; "
                     "or none"});
  group.add(&M::moe_aux_loss_coeff,
            {.flag = "moe-aux-loss-coeff",
             .help = "Coefficient of each of these losses, or one for all"});
  group.add(&M::moe_z_loss_coeff, {.flag = "moe-z-loss-coeff",
                                   .help = "Coefficient of the loss on the size of the logits",
                                   .unit = "factor",
                                   .otherwise = "none"});
}

void add_dispatch(OptionTable& table) {
  const auto group = table.group("Mixture of experts", kModelCommands, &experts_of, {});
  group.add(&M::moe_token_dispatcher_type,
            {.flag = "moe-token-dispatcher-type",
             .help = "How tokens reach the ranks of their experts: all of them go to all ranks, or "
                     "each to its own"});
  group.add(
      &M::moe_expert_capacity_factor,
      {.flag = "moe-expert-capacity-factor",
       .help = "Most tokens of an expert, as a multiple of the mean; further ones are dropped",
       .unit = "factor",
       .otherwise = "no token is dropped"});
  group.add(&M::moe_pad_expert_input_to_capacity,
            {.flag = "moe-pad-expert-input-to-capacity",
             .help = "Pad the input of every expert to that many tokens"});
  group.add(
      &M::moe_token_drop_policy,
      {.flag = "moe-token-drop-policy",
       .help = "Which tokens an expert keeps: those of the highest probability, or the first"});
  group.add(&M::moe_router_padding_for_quantization,
            {.flag = "moe-router-padding-for-quantization",
             .help = "Pad the rows of every expert to a multiple of 16, 32 or 128, for products of "
                     "few bits",
             .unit = "rows",
             .otherwise = "no padding"});
  group.add(&M::moe_grouped_gemm,
            {.flag = "moe-grouped-gemm",
             .help = "Store the experts of a layer as one tensor in checkpoints. All experts are "
                     "computed in one product either way"});
  group.add(&M::moe_shared_expert_overlap,
            {.flag = "moe-shared-expert-overlap",
             .help = "Run the shared experts while tokens are on their way (alltoall only)"});
  const auto parallel = table.group("Parallelism", kLayoutCommands, &experts_of, {});
  parallel.add(&M::expert_tensor_parallel_size,
               {.flag = "expert-tensor-parallel-size",
                .help = "Tensor parallel size of the experts (ETP)",
                .unit = "ranks",
                .otherwise = "that of the layers"});
  parallel.add(&M::overlap_moe_expert_parallel_comm,
               {.flag = "overlap-moe-expert-parallel-comm",
                .help = "Combined 1F1B: run the all-to-all of one micro-batch's tokens while "
                        "another micro-batch computes"});
  parallel.add(&M::delay_wgrad_compute,
               {.flag = "delay-wgrad-compute",
                .help = "With combined 1F1B: compute the weight gradients of experts while the "
                        "gradients of their inputs are on their way"});
}

void add_replay(OptionTable& table) {
  const auto group = table.group("Mixture of experts", commands(Command::train), &experts_of,
                                 {.differs_between_runs = true});
  group.add(&M::moe_router_record,
            {.flag = "moe-router-record",
             .help = "Folder for the experts that routers choose for each token, by iteration",
             .otherwise = "none"});
  group.add(&M::moe_router_replay,
            {.flag = "moe-router-replay",
             .help = "Folder of such choices, which routers take instead of choosing",
             .otherwise = "none"});
  const auto upcycling =
      table.group("Mixture of experts", commands(Command::train), &experts_of, {});
  upcycling.add(&M::moe_use_upcycling,
                {.flag = "moe-use-upcycling",
                 .help = "Make the experts of the MLPs of the dense checkpoint in --load"});
  upcycling.add(&M::moe_upcycling_granularity,
                {.flag = "moe-upcycling-granularity",
                 .help = "With --moe-use-upcycling: experts that an MLP is divided into",
                 .unit = "experts"});
}

}  // namespace

void add_moe_options(OptionTable& table) {
  add_experts(table);
  add_router(table);
  add_balancing(table);
  add_dispatch(table);
  add_replay(table);
}

}  // namespace megatron
