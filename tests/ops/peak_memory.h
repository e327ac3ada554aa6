// Measures the memory of CPU tensors through libtorch's allocation hook, which gives the same
// numbers on every machine. Scratch memory inside libtorch's GEMMs is not included.
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
    current_ += size;  // negative when memory is freed
    peak_ = std::max(peak_, current_);
  }
  bool memoryProfilingEnabled() const override { return true; }
  int64_t peak() const { return peak_; }
  int64_t current() const { return current_; }

 private:
  int64_t current_ = 0;
  int64_t peak_ = 0;
};

// The peak number of bytes of the tensors that `body` allocates. Earlier allocations and those of
// other threads are not counted.
template <typename Body>
int64_t peak_bytes(const Body& body) {
  const auto counter = std::make_shared<MemoryCounter>();
  const c10::DebugInfoGuard guard(c10::DebugInfoKind::PROFILER_STATE, counter);
  body();
  return counter->peak();
}

// The number of bytes of the tensors that `body` allocates and that live as long as its result.
template <typename Body>
int64_t kept_bytes(const Body& body) {
  const auto counter = std::make_shared<MemoryCounter>();
  const c10::DebugInfoGuard guard(c10::DebugInfoKind::PROFILER_STATE, counter);
  [[maybe_unused]] const auto result = body();
  return counter->current();
}

}  // namespace megatron::test
