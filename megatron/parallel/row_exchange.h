// An all-to-all of rows as data, and its run without gradients: for schedules that run forward and
// backward passes themselves.
#pragma once

#include <vector>

#include "megatron/parallel/process_group_collection.h"

namespace megatron {

struct RowExchange {
  ProcessGroupPtr group;
  std::vector<int64_t> received, sent;  // rows from and to each rank

  // The way back, which is also the way of the gradients.
  RowExchange reversed() const { return {group, sent, received}; }
};

// An exchange in flight.
class RowsInFlight {
 public:
  // rows [sum of exchange.sent, ...]. Collective.
  RowsInFlight(const at::Tensor& rows, const RowExchange& exchange);
  // [sum of exchange.received, ...]. Must be called once.
  at::Tensor wait();

 private:
  std::shared_ptr<Work> work_;
  at::Tensor received_;
};

}  // namespace megatron
