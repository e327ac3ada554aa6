#include "megatron/training/low_precision_step.h"

#include <ATen/ATen.h>

#include "megatron/config/model/enum_names.h"
#include "megatron/tensor_parallel/parallel_linear.h"

namespace megatron {

LowPrecisionStep::LowPrecisionStep(const GPTModelChunks& chunks,
                                   const ProcessGroupCollection& groups)
    : groups_(groups) {
  const LowPrecisionConfig& config = chunks.front()->config().transformer.low_precision;
  if (config.is_used()) recipe_ = enum_name(config.fp8_recipe);
  for (const auto& chunk : chunks) {
    for (const auto& module : chunk->descendants()) {
      const auto* layer = dynamic_cast<const QuantizableLayer*>(module.get());
      if (layer != nullptr && layer->quantizer()) quantizers_.push_back(layer->quantizer());
    }
  }
}

void LowPrecisionStep::begin() {
  for (const auto& quantizer : quantizers_) quantizer->begin_step();
}

std::optional<LowPrecisionRecord> LowPrecisionStep::end() {
  if (recipe_.empty()) return std::nullopt;
  const auto layers = static_cast<int64_t>(quantizers_.size());
  at::Tensor amax = at::zeros({layers, 3}, at::kFloat), totals = at::zeros({3}, at::kDouble);
  for (int64_t i = 0; i < layers; ++i) {
    for (int64_t operand = 0; operand < 3; ++operand)
      amax[i][operand] = quantizers_[i]->recorded_amax()[operand];
    const QuantizationTotals& mine = quantizers_[i]->totals();
    totals += at::tensor({double(mine.elements), double(mine.saturated), double(mine.underflowed)},
                         at::kDouble);
  }
  // The ranks that hold the same layers: other shards of their weights, or other tokens.
  if (layers > 0) {
    groups_.tp->all_reduce(amax, ReduceOp::max);
    groups_.dp_cp->all_reduce(amax, ReduceOp::max);
  }
  const auto largest = amax.accessor<float, 2>();
  for (int64_t i = 0; i < layers; ++i)
    quantizers_[i]->end_step({largest[i][0], largest[i][1], largest[i][2]});
  groups_.world->all_reduce(totals);
  return LowPrecisionRecord{.recipe = recipe_,
                            .elements = totals[0].item<double>(),
                            .saturated = totals[1].item<double>(),
                            .underflowed = totals[2].item<double>()};
}

}  // namespace megatron
