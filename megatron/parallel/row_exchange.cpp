#include "megatron/parallel/row_exchange.h"

#include <numeric>
#include <utility>

namespace megatron {

RowsInFlight::RowsInFlight(const at::Tensor& rows, const RowExchange& exchange) {
  std::vector<int64_t> shape = rows.sizes().vec();
  shape[0] = std::accumulate(exchange.received.begin(), exchange.received.end(), int64_t{0});
  received_ = at::empty(shape, rows.options().requires_grad(false));
  work_ = exchange.group->iall_to_all(received_, rows.detach().contiguous(), exchange.received,
                                      exchange.sent);
}

at::Tensor RowsInFlight::wait() {
  std::exchange(work_, nullptr)->wait();
  return std::move(received_);
}

}  // namespace megatron
