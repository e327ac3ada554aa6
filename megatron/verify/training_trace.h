// A few training steps of a model, recorded on one rank and compared with a parallel layout.
#pragma once

#include <array>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "megatron/parallel/rank_context.h"
#include "megatron/training/train_step.h"

namespace megatron {

// Inputs of the steps. All functions are called on every rank.
struct TraceInputs {
  int64_t steps = 2;
  int64_t gradient_steps = 2;  // the first steps, whose gradients are compared
  double learning_rate = 0;
  // Sets the initial weights, which must not depend on the layout.
  std::function<void(const GPTModelChunks&)> initialize;
  // The micro-batches of a data-parallel rank.
  std::function<std::vector<MicroBatch>(int64_t step, int data_parallel_rank,
                                        int data_parallel_size)>
      microbatches;
  BatchSharing sharing = BatchSharing::whole_microbatches;
  // Called in each step when gradients are complete, before the comparison. Tests plant faults
  // here.
  std::function<void(const RankContext& rank, int64_t step, TrainStep& train_step)> after_backward;
};

// The results of one rank. Tensors have global shapes and are keyed by parameter name.
struct TrainingTrace {
  struct Weight {
    at::Tensor value;    // after the last step
    double moved = 0.0;  // largest change of an element from its initial value
  };
  std::vector<TrainStep::Losses> losses;
  std::vector<double> grad_norms;
  std::vector<std::map<std::string, at::Tensor>> gradients;  // by step
  std::map<std::string, Weight> weights;
};

enum class TracedQuantity { loss, grad_norm, gradient, weight };
inline constexpr std::array kTracedQuantities = {TracedQuantity::loss, TracedQuantity::grad_norm,
                                                 TracedQuantity::gradient, TracedQuantity::weight};
std::string_view quantity_name(TracedQuantity quantity);  // "loss", "grad norm", ...

// The largest difference of each quantity over all steps, tensors and ranks.
// - loss: absolute, in nats; the objective and the MTP losses included.
// - grad norm: relative to the norm.
// - gradient: relative to the largest element of the tensor, or to 1e-3 of the largest element of
//   all tensors if that is larger: smaller gradients are dominated by cancellation.
// - weight: after the last step, relative to the largest change in the tensor, with the same floor.
// NaN counts as an infinite difference.
class TraceDifferences {
 public:
  struct Largest {
    double value = 0;
    std::string where;  // "decoder.layers.0.mlp.linear_fc1.weight, step 1, rank 3"
  };
  const Largest& operator[](TracedQuantity quantity) const {
    return largest_[static_cast<size_t>(quantity)];
  }
  double largest() const;
  TracedQuantity largest_quantity() const;

  void note(TracedQuantity quantity, double difference, const std::function<std::string()>& where);
  void merge(const TraceDifferences& other);

 private:
  std::array<Largest, kTracedQuantities.size()> largest_;
};

// Runs the steps on one rank with `threads` compute threads.
TrainingTrace record_one_rank(const Options& options, const TraceInputs& inputs, int threads);

// Runs the steps in the layout of the options, with `world_size` ranks as threads, and compares the
// results of every rank with `one_rank`, including all copies of a parameter. Rethrows the first
// exception of a rank.
TraceDifferences compare_layout(const Options& options, int world_size, const TraceInputs& inputs,
                                const TrainingTrace& one_rank, int threads);

}  // namespace megatron
