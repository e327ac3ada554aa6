#include "megatron/ops/decode/page_buffer.h"

#include <algorithm>
#include <sys/mman.h>

#include "megatron/base/error.h"
#include "megatron/base/integer_math.h"

namespace megatron {
namespace {

constexpr int64_t kHugePage = 2 << 20;

}  // namespace

PageBuffer::PageBuffer(int64_t bytes) : bytes_(bytes) {
  const int64_t size = round_up(std::max<int64_t>(bytes, 1), kHugePage);
  void* data = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  check(data != MAP_FAILED, "Expected {} MiB of memory, but the system refused", size >> 20);
#if defined(MADV_HUGEPAGE)
  madvise(data, size, MADV_HUGEPAGE);  // a wish: fewer address translations per byte read
#endif
  data_ = {data, Unmap{size}};
}

void PageBuffer::Unmap::operator()(void* data) const {
  munmap(data, bytes);
}

}  // namespace megatron
