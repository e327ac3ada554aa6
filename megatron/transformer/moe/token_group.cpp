#include "megatron/transformer/moe/token_group.h"

#include <ATen/ATen.h>

#include "megatron/base/error.h"

namespace megatron {

TokenGroup::TokenGroup(const LayerOptions& options, const ForwardContext& context)
    : options_(options), context_(context) {
  const ProcessGroupCollection& groups = *options.groups;
  // Without sequence parallelism, tensor-parallel ranks have the same tokens.
  positions_ = options.sequence_parallel ? groups.tp_cp : groups.cp;
  all_ = positions_;
  if (context.shares_rows) all_ = options.sequence_parallel ? groups.tp_dp_cp : groups.dp_cp;
}

int64_t TokenGroup::rows_of_all_ranks() const {
  return context_.shares_rows ? rows() * options_.groups->dp->size() : rows();
}

at::Tensor TokenGroup::position_of_token() const {
  return context_.residual_positions.repeat_interleave(rows());
}

at::Tensor TokenGroup::row_of_token() const {
  const int64_t first = context_.shares_rows ? rows() * options_.groups->dp->rank() : 0;
  return at::arange(first, first + rows(), at::kLong).repeat({positions()});
}

at::Tensor TokenGroup::local_slice(const at::Tensor& of_positions, int64_t dim) const {
  const int64_t ranks = options_.sequence_parallel ? options_.tp->size() : 1;
  check(of_positions.size(dim) == positions() * ranks,
        "Expected a padding mask or sequence numbers of {} positions, but got {}",
        positions() * ranks, of_positions.size(dim));
  return ranks == 1 ? of_positions
                    : of_positions.narrow(dim, options_.tp->rank() * positions(), positions());
}

at::Tensor TokenGroup::valid_tokens() const {
  if (!context_.padding_mask.defined()) return {};
  check(context_.padding_mask.dim() == 2 && context_.padding_mask.size(0) == rows(),
        "Expected a padding mask of {} rows, but got {}", rows(),
        context_.padding_mask.sizes().vec());
  return local_slice(context_.padding_mask, 1).t().logical_not().reshape({-1});
}

at::Tensor TokenGroup::sequence_numbers() const {
  if (!context_.sequence_numbers.defined()) return {};
  return local_slice(context_.sequence_numbers, 0);
}

at::Tensor TokenGroup::sum(const at::Tensor& tensor) const {
  if (all_->size() > 1) all_->all_reduce(tensor.view({-1}));
  return tensor;
}

at::Tensor TokenGroup::sum_over_positions(const at::Tensor& tensor) const {
  if (positions_->size() > 1) positions_->all_reduce(tensor.view({-1}));
  return tensor;
}

at::Tensor TokenGroup::gather(const at::Tensor& local) const {
  if (all_->size() == 1) return local.detach();
  const at::Tensor gathered = all_->all_gather(local.detach());
  if (!order_.defined()) {
    const at::Tensor keys = at::stack({position_of_token(), row_of_token()}, 1).to(local.device());
    const at::Tensor all = all_->all_gather(keys);
    const int64_t most_rows = rows_of_all_ranks();
    order_ = at::argsort(all.select(1, 0) * most_rows + all.select(1, 1), /*stable=*/true);
  }
  return gathered.index_select(0, order_);
}

at::Tensor TokenGroup::own(const at::Tensor& all) const {
  if (all_->size() == 1) return all;
  const at::Tensor place = at::argsort(order_).narrow(0, all_->rank() * tokens(), tokens());
  return all.index_select(0, place);
}

}  // namespace megatron
