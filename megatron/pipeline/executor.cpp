#include "megatron/pipeline/executor.h"

#include <algorithm>
#include <map>

#include <ATen/ATen.h>
#include <ATen/record_function.h>
#include <fmt/format.h>
#include <torch/csrc/autograd/engine.h>
#include <torch/csrc/autograd/variable.h>

#include "megatron/pipeline/transfers.h"

namespace megatron {
namespace {

using Kind = PipelineStep::Kind;

// How many steps ahead receives are posted: a steady pipeline receives an activation and a gradient
// in turn, so that one of each is on its way while a step computes.
constexpr size_t kStepsAhead = 2;

// A forward pass that waits for its backward.
struct InFlight {
  at::Tensor input;
  torch::autograd::Edge edge;  // of the output in the graph; invalid where no gradient is wanted
  std::vector<int64_t> sizes;  // of the output, and of its gradient
  at::TensorOptions options;
  at::Tensor output;  // its values, where they are kept
};

class ScheduleRun {
 public:
  ScheduleRun(const PipelineSchedule& schedule, const ProcessGroup& pp,
              const StageFunctions& functions, const TransferOptions& options)
      : steps_(schedule[pp.rank()]),
        functions_(functions),
        options_(options),
        transfers_(schedule, pp),
        trains_(std::ranges::any_of(
            steps_, [](const PipelineStep& step) { return step.kind == Kind::backward; })) {}

  void run() {
    for (size_t i = 0; i < steps_.size(); ++i) {
      post_receives_until(i + (options_.overlap ? kStepsAhead : 0));
      steps_[i].kind == Kind::forward ? forward(i) : backward(i);
    }
    transfers_.finish();
  }

 private:
  using Passage = std::pair<int64_t, int>;
  static Passage passage(const PipelineStep& step) { return {step.microbatch, step.chunk}; }

  // In the order of the list, which is that of sending. A gradient waits for its forward pass,
  // which knows the shape.
  void post_receives_until(size_t last) {
    for (; posted_ <= last && posted_ < steps_.size(); ++posted_) {
      const PipelineStep& step = steps_[posted_];
      if (!transfers_.receives(posted_)) continue;
      if (step.kind == Kind::forward) {
        transfers_.post(posted_, functions_.empty_input(step.microbatch, step.chunk));
      } else if (const auto known = in_flight_.find(passage(step)); known != in_flight_.end()) {
        transfers_.post(posted_, at::empty(known->second.sizes, known->second.options));
      } else {
        return;
      }
    }
  }

  void forward(size_t i) {
    const PipelineStep& step = steps_[i];
    at::Tensor input = transfers_.receives(i) ? transfers_.receive(i) : at::Tensor();
    if (input.defined()) input.requires_grad_(trains_);
    const at::Tensor output = functions_.forward(step.microbatch, step.chunk, input);
    if (transfers_.sends(i)) transfers_.send(i, output);
    if (!trains_) return;
    InFlight& kept = in_flight_[passage(step)];
    kept.input = input;
    if (output.requires_grad()) kept.edge = torch::autograd::impl::gradient_edge(output);
    kept.sizes = output.sizes().vec();
    kept.options = output.options().requires_grad(false);
    if (!options_.deallocate) kept.output = output;
  }

  void backward(size_t i) {
    RECORD_USER_SCOPE(fmt::format("backward of micro-batch {}", steps_[i].microbatch));
    const InFlight kept = std::move(in_flight_.extract(passage(steps_[i])).mapped());
    const at::Tensor gradient =
        transfers_.receives(i) ? transfers_.receive(i) : at::ones(kept.sizes, kept.options);
    if (kept.edge.is_valid()) {
      torch::autograd::Engine::get_default_engine().execute(
          {kept.edge}, {gradient}, /*keep_graph=*/false, /*create_graph=*/false,
          /*accumulate_grad=*/true);
    }
    if (transfers_.sends(i)) transfers_.send(i, kept.input.grad());
  }

  const std::vector<PipelineStep>& steps_;
  const StageFunctions& functions_;
  TransferOptions options_;
  Transfers transfers_;
  bool trains_;
  size_t posted_ = 0;  // receives of steps before this one were posted
  std::map<Passage, InFlight> in_flight_;
};

}  // namespace

void run_schedule(const PipelineSchedule& schedule, const ProcessGroup& pp,
                  const StageFunctions& functions, const TransferOptions& options) {
  check(static_cast<int>(schedule.size()) == pp.size(),
        "Expected a schedule of the {} stages of group {}, but got one of {}", pp.size(), pp.name(),
        schedule.size());
  ScheduleRun(schedule, pp, functions, options).run();
}

}  // namespace megatron
