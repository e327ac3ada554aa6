#include "megatron/tensor_parallel/linear_quantizer.h"

#include <algorithm>
#include <cmath>

#include <ATen/ATen.h>

#include "megatron/base/error.h"
#include "megatron/precision/delayed_scaling.h"

namespace megatron {
namespace {

// Zero everywhere, also where weights stay uninitialized: nobody else may set it.
ParameterPtr make_state(int64_t history, const LayerOptions& options) {
  auto state = std::make_shared<Parameter>(std::vector<int64_t>{3, 1 + history},
                                           options.tensor.dtype(at::kFloat), options.sharding(),
                                           Initialization::constant(0));
  state->data.set_requires_grad(false);
  state->data.zero_();
  state->keep_fp32 = true;
  state->is_buffer = true;
  return state;
}

// Whether the codes of a weight's transpose are those of the weight, transposed: one scale, or square
// blocks.
bool has_square_blocks(const LowPrecisionRecipe& recipe) {
  return scales_per_tensor(recipe) || recipe.scaling != ScalingRecipe::mxfp8;
}

// Over the group; NaN counts as infinity, since both give the scale 1.
float largest_of_group(float amax, const ProcessGroup& group) {
  const at::Tensor value = at::full({1}, std::isnan(amax) ? INFINITY : amax, at::kFloat);
  group.all_reduce(value, ReduceOp::max);
  return value.item<float>();
}

}  // namespace

LinearQuantizer::LinearQuantizer(const LowPrecisionConfig& config, WeightPartition partition,
                                 const LayerOptions& options)
    : config_(config),
      recipe_(recipe_of(config)),
      partition_(partition),
      tp_(options.tp),
      cp_(options.cp),
      sequence_parallel_(options.sequence_parallel) {
  check(options.tensor.device().is_cpu() || options.tensor.device().is_meta(),
        "Expected a CPU with the FP8 recipe {}, but got {}; this version computes all FP8 recipes "
        "on CPUs and none on other devices",
        recipe_name(recipe_.scaling), options.tensor.device().str());
  if (recipe_.scaling == ScalingRecipe::delayed)
    state_ = make_state(config.fp8_amax_history_len, options);
}

void LinearQuantizer::begin_step() {
  in_step_ = true;
  weight_.reset();
  transposed_weight_.reset();
  recorded_amax_.fill(0);
  totals_ = {};
}

void LinearQuantizer::end_step(const std::array<float, 3>& amax) {
  in_step_ = false;
  weight_.reset();
  transposed_weight_.reset();
  if (!state_) return;
  for (int operand = 0; operand < 3; ++operand) {
    const bool gradient = operand == static_cast<int>(LinearOperand::gradient);
    DelayedScaling scaling({.format = gradient && recipe_.format == Fp8Format::hybrid
                                          ? LowPrecisionFormat::e5m2
                                          : LowPrecisionFormat::e4m3,
                            .amax_history_len = config_.fp8_amax_history_len,
                            .amax_compute_algo = config_.fp8_amax_compute_algo,
                            .margin = static_cast<int>(config_.fp8_margin)});
    float* const row = state_->data[operand].data_ptr<float>();
    scaling.restore(delayed_scale(static_cast<LinearOperand>(operand)),
                    {row + 1, row + 1 + config_.fp8_amax_history_len});
    scaling.update(amax[operand]);
    row[0] = scaling.scale();
    std::ranges::copy(scaling.amax_history(), row + 1);
  }
}

float LinearQuantizer::delayed_scale(LinearOperand operand) const {
  const float scale = state_->data[static_cast<int>(operand)].data_ptr<float>()[0];
  return scale == 0 ? 1.0f : scale;
}

std::optional<float> LinearQuantizer::shared_amax(LinearOperand operand,
                                                  const at::Tensor& matrix) const {
  if (recipe_.scaling != ScalingRecipe::tensorwise) return std::nullopt;
  const bool weight = operand == LinearOperand::weight;
  bool over_tp = weight;
  switch (partition_) {
    case WeightPartition::column:
      over_tp = operand != LinearOperand::input;
      break;
    case WeightPartition::row:
      over_tp = operand != LinearOperand::gradient;
      break;
    case WeightPartition::none:  // shards of the sequence
      over_tp = !weight && sequence_parallel_;
      break;
  }
  over_tp &= tp_->size() > 1;
  const bool over_cp = !weight && cp_ && cp_->size() > 1;
  if (!over_tp && !over_cp) return std::nullopt;
  float amax = absolute_max(matrix);
  if (over_tp) amax = largest_of_group(amax, *tp_);
  if (over_cp) amax = largest_of_group(amax, *cp_);
  return amax;
}

QuantizedTensor LinearQuantizer::quantize(LinearOperand operand, const at::Tensor& matrix) {
  GivenScales given;
  if (recipe_.scaling == ScalingRecipe::delayed) {
    given.scale = delayed_scale(operand);
    float& largest = recorded_amax_[static_cast<size_t>(operand)];
    largest = std::fmax(largest, absolute_max(matrix));  // without NaN
  } else {
    given.amax = shared_amax(operand, matrix);
  }
  QuantizedTensor result = quantize_operand(recipe_, operand, matrix, given);
  totals_.elements += matrix.numel();
  totals_.saturated += result.saturated;
  totals_.underflowed += result.underflowed;
  return result;
}

const QuantizedTensor& LinearQuantizer::weight_codes(const at::Tensor& weight) {
  if (!weight_ || !in_step_) weight_ = quantize(LinearOperand::weight, weight);
  return *weight_;
}

const QuantizedTensor& LinearQuantizer::transposed_weight_codes(const at::Tensor& weight) {
  if (!transposed_weight_ || !in_step_)
    transposed_weight_ = quantize(LinearOperand::weight, weight.t());
  return *transposed_weight_;
}

ProductOperand LinearQuantizer::weight_for_output(const at::Tensor& weight) {
  return ProductOperand(weight_codes(weight));
}

ProductOperand LinearQuantizer::weight_for_input_gradient(const at::Tensor& weight) {
  if (has_square_blocks(recipe_)) return ProductOperand(weight_codes(weight), /*transposed=*/true);
  return ProductOperand(transposed_weight_codes(weight));
}

std::shared_ptr<LinearQuantizer> make_linear_quantizer(WeightPartition partition,
                                                       const LayerOptions& options) {
  if (!options.low_precision) return nullptr;
  return std::make_shared<LinearQuantizer>(*options.low_precision, partition, options);
}

}  // namespace megatron
