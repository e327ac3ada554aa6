#include "megatron/reporting/evaluation_progress.h"

#include <fmt/format.h>

#include "megatron/reporting/step_line.h"

namespace megatron {

std::string evaluation_progress_line(const EvaluationProgress& progress) {
  const double left =
      progress.seconds * double(progress.batches - progress.done) / double(progress.done);
  return fmt::format("evaluating on the {} split: batch {}/{} | {} left", progress.split,
                     progress.done, progress.batches, duration_text(left));
}

bool EvaluationLines::due(const EvaluationProgress& progress) {
  if (progress.done >= progress.batches) {
    next_ = 2;
    return false;
  }
  if (progress.done == 1) next_ = 2;
  if (progress.seconds < next_) return false;
  next_ = progress.seconds + 10;
  return true;
}

}  // namespace megatron
