// Steps of a model that spans several ranks: one rank schedules, and the others run what it says.
#pragma once

#include "megatron/inference/model_runner.h"
#include "megatron/parallel/process_group_collection.h"

namespace megatron {

// The ranks that run the same steps, and the copies of the model that share out the requests.
struct StepRanks {
  ProcessGroupPtr group;  // its first rank schedules
  int replicas = 1;       // groups like this one
  int replica = 0;        // the number of this one
  bool schedules() const { return group->is_first(); }
};

// Without experts, or with whole experts on every rank, each data-parallel rank is a copy of the
// model of its own. With expert parallelism all ranks exchange tokens in every layer, so they all
// run the same steps.
StepRanks step_ranks(const ProcessGroupCollection& groups);

// The scheduling rank calls forward(); every other rank calls serve(), which returns after the first
// has called stop(). `local` runs the rows on each rank and must outlive it.
class DistributedRunner : public ModelRunner {
 public:
  // Collective over `ranks.group`.
  DistributedRunner(ModelRunner& local, const StepRanks& ranks,
                    const ProcessGroupCollection& groups);

  at::Tensor forward(std::span<const StepRow> rows) override;
  void copy_block(int64_t from, int64_t to) override;
  int64_t block_size() const override { return local_.block_size(); }
  int64_t num_blocks() const override { return local_.num_blocks(); }
  int64_t vocab_size() const override { return local_.vocab_size(); }

  void serve();
  void stop();

 private:
  void broadcast(std::vector<int64_t>& message) const;
  at::Tensor run(std::span<const StepRow> rows);

  ModelRunner& local_;
  ProcessGroupPtr group_;
  int logits_rank_ = 0;  // in the group: a rank of the last pipeline stage
};

}  // namespace megatron
