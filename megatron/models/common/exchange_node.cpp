#include "megatron/models/common/exchange_node.h"

#include <fmt/format.h>

namespace megatron {

void ExchangeNode::begin_forward(const Tensors& rows) {
  if (!is_empty()) exchange_ = make_exchange_();
  begin("forward", rows, exchange_);
}

Tensors ExchangeNode::end_forward() {
  return end();
}

void ExchangeNode::begin_backward(const Tensors& grads) {
  begin("backward", grads, exchange_.reversed());
}

Tensors ExchangeNode::end_backward() {
  return end();
}

void ExchangeNode::begin(const char* direction, const Tensors& rows, const RowExchange& exchange) {
  if (is_empty()) {
    passed_ = rows;
    return;
  }
  range_ = begin_trace_range([&] { return fmt::format("{}, {}", name_, direction); });
  for (const at::Tensor& tensor : rows) {
    std::optional<RowsInFlight>& place = in_flight_.emplace_back();
    if (tensor.defined()) place.emplace(tensor, exchange);
  }
}

Tensors ExchangeNode::end() {
  if (is_empty()) return std::exchange(passed_, {});
  Tensors received;
  for (std::optional<RowsInFlight>& rows : in_flight_)
    received.push_back(rows ? rows->wait() : at::Tensor());
  in_flight_.clear();
  range_.reset();
  return received;
}

}  // namespace megatron
