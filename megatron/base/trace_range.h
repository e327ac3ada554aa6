// Ranges of a profiler trace that begin and end in different scopes. Use RECORD_USER_SCOPE for a
// range within one scope.
#pragma once

#include <memory>
#include <utility>

#include <ATen/record_function.h>

namespace megatron {

// Ends the range on destruction.
using TraceRange = std::unique_ptr<at::RecordFunction>;

inline bool trace_is_recorded() {
  return at::getStepCallbacksUnlessEmpty(at::RecordScope::USER_SCOPE).has_value();
}

// Begins a range called name(). Returns null, without calling `name`, if no profiler is active.
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
