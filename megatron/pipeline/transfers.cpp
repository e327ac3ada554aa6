#include "megatron/pipeline/transfers.h"

namespace megatron {
namespace {

// Activations and gradients may travel between the same two stages.
int tag_of(const PipelineStep& step) {
  return step.kind == PipelineStep::Kind::forward ? 1 : 2;
}

}  // namespace

Transfers::Transfers(const PipelineSchedule& schedule, const ProcessGroup& pp)
    : steps_(schedule[pp.rank()]),
      pp_(pp),
      chunks_(chunks_of(schedule)),
      in_flight_(static_cast<size_t>(sends_in_flight(schedule))) {}

std::optional<PlacedStep> Transfers::source(size_t step) const {
  return source_of({pp_.rank(), steps_[step]}, pp_.size(), chunks_);
}

std::optional<PlacedStep> Transfers::destination(size_t step) const {
  return destination_of({pp_.rank(), steps_[step]}, pp_.size(), chunks_);
}

void Transfers::post(size_t step, at::Tensor into) {
  const PlacedStep from = *source(step);
  posted_[step] = {pp_.irecv(into, from.stage, tag_of(from.step)), into};
}

at::Tensor Transfers::receive(size_t step) {
  const Receive receive = std::move(posted_.extract(step).mapped());
  receive.pending->wait();
  return receive.tensor;
}

void Transfers::send(size_t step, const at::Tensor& result) {
  const PlacedStep to = *destination(step);
  auto& sent = sent_[to.step.kind];
  for (; sent.size() >= in_flight_; sent.pop_front()) sent.front()->wait();
  sent.push_back(pp_.isend(result.detach().contiguous(), to.stage, tag_of(to.step)));
}

void Transfers::finish() {
  for (auto& [kind, sent] : sent_) {
    for (; !sent.empty(); sent.pop_front()) sent.front()->wait();
  }
}

}  // namespace megatron
