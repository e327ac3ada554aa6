// Dense parameters and experts of one model chunk: each have a strategy of their own, over the ranks
// that hold copies of them.
#pragma once

#include "megatron/data_parallel/data_parallel_strategy.h"

namespace megatron {

class CombinedStrategy final : public DataParallelStrategy {
 public:
  CombinedStrategy(std::unique_ptr<DataParallelStrategy> dense,
                   std::unique_ptr<DataParallelStrategy> experts);

  bool is_sharded() const override { return dense_->is_sharded(); }
  // Those of the dense parameters, then those of the experts.
  const std::vector<ParameterSlice>& owned_slices() const override { return slices_; }

  void zero_gradients() override;
  void start_last_backward() override;
  void finish_gradients() override;
  void unshard_gradients() override;
  void slices_updated(size_t count) override;
  void finish_update() override;
  void wait_for_parameters() override;
  void unshard_parameters() override;
  void reshard_parameters() override;

 private:
  std::unique_ptr<DataParallelStrategy> dense_, experts_;
  std::vector<ParameterSlice> slices_;
};

}  // namespace megatron
