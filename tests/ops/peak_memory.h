// Counts the bytes of the CPU tensors that a body allocates, through libtorch's own hook: the same
// on every machine. Scratch memory inside its GEMMs does not pass there.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>

#include <c10/core/Allocator.h>
#include <c10/util/ThreadLocalDebugInfo.h>

namespace megatron::test {

class MemoryCounter final : public c10::MemoryReportingInfoBase {
 public:
  void reportMemoryUsage(void*, int64_t size, size_t, size_t, c10::Device) override {
    current_ += size;  // below 0 where memory is freed
    peak_ = std::max(peak_, current_);
  }
  bool memoryProfilingEnabled() const override { return true; }
  int64_t peak() const { return peak_; }

 private:
  int64_t current_ = 0;
  int64_t peak_ = 0;
};

// The most bytes that tensors allocated within `body` held at once. What was there before does not
// count, nor what other threads allocate.
template <typename Body>
int64_t peak_bytes(const Body& body) {
  const auto counter = std::make_shared<MemoryCounter>();
  const c10::DebugInfoGuard guard(c10::DebugInfoKind::PROFILER_STATE, counter);
  body();
  return counter->peak();
}

}  // namespace megatron::test
