// Ranges of a trace (libtorch's profiler) that end elsewhere than they began. What begins and ends
// in one block has RECORD_USER_SCOPE.
#pragma once

#include <memory>
#include <utility>

#include <ATen/record_function.h>

namespace megatron {

// Ends the range when it goes.
using TraceRange = std::unique_ptr<at::RecordFunction>;

inline bool trace_is_recorded() {
  return at::getStepCallbacksUnlessEmpty(at::RecordScope::USER_SCOPE).has_value();
}

// Begins a range called name(). Null, without a call of `name`, where nothing records.
template <typename Name>
TraceRange begin_trace_range(const Name& name) {
  auto callbacks = at::getStepCallbacksUnlessEmpty(at::RecordScope::USER_SCOPE);
  if (!callbacks) return nullptr;
  auto range = std::make_unique<at::RecordFunction>(std::move(*callbacks));
  range->_setAsync();
  range->before(name());
  return range;
}

}  // namespace megatron
