// The exchange of rows between ranks that stands between two schedule nodes. Forward and backward
// begin in one place of a schedule and end in another: what a schedule runs in between runs while the
// rows are on their way.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "megatron/base/trace_range.h"
#include "megatron/ops/recompute.h"
#include "megatron/parallel/row_exchange.h"

namespace megatron {

class ExchangeNode {
 public:
  // An empty node returns what it gets.
  ExchangeNode() = default;
  // `exchange` is called when forward begins; `name` is shown in traces.
  ExchangeNode(std::string name, std::function<RowExchange()> exchange)
      : name_(std::move(name)), make_exchange_(std::move(exchange)) {}

  bool is_empty() const { return make_exchange_ == nullptr; }

  // Tensors of rows; undefined ones are not sent and stay undefined. Collective.
  void begin_forward(const Tensors& rows);
  Tensors end_forward();
  // The gradients of what end_forward() returned -> those of its rows. Collective.
  void begin_backward(const Tensors& grads);
  Tensors end_backward();

 private:
  void begin(const char* direction, const Tensors& rows, const RowExchange& exchange);
  Tensors end();

  std::string name_;
  std::function<RowExchange()> make_exchange_;
  RowExchange exchange_;
  std::vector<std::optional<RowsInFlight>> in_flight_;
  Tensors passed_;  // through an empty node
  TraceRange range_;
};

}  // namespace megatron
