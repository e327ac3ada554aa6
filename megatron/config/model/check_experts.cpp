// Checks of mixture of experts.
#include <algorithm>
#include <set>
#include <string>

#include <fmt/ranges.h>

#include "megatron/base/dtype.h"
#include "megatron/base/problems.h"
#include "megatron/config/model/enum_names.h"
#include "megatron/config/model/model_checks.h"

namespace megatron {
namespace {

// Fields that mean nothing without experts, by whether they are set.
void check_dense(const TransformerConfig& t, Problems& problems) {
  const MoeConfig& m = t.moe;
  const MoeConfig defaults;
  const auto unset = [&](const char* field, bool is_default) {
    problems.expect(is_default, "Expected num_moe_experts with {}, but got none; leave {} out",
                    field, field);
  };
  problems.expect(t.expert_model_parallel_size == 1,
                  "Expected num_moe_experts with expert_model_parallel_size {}, but got none; an "
                  "expert_model_parallel_size of 1 works for a dense model",
                  t.expert_model_parallel_size);
  unset("expert_tensor_parallel_size", !m.expert_tensor_parallel_size);
  unset("moe_layer_freq", m.moe_layer_freq == defaults.moe_layer_freq);
  unset("moe_ffn_hidden_size", !m.moe_ffn_hidden_size);
  unset("moe_shared_expert_intermediate_size", !m.moe_shared_expert_intermediate_size);
  unset("moe_shared_expert_gate", !m.moe_shared_expert_gate);
  unset("moe_shared_expert_overlap", !m.moe_shared_expert_overlap);
  unset("moe_router_topk", m.moe_router_topk == defaults.moe_router_topk);
  unset("moe_router_pre_softmax", !m.moe_router_pre_softmax);
  unset("moe_router_topk_scaling_factor", !m.moe_router_topk_scaling_factor);
  unset("moe_router_score_function",
        m.moe_router_score_function == defaults.moe_router_score_function);
  unset("moe_router_dtype", !m.moe_router_dtype);
  unset("moe_router_num_groups", !m.moe_router_num_groups);
  unset("moe_router_group_topk", !m.moe_router_group_topk);
  unset("moe_router_enable_expert_bias", !m.moe_router_enable_expert_bias);
  unset("moe_router_bias_update_rate",
        m.moe_router_bias_update_rate == defaults.moe_router_bias_update_rate);
  unset("moe_router_force_load_balancing", !m.moe_router_force_load_balancing);
  unset("moe_input_jitter_eps", !m.moe_input_jitter_eps);
  unset("moe_router_padding_for_quantization", !m.moe_router_padding_for_quantization);
  unset("moe_router_load_balancing_type",
        m.moe_router_load_balancing_type == defaults.moe_router_load_balancing_type ||
            m.moe_router_load_balancing_type == std::vector<std::string>{"none"});
  unset("moe_aux_loss_coeff",
        std::ranges::all_of(m.moe_aux_loss_coeff, [](double coeff) { return coeff == 0; }));
  unset("moe_z_loss_coeff", !m.moe_z_loss_coeff);
  unset("moe_token_dispatcher_type",
        m.moe_token_dispatcher_type == defaults.moe_token_dispatcher_type);
  unset("moe_expert_capacity_factor", !m.moe_expert_capacity_factor);
  unset("moe_pad_expert_input_to_capacity", !m.moe_pad_expert_input_to_capacity);
  unset("moe_token_drop_policy", m.moe_token_drop_policy == defaults.moe_token_drop_policy);
  unset("moe_grouped_gemm", !m.moe_grouped_gemm);
  unset("moe_apply_probs_on_input", !m.moe_apply_probs_on_input);
  unset("moe_use_upcycling", !m.moe_use_upcycling);
  unset("moe_upcycling_granularity", m.moe_upcycling_granularity == 1);
  unset("moe_router_record", m.moe_router_record.empty());
  unset("moe_router_replay", m.moe_router_replay.empty());
  unset("overlap_moe_expert_parallel_comm", !m.overlap_moe_expert_parallel_comm);
  unset("delay_wgrad_compute", !m.delay_wgrad_compute);
}

void check_layer_freq(const TransformerConfig& t, Problems& problems) {
  const std::vector<int64_t>& freq = t.moe.moe_layer_freq;
  if (freq.size() == 1) {
    problems.expect(freq[0] >= 1,
                    "Expected moe_layer_freq of at least 1, but got {}; 1 puts "
                    "experts into every layer",
                    freq[0]);
    return;
  }
  problems.expect(std::ssize(freq) == t.num_layers,
                  "Expected moe_layer_freq with one entry for each of the {} layers, but got {}; a "
                  "number N, for every Nth layer, works too",
                  t.num_layers, freq.size());
  problems.expect(std::ranges::all_of(freq, [](int64_t entry) { return entry == 0 || entry == 1; }),
                  "Expected moe_layer_freq of 0 (dense) or 1 (experts) for each layer, but got {}",
                  fmt::join(freq, ","));
}

void check_choice(const MoeConfig& m, int64_t experts, Problems& problems) {
  const int64_t k = m.moe_router_topk;
  problems.expect(k >= 1 && k <= experts,
                  "Expected moe_router_topk of 1 to the {} experts, but got {}; {} works", experts,
                  k, std::clamp<int64_t>(k, 1, experts));
  const bool softmax = m.moe_router_score_function == MoeRouterScoreFunction::softmax;
  const bool sinkhorn = m.balances_by("sinkhorn");
  problems.expect(softmax || !m.moe_router_pre_softmax,
                  "Expected moe_router_score_function softmax with moe_router_pre_softmax, but got "
                  "{}; leave one out",
                  enum_name(m.moe_router_score_function));
  problems.expect(
      !softmax || sinkhorn || m.moe_router_pre_softmax || k != 1,
      "Expected moe_router_pre_softmax with moe_router_topk 1, but got none: the softmax "
      "of one chosen expert is constant");
  problems.expect(!sinkhorn || softmax,
                  "Expected moe_router_score_function softmax with sinkhorn, but got {}",
                  enum_name(m.moe_router_score_function));
  problems.expect(
      !sinkhorn || !(m.moe_router_pre_softmax || m.moe_router_num_groups ||
                     m.moe_router_topk_scaling_factor || m.moe_router_enable_expert_bias),
      "Expected none of moe_router_pre_softmax, moe_router_num_groups, "
      "moe_router_topk_scaling_factor and moe_router_enable_expert_bias with sinkhorn, "
      "but got one; aux_loss works with them");
  problems.expect(
      m.moe_router_enable_expert_bias ||
          m.moe_router_bias_update_rate == MoeConfig().moe_router_bias_update_rate,
      "Expected moe_router_enable_expert_bias with moe_router_bias_update_rate, but got "
      "none; leave one out");
  problems.expect(m.moe_router_dtype.value_or(at::kFloat) == at::kFloat ||
                      m.moe_router_dtype.value_or(at::kFloat) == at::kDouble,
                  "Expected moe_router_dtype fp32 or fp64, but got {}",
                  dtype_name(m.moe_router_dtype.value_or(at::kFloat)));
  const double jitter = m.moe_input_jitter_eps.value_or(0);
  problems.expect(jitter >= 0 && jitter < 1,
                  "Expected moe_input_jitter_eps of at least 0 and below 1, but got {}; 0.01 is "
                  "usual",
                  jitter);
}

void check_groups(const MoeConfig& m, int64_t experts, Problems& problems) {
  problems.expect(m.moe_router_num_groups.has_value() == m.moe_router_group_topk.has_value(),
                  "Expected both moe_router_num_groups and moe_router_group_topk, or neither, but "
                  "got one of them");
  if (!m.moe_router_num_groups || !m.moe_router_group_topk) return;
  const int64_t groups = *m.moe_router_num_groups, chosen = *m.moe_router_group_topk;
  if (!problems.is_size("moe_router_num_groups", groups) ||
      !problems.is_size("moe_router_group_topk", chosen))
    return;
  problems.expect(
      experts % groups == 0,
      "Expected moe_router_num_groups that divides the {} experts, but got {}; {} would "
      "work",
      experts, groups, nearest_divisors(experts, groups));
  problems.expect(chosen <= groups,
                  "Expected moe_router_group_topk of at most the {} groups, but got {}", groups,
                  chosen);
  problems.expect(
      m.moe_router_topk % chosen == 0,
      "Expected moe_router_group_topk that divides moe_router_topk ({}), but got {}; {} "
      "would work",
      m.moe_router_topk, chosen, nearest_divisors(m.moe_router_topk, chosen));
  problems.expect(experts % groups != 0 || m.moe_router_topk <= chosen * (experts / groups),
                  "Expected moe_router_topk of at most the {} experts of {} groups, but got {}",
                  chosen * (experts / groups), chosen, m.moe_router_topk);
}

void check_balancing(const MoeConfig& m, Problems& problems) {
  const std::vector<std::string>& types = m.moe_router_load_balancing_type;
  for (const std::string& type : types) {
    const bool known = type == "aux_loss" || type == "seq_aux_loss" || type == "global_aux_loss" ||
                       type == "sinkhorn" || type == "none";
    problems.expect(known,
                    "Expected moe_router_load_balancing_type aux_loss, seq_aux_loss, "
                    "global_aux_loss, sinkhorn or none, but got '{}'",
                    type);
  }
  problems.expect(
      !types.empty() && std::set<std::string>(types.begin(), types.end()).size() == types.size(),
      "Expected different values of moe_router_load_balancing_type, but got '{}'",
      fmt::join(types, " "));
  const bool alone = m.balances_by("sinkhorn") || m.balances_by("none");
  problems.expect(
      !alone || types.size() == 1,
      "Expected sinkhorn or none to be the only moe_router_load_balancing_type, but got "
      "'{}'",
      fmt::join(types, " "));
  const std::vector<double>& coeffs = m.moe_aux_loss_coeff;
  problems.expect(coeffs.size() == 1 || coeffs.size() == types.size(),
                  "Expected one moe_aux_loss_coeff, or one for each of the {} values of "
                  "moe_router_load_balancing_type, but got {}",
                  types.size(), coeffs.size());
  problems.expect(std::ranges::all_of(coeffs, [](double coeff) { return coeff >= 0; }),
                  "Expected moe_aux_loss_coeff of at least 0, but got {}; 0.01 is usual",
                  fmt::join(coeffs, ","));
  problems.expect(!alone || std::ranges::all_of(coeffs, [](double coeff) { return coeff == 0; }),
                  "Expected moe_aux_loss_coeff 0 with moe_router_load_balancing_type {}, which has "
                  "no loss, but got {}",
                  types.empty() ? "" : types[0], fmt::join(coeffs, ","));
  problems.expect(m.moe_z_loss_coeff.value_or(0) >= 0,
                  "Expected moe_z_loss_coeff of at least 0, but got {}; 0.001 is usual",
                  m.moe_z_loss_coeff.value_or(0));
}

// The counts of global_aux_loss grow with each pass of a router. A layer that all depths share would
// count the depths of a micro-batch in another order than the ranks of a layout do.
void check_repeated_layer(const TransformerConfig& t, Problems& problems) {
  problems.expect(
      !t.mtp.mtp_use_repeated_layer || !t.moe.balances_by("global_aux_loss"),
      "Expected moe_router_load_balancing_type aux_loss, seq_aux_loss, sinkhorn or none "
      "with mtp_use_repeated_layer, but got global_aux_loss; or leave "
      "mtp_use_repeated_layer out");
}

void check_dispatch(const TransformerConfig& t, Problems& problems) {
  const MoeConfig& m = t.moe;
  const bool drops = m.moe_expert_capacity_factor.has_value();
  problems.expect(
      !drops || *m.moe_expert_capacity_factor > 0,
      "Expected moe_expert_capacity_factor above 0, but got {}; 1 is usual, and without "
      "it no token is dropped",
      m.moe_expert_capacity_factor.value_or(1));
  problems.expect(!drops || !m.balances_by("sinkhorn"),
                  "Expected moe_router_load_balancing_type aux_loss, seq_aux_loss, global_aux_loss "
                  "or none with moe_expert_capacity_factor, but got sinkhorn, whose router has no "
                  "capacity");
  problems.expect(drops || !m.moe_pad_expert_input_to_capacity,
                  "Expected moe_expert_capacity_factor with moe_pad_expert_input_to_capacity, but "
                  "got none; 1 works");
  problems.expect(drops || m.moe_token_drop_policy == MoeTokenDropPolicy::probs,
                  "Expected moe_expert_capacity_factor with moe_token_drop_policy, but got none; "
                  "leave one out");
  const int64_t multiple = m.moe_router_padding_for_quantization.value_or(16);
  problems.expect(multiple == 16 || multiple == 32 || multiple == 128,
                  "Expected moe_router_padding_for_quantization 16, 32 or 128, but got {}",
                  multiple);
  problems.expect(!m.moe_apply_probs_on_input || m.moe_router_topk == 1,
                  "Expected moe_router_topk 1 with moe_apply_probs_on_input, but got {}; leave one "
                  "out",
                  m.moe_router_topk);
  problems.expect(!t.pipeline.variable_seq_lengths ||
                      m.moe_token_dispatcher_type == MoeTokenDispatcherType::alltoall,
                  "Expected moe_token_dispatcher_type alltoall with variable_seq_lengths, but got "
                  "allgather, which gathers equal numbers of tokens");
}

void check_shared_experts(const TransformerConfig& t, Problems& problems) {
  const MoeConfig& m = t.moe;
  const bool shared = m.moe_shared_expert_intermediate_size.has_value();
  problems.expect(shared || !m.moe_shared_expert_gate,
                  "Expected moe_shared_expert_intermediate_size with moe_shared_expert_gate, but "
                  "got none");
  problems.expect(
      shared || !m.moe_shared_expert_overlap,
      "Expected moe_shared_expert_intermediate_size with moe_shared_expert_overlap, but "
      "got none");
  problems.expect(!m.moe_shared_expert_overlap ||
                      m.moe_token_dispatcher_type == MoeTokenDispatcherType::alltoall,
                  "Expected moe_token_dispatcher_type alltoall with moe_shared_expert_overlap, but "
                  "got allgather");
  problems.expect(
      !m.moe_shared_expert_overlap || !t.recompute.selects("moe"),
      "Expected recompute_modules without moe with moe_shared_expert_overlap, but got it; "
      "leave one out");
  if (!shared) return;
  const int64_t width = *m.moe_shared_expert_intermediate_size, tp = t.tensor_model_parallel_size;
  if (!problems.is_size("moe_shared_expert_intermediate_size", width)) return;
  problems.expect(width % tp == 0,
                  "Expected moe_shared_expert_intermediate_size divisible by the tensor parallel "
                  "size ({}), but got {}; {} would work",
                  tp, width, nearest_multiples(tp, width));
}

// Combined 1F1B divides the pass of a layer at its all-to-alls.
void check_combined_schedule(const TransformerConfig& t, Problems& problems) {
  const MoeConfig& m = t.moe;
  problems.expect(!m.delay_wgrad_compute || m.overlap_moe_expert_parallel_comm,
                  "Expected overlap_moe_expert_parallel_comm with delay_wgrad_compute, but got "
                  "none; give both or neither");
  if (!m.overlap_moe_expert_parallel_comm) return;
  problems.expect(t.expert_model_parallel_size > 1 &&
                      m.moe_token_dispatcher_type == MoeTokenDispatcherType::alltoall,
                  "Expected expert_model_parallel_size above 1 and moe_token_dispatcher_type "
                  "alltoall with overlap_moe_expert_parallel_comm, which overlaps the all-to-all, "
                  "but got {} and {}",
                  t.expert_model_parallel_size, enum_name(m.moe_token_dispatcher_type));
  problems.expect(
      t.recompute.recompute_granularity != RecomputeGranularity::full &&
          !t.recompute.selects("moe"),
      "Expected recompute_granularity selective without the module moe, or none, with "
      "overlap_moe_expert_parallel_comm, but got another; layernorm, moe_act and shared_experts "
      "work");
  problems.expect(!m.moe_shared_expert_overlap,
                  "Expected no moe_shared_expert_overlap with overlap_moe_expert_parallel_comm, "
                  "but got it; leave one out");
  problems.expect(!t.use_parallel_residual,
                  "Expected no use_parallel_residual with overlap_moe_expert_parallel_comm, but "
                  "got it; leave one out");
}

void check_upcycling(const TransformerConfig& t, int64_t experts, Problems& problems) {
  const MoeConfig& m = t.moe;
  const int64_t slices = m.moe_upcycling_granularity;
  problems.expect(m.moe_use_upcycling || slices == 1,
                  "Expected moe_use_upcycling with moe_upcycling_granularity, but got none");
  if (!m.moe_use_upcycling || !problems.is_size("moe_upcycling_granularity", slices)) return;
  problems.expect(t.ffn_size() == slices * t.moe_ffn_size(),
                  "Expected moe_ffn_hidden_size x moe_upcycling_granularity ({}) to be "
                  "ffn_hidden_size ({}), but got {}; a moe_ffn_hidden_size of {} works",
                  slices, t.ffn_size(), t.moe_ffn_size(), t.ffn_size() / slices);
  problems.expect(experts % slices == 0 && m.moe_router_topk % slices == 0,
                  "Expected moe_upcycling_granularity that divides num_moe_experts ({}) and "
                  "moe_router_topk ({}), but got {}",
                  experts, m.moe_router_topk, slices);
  const bool sums_to_one =
      !m.moe_router_pre_softmax && !m.balances_by("sinkhorn") && m.moe_router_topk > 1;
  problems.expect(
      sums_to_one && !m.moe_router_num_groups,
      "Expected a router whose probabilities sum to one with moe_use_upcycling, but got "
      "moe_router_topk 1, moe_router_pre_softmax, groups or sinkhorn; moe_router_topk 2 "
      "without them works");
  problems.expect(
      !m.moe_shared_expert_intermediate_size && !t.add_bias_linear,
      "Expected no shared experts and add_bias_linear=false with moe_use_upcycling, but "
      "got one of them");
}

void check_expert_layout(const TransformerConfig& t, int64_t experts, Problems& problems) {
  if (!problems.is_size("expert_model_parallel_size", t.expert_model_parallel_size) ||
      !problems.is_size("expert_tensor_parallel_size", t.expert_tensor_parallel()) ||
      !problems.is_size("moe_ffn_hidden_size", t.moe_ffn_size()))
    return;
  const int64_t ep = t.expert_model_parallel_size, etp = t.expert_tensor_parallel();
  problems.expect(experts % ep == 0,
                  "Expected expert_model_parallel_size that divides the {} experts, but got {}; {} "
                  "would work",
                  experts, ep, nearest_divisors(experts, ep));
  problems.expect(t.moe_ffn_size() % etp == 0,
                  "Expected {} divisible by the expert tensor parallel size ({}), but got {}; {} "
                  "would work",
                  t.moe.moe_ffn_hidden_size ? "moe_ffn_hidden_size" : "ffn_hidden_size", etp,
                  t.moe_ffn_size(), nearest_multiples(etp, t.moe_ffn_size()));
}

}  // namespace

void check_experts(const GPTModelConfig& config, Problems& problems) {
  const TransformerConfig& t = config.transformer;
  if (!t.moe.has_experts()) return check_dense(t, problems);
  const int64_t experts = *t.moe.num_moe_experts;
  if (!problems.is_size("num_moe_experts", experts)) return;
  check_layer_freq(t, problems);
  check_choice(t.moe, experts, problems);
  check_groups(t.moe, experts, problems);
  check_repeated_layer(t, problems);
  check_balancing(t.moe, problems);
  check_dispatch(t, problems);
  check_shared_experts(t, problems);
  check_expert_layout(t, experts, problems);
  check_upcycling(t, experts, problems);
  check_combined_schedule(t, problems);
}

}  // namespace megatron
