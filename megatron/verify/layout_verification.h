// Trains a model for two steps on one rank and in parallel layouts, and compares all results.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "megatron/verify/layout_name.h"
#include "megatron/verify/training_trace.h"

namespace megatron {

inline constexpr int64_t kVerificationSteps = 2;
inline constexpr int64_t kVerificationRows = 2;          // rows per micro-batch
inline constexpr int64_t kVerificationMicrobatches = 8;  // per step; rounded up to a multiple of DP

// The validated options of a run in a layout. Throws Error with the reason if it does not fit.
Options options_in_layout(const Options& model, const NamedLayout& layout);

// Layouts of up to 8 ranks that fit the model, from a list that covers every kind of parallelism.
std::vector<NamedLayout> default_layouts(const Options& model);

struct LayoutResult {
  std::string layout;
  int ranks = 1;
  TraceDifferences differences;
  std::string error;  // set if a rank threw
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

  // Called on the ranks of each layout in every step; see TraceInputs::after_backward.
  std::function<void(const RankContext&, int64_t, TrainStep&)> after_backward;

  // Throws Error if the layout does not fit the model.
  LayoutResult verify(const NamedLayout& layout);

  // The trace of one rank with that many micro-batches per step, recorded at first use. Throws
  // Error if a loss is not finite.
  const TrainingTrace& one_rank(int64_t microbatches);

  const Options& model() const { return model_; }

 private:
  TraceInputs inputs(int64_t microbatches) const;
  MicroBatch microbatch(int64_t microbatches, int64_t step, int64_t index) const;

  Options model_;
  std::map<int64_t, TrainingTrace> one_rank_;
};

}  // namespace megatron
