#include "megatron/pipeline/executor.h"

#include <map>

#include <ATen/ATen.h>
#include <ATen/record_function.h>
#include <fmt/format.h>
#include <torch/csrc/autograd/autograd.h>

namespace megatron {
namespace {

enum Tag : int { activation_tag = 1, gradient_tag = 2 };

// Sends in one direction, at most one at a time in flight: the wait for an earlier one comes before
// the next, so that stages never block each other.
class Outbox {
 public:
  Outbox(const ProcessGroup& pp, int destination, Tag tag)
      : pp_(pp), destination_(destination), tag_(tag) {}
  void send(const at::Tensor& tensor) {
    flush();
    in_flight_ = pp_.isend(tensor.detach().contiguous(), destination_, tag_);
  }
  void flush() {
    if (in_flight_) std::exchange(in_flight_, nullptr)->wait();
  }

 private:
  const ProcessGroup& pp_;
  int destination_;
  Tag tag_;
  std::shared_ptr<Pending> in_flight_;
};

struct InFlightMicrobatch {
  at::Tensor input, output;
};

}  // namespace

void run_schedule(const std::vector<PipelineStep>& steps, const ProcessGroup& pp,
                  const ActivationShape& activation, const StageForward& forward) {
  const bool first = pp.is_first(), last = pp.is_last();
  const bool trains = std::any_of(steps.begin(), steps.end(), [](const PipelineStep& step) {
    return step.kind == PipelineStep::Kind::backward;
  });
  Outbox to_next(pp, pp.rank() + 1, activation_tag), to_previous(pp, pp.rank() - 1, gradient_tag);
  std::map<int64_t, InFlightMicrobatch> in_flight;

  for (const PipelineStep& step : steps) {
    if (step.kind == PipelineStep::Kind::forward) {
      at::Tensor input;
      if (!first) {
        input = at::empty(activation.sizes, activation.options);
        pp.recv(input, pp.rank() - 1, activation_tag);
        input.requires_grad_(trains);
      }
      const at::Tensor output = forward(step.microbatch, input);
      if (!last) to_next.send(output);
      if (trains) in_flight[step.microbatch] = {input, output};
    } else {
      const InFlightMicrobatch microbatch = std::move(in_flight.extract(step.microbatch).mapped());
      at::Tensor output_grad;
      if (!last) {
        output_grad = at::empty(activation.sizes, activation.options);
        pp.recv(output_grad, pp.rank() + 1, gradient_tag);
      }
      RECORD_USER_SCOPE(fmt::format("backward of micro-batch {}", step.microbatch));
      // A first stage whose parameters are all frozen has nothing to go back through.
      if (microbatch.output.requires_grad())
        torch::autograd::backward({microbatch.output}, {output_grad});
      if (!first) to_previous.send(microbatch.input.grad());
    }
  }
  to_next.flush();
  to_previous.flush();
}

}  // namespace megatron
