#include "megatron/pipeline/transfers.h"

#include "megatron/pipeline/stage_actions.h"

namespace megatron {

Transfers::Transfers(const PipelineSchedule& schedule, const ProcessGroup& pp)
    : steps_(schedule[pp.rank()]), pp_(pp), chunks_(chunks_of(schedule)) {}

std::optional<PlacedStep> Transfers::destination(size_t step) const {
  return destination_of({pp_.rank(), steps_[step]}, pp_.size(), chunks_);
}

void Transfers::begin_receive(size_t step, at::Tensor into) {
  const MessageLink link = link_into({pp_.rank(), steps_[step]}, pp_.size(), chunks_);
  receives_[step] = {pp_.irecv(into, link.source, link.tag), into};
}

at::Tensor Transfers::end_receive(size_t step) {
  const Receive receive = std::move(receives_.extract(step).mapped());
  receive.work->wait();
  return receive.tensor;
}

void Transfers::begin_send(size_t step, const at::Tensor& result) {
  const MessageLink link = link_into(*destination(step), pp_.size(), chunks_);
  sends_[step] = pp_.isend(result.detach().contiguous(), link.destination, link.tag);
}

void Transfers::end_send(size_t step) {
  sends_.extract(step).mapped()->wait();
}

}  // namespace megatron
