#include "megatron/ops/grouped/expert_rows.h"

#include "megatron/ops/core/dispatch.h"

namespace megatron {

ExpertRows::ExpertRows(const at::Tensor& counts, int64_t rows, std::string_view operation) {
  check_defined(counts, operation, "counts");
  check(counts.dim() == 1 && counts.numel() > 0 && counts.scalar_type() == at::kLong &&
            counts.is_cpu() && counts.is_contiguous(),
        "{}: Expected counts of shape [experts] as contiguous int64 on the CPU, but got [{}] of {} "
        "on {}",
        operation, fmt::join(counts.sizes(), ", "), c10::toString(counts.scalar_type()),
        counts.device().str());
  const auto* count = counts.const_data_ptr<int64_t>();
  offsets_.reserve(counts.numel() + 1);
  offsets_.push_back(0);
  for (int64_t expert = 0; expert < counts.numel(); ++expert) {
    check(count[expert] >= 0, "{}: Expected counts of at least 0, but got {} for expert {}",
          operation, count[expert], expert);
    offsets_.push_back(offsets_.back() + count[expert]);
  }
  check(offsets_.back() == rows, "{}: Expected counts that add up to {} rows, but got {}",
        operation, rows, offsets_.back());
}

}  // namespace megatron
