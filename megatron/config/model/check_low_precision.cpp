// Checks of FP8.
#include "megatron/base/problems.h"
#include "megatron/config/model/enum_names.h"
#include "megatron/config/model/model_checks.h"

namespace megatron {
namespace {

void check_values(const TransformerConfig& t, Problems& problems) {
  const LowPrecisionConfig& c = t.low_precision;
  const bool per_tensor =
      c.fp8_recipe == Fp8Recipe::delayed || c.fp8_recipe == Fp8Recipe::tensorwise;
  problems.expect(
      per_tensor || c.fp8 == Fp8Format::e4m3,
      "Expected fp8=e4m3 with fp8_recipe={}, which has e4m3 in both directions, but got "
      "hybrid; delayed and tensorwise have it",
      enum_name(c.fp8_recipe));
  problems.expect(c.fp8_margin >= -16 && c.fp8_margin <= 16,
                  "Expected fp8_margin from -16 to 16, but got {}; 0 is usual", c.fp8_margin);
  problems.expect(c.fp8_amax_history_len >= 1 && c.fp8_amax_history_len <= 65536,
                  "Expected fp8_amax_history_len from 1 to 65536, but got {}; 1 and 1024 are usual",
                  c.fp8_amax_history_len);
  problems.expect(
      c.num_layers_at_start_in_bf16 >= 0 && c.num_layers_at_end_in_bf16 >= 0 &&
          c.num_layers_at_start_in_bf16 + c.num_layers_at_end_in_bf16 <= t.num_layers,
      "Expected num_layers_at_start_in_bf16 and num_layers_at_end_in_bf16 of at least 0 "
      "and together at most num_layers ({}), but got {} and {}",
      t.num_layers, c.num_layers_at_start_in_bf16, c.num_layers_at_end_in_bf16);
}

void check_combinations(const GPTModelConfig& config, Problems& problems) {
  const TransformerConfig& t = config.transformer;
  problems.expect(t.compute_dtype() != at::kDouble,
                  "Expected bf16, fp16 or fp32 with fp8, but got fp64; leave one out");
  problems.expect(
      !t.moe.has_experts(),
      "Expected no num_moe_experts with fp8, but got {}; the products of experts are in "
      "high precision only in this version: leave one out",
      t.moe.num_moe_experts.value_or(0));
  problems.expect(!t.tp_comm_overlap,
                  "Expected no tp_comm_overlap with fp8, but got it; its pieces would have scales "
                  "of their own: leave one out");
  problems.expect(!config.use_transformer_engine_op_fuser,
                  "Expected no use_transformer_engine_op_fuser with fp8, but got it; its single "
                  "operator is in high precision: leave one out");
  problems.expect(!t.low_precision.first_last_layers_bf16 || t.mtp.mtp_num_layers == 0,
                  "Expected no mtp_num_layers with first_last_layers_bf16, but got {}; MTP layers "
                  "are not counted among the layers: leave one out",
                  t.mtp.mtp_num_layers);
}

}  // namespace

void check_low_precision(const GPTModelConfig& config, Problems& problems) {
  if (!config.transformer.low_precision.is_used()) return;
  check_values(config.transformer, problems);
  check_combinations(config, problems);
}

}  // namespace megatron
