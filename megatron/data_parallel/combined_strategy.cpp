#include "megatron/data_parallel/combined_strategy.h"

#include <algorithm>

namespace megatron {

CombinedStrategy::CombinedStrategy(std::unique_ptr<DataParallelStrategy> dense,
                                   std::unique_ptr<DataParallelStrategy> experts)
    : dense_(std::move(dense)), experts_(std::move(experts)), slices_(dense_->owned_slices()) {
  const std::vector<ParameterSlice>& of_experts = experts_->owned_slices();
  slices_.insert(slices_.end(), of_experts.begin(), of_experts.end());
}

void CombinedStrategy::slices_updated(size_t count) {
  const size_t dense = std::min(count, dense_->owned_slices().size());
  dense_->slices_updated(dense);
  if (count > dense) experts_->slices_updated(count - dense);
}

void CombinedStrategy::zero_gradients() {
  dense_->zero_gradients();
  experts_->zero_gradients();
}

void CombinedStrategy::start_last_backward() {
  dense_->start_last_backward();
  experts_->start_last_backward();
}

void CombinedStrategy::finish_gradients() {
  dense_->finish_gradients();
  experts_->finish_gradients();
}

void CombinedStrategy::unshard_gradients() {
  dense_->unshard_gradients();
  experts_->unshard_gradients();
}

void CombinedStrategy::finish_update() {
  dense_->finish_update();
  experts_->finish_update();
}

void CombinedStrategy::wait_for_parameters() {
  dense_->wait_for_parameters();
  experts_->wait_for_parameters();
}

void CombinedStrategy::unshard_parameters() {
  dense_->unshard_parameters();
  experts_->unshard_parameters();
}

void CombinedStrategy::reshard_parameters() {
  dense_->reshard_parameters();
  experts_->reshard_parameters();
}

}  // namespace megatron
