// Trains a model for two steps in one rank and in parallel layouts, and compares every number.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "megatron/verify/layout_name.h"
#include "megatron/verify/training_trace.h"

namespace megatron {

inline constexpr int64_t kVerificationSteps = 2;
inline constexpr int64_t kVerificationRows = 2;          // of a micro-batch
inline constexpr int64_t kVerificationMicrobatches = 8;  // of a step, or the next multiple of DP

// The options of a run in a layout, validated. Throws Error that says what does not fit.
Options options_in_layout(const Options& model, const NamedLayout& layout);

// The layouts of up to 8 ranks that fit the model, of a list that covers every kind of parallelism.
std::vector<NamedLayout> default_layouts(const Options& model);

struct LayoutResult {
  std::string layout;
  int ranks = 1;
  TraceDifferences differences;
  std::string error;  // where a rank threw instead
  double seconds = 0;

  bool holds(double bound) const { return error.empty() && differences.largest() <= bound; }
};

// Deterministic in the model and its --seed, from which weights, dropout and tokens are drawn. Loss
// masks are uneven: a micro-batch counts a fifth to all of its tokens, one none, one only some at
// the beginning of its rows.
class LayoutVerification {
 public:
  // A model from complete_verification_model, in fp64.
  explicit LayoutVerification(Options model);

  // Called by each layout's ranks in every step: see TraceInputs::after_backward.
  std::function<void(const RankContext&, int64_t, TrainStep&)> after_backward;

  // Throws Error where the layout does not fit the model.
  LayoutResult verify(const NamedLayout& layout);

  // One rank's trace for a step of that many micro-batches, made at first use. Throws Error where a
  // loss is not a number.
  const TrainingTrace& one_rank(int64_t microbatches);

  const Options& model() const { return model_; }

 private:
  TraceInputs inputs(int64_t microbatches) const;
  MicroBatch microbatch(int64_t microbatches, int64_t step, int64_t index) const;

  Options model_;
  std::map<int64_t, TrainingTrace> one_rank_;
};

}  // namespace megatron
