// A few training steps of one model: recorded in one rank, then compared in a parallel layout.
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

// What the steps run on. Every function is called on each rank.
struct TraceInputs {
  int64_t steps = 2;
  int64_t gradient_steps = 2;  // gradients are recorded and compared in the first so many
  double learning_rate = 0;
  // Sets the initial weights: functions of a parameter's name and global place.
  std::function<void(const GPTModelChunks&)> initialize;
  // The micro-batches of a data-parallel rank for a step, and how ranks share a step's rows.
  std::function<std::vector<MicroBatch>(int64_t step, int data_parallel_rank,
                                        int data_parallel_size)>
      microbatches;
  BatchSharing sharing = BatchSharing::whole_microbatches;
  // Where set, called in each step once gradients are complete, before they are compared: tests
  // plant faults here.
  std::function<void(const RankContext& rank, int64_t step, TrainStep& train_step)> after_backward;
};

// Recorded in one rank, with tensors in global shapes by the parameter's name.
struct TrainingTrace {
  struct Weight {
    at::Tensor value;    // after the last step
    double moved = 0.0;  // largest distance of an element from its initial value
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
// - gradient: relative to the tensor's largest element, or to 1e-3 of the largest element of all
//   tensors where that is more: below it lies what cancellation leaves.
// - weight: after the last step, relative to the largest distance that the tensor has moved, with
//   the same floor.
// A value that is not a number counts as an infinite difference.
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

// Runs the steps in one rank, a thread of its own with `threads` compute threads.
TrainingTrace record_one_rank(const Options& options, const TraceInputs& inputs, int threads);

// Runs the steps in the layout of the options, `world_size` ranks as threads, and compares every
// rank's numbers with those of `one_rank`. Copies of a parameter on several ranks are all compared.
// Rethrows what a rank throws.
TraceDifferences compare_layout(const Options& options, int world_size, const TraceInputs& inputs,
                                const TrainingTrace& one_rank, int threads);

}  // namespace megatron
