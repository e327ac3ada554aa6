#include "megatron/transformer/layer_backward_range.h"

#include <fmt/format.h>

#include "megatron/base/trace_range.h"

namespace megatron {

void trace_layer_backward(int64_t layer_number, const at::Tensor& input, const at::Tensor& output) {
  if (!trace_is_recorded() || !input.requires_grad() || !output.requires_grad()) return;
  const auto range = std::make_shared<TraceRange>();
  output.register_hook([range, layer_number](const at::Tensor&) {
    *range =
        begin_trace_range([&] { return fmt::format("{}{}", kLayerBackwardRange, layer_number); });
  });
  input.register_hook([range](const at::Tensor&) { range->reset(); });
}

}  // namespace megatron
