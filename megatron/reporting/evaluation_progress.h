// Shows the progress of an evaluation.
#pragma once

#include <string>

#include "megatron/reporting/run_records.h"

namespace megatron {

// "evaluating on the validation split: batch 37/100 | 0:25 left".
std::string evaluation_progress_line(const EvaluationProgress& progress);

// Selects the batches of an evaluation that get a line in a log that is not a terminal: the first
// after two seconds, then one every ten. A short evaluation has none.
class EvaluationLines {
 public:
  bool due(const EvaluationProgress& progress);

 private:
  double next_ = 2;  // seconds since the evaluation began
};

}  // namespace megatron
