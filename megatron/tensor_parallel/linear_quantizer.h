// Quantization of one linear layer's operands in training: the recipe, the scales that its tensors
// share with other ranks, the codes of the weight within a step, and the amax history of delayed
// scaling.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>

#include "megatron/base/parameter.h"
#include "megatron/precision/quantized_product.h"
#include "megatron/precision/recipe.h"
#include "megatron/tensor_parallel/layer_options.h"

namespace megatron {

// Which dimension of the weight the tensor-parallel group partitions: output features (column), input
// features (row) or none.
enum class WeightPartition { column, row, none };

// Of all quantised operands of a layer in a step.
struct QuantizationTotals {
  int64_t elements = 0;
  int64_t saturated = 0;    // would have rounded beyond the format's largest value
  int64_t underflowed = 0;  // became 0 and were not
};

class LinearQuantizer {
 public:
  // The groups of `options` must outlive it. Throws Error on a device other than the CPU.
  LinearQuantizer(const LowPrecisionConfig& config, WeightPartition partition,
                  const LayerOptions& options);

  const LowPrecisionRecipe& recipe() const { return recipe_; }
  // Delayed scaling: fp32 [3, 1 + history], a row for each of input, weight and gradient: its scale
  // (0 before the first amax: 1), then the history. Null with other recipes.
  const ParameterPtr& state() const { return state_; }

  // Within a step the weight keeps its codes from its first use on. Outside of steps it is quantised
  // at each use.
  void begin_step();
  // The largest magnitudes of input, weight and gradient in the step, on this rank; 0 where there
  // were none. Delayed scaling only.
  const std::array<float, 3>& recorded_amax() const { return recorded_amax_; }
  // Drops the codes of the weight. With delayed scaling `amax` are recorded_amax() of all ranks.
  void end_step(const std::array<float, 3>& amax);
  // Of the step so far.
  const QuantizationTotals& totals() const { return totals_; }

  // An operand [m, k] of a product that sums over k: tokens by features, or its transpose where the
  // recipe has scales of blocks. With scales of whole tensors collective over the ranks that hold
  // other parts of the tensor.
  QuantizedTensor quantize(LinearOperand operand, const at::Tensor& matrix);

  // weight [o, i] as an operand of y = x w^T (sums over i), and of dx = dy w (sums over o): [i, o].
  ProductOperand weight_for_output(const at::Tensor& weight);
  ProductOperand weight_for_input_gradient(const at::Tensor& weight);

 private:
  // Codes of the weight, and of its transpose where the recipe quantises that by itself.
  const QuantizedTensor& weight_codes(const at::Tensor& weight);
  const QuantizedTensor& transposed_weight_codes(const at::Tensor& weight);
  std::optional<float> shared_amax(LinearOperand operand, const at::Tensor& matrix) const;
  float delayed_scale(LinearOperand operand) const;

  LowPrecisionConfig config_;
  LowPrecisionRecipe recipe_;
  WeightPartition partition_;
  ProcessGroupPtr tp_, cp_;
  bool sequence_parallel_;
  ParameterPtr state_;
  bool in_step_ = false;
  std::optional<QuantizedTensor> weight_, transposed_weight_;
  std::array<float, 3> recorded_amax_ = {};
  QuantizationTotals totals_;
};

// A quantizer as options.low_precision asks for; null without.
std::shared_ptr<LinearQuantizer> make_linear_quantizer(WeightPartition partition,
                                                       const LayerOptions& options);

}  // namespace megatron
