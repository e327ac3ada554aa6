#include "megatron/pipeline/executor.h"

#include <algorithm>
#include <map>
#include <utility>

#include <ATen/ATen.h>
#include <ATen/record_function.h>
#include <fmt/format.h>
#include <torch/csrc/autograd/engine.h>
#include <torch/csrc/autograd/variable.h>

#include "megatron/pipeline/stage_actions.h"
#include "megatron/pipeline/transfers.h"

namespace megatron {
namespace {

using Kind = PipelineStep::Kind;

// A forward pass whose backward pass has not run yet.
struct InFlight {
  at::Tensor input;
  torch::autograd::Edge edge;  // of the output in the graph; invalid without a gradient
  std::vector<int64_t> sizes;  // of the output and of its gradient
  at::TensorOptions options;
  at::Tensor output;  // undefined where outputs are deallocated
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

  void run(const std::vector<StageAction>& actions) {
    for (const auto& [kind, step] : actions) {
      switch (kind) {
        case StageAction::Kind::begin_receive:
          transfers_.begin_receive(step, empty_for(steps_[step]));
          break;
        case StageAction::Kind::end_receive:
          received_ = transfers_.end_receive(step);
          break;
        case StageAction::Kind::compute:
          steps_[step].kind == Kind::forward ? forward(step) : backward(step);
          break;
        case StageAction::Kind::begin_send:
          transfers_.begin_send(step, std::exchange(result_, {}));
          break;
        case StageAction::Kind::end_send:
          transfers_.end_send(step);
          break;
      }
    }
  }

 private:
  using Pass = std::pair<int64_t, int>;  // micro-batch and chunk
  static Pass pass_of(const PipelineStep& step) { return {step.microbatch, step.chunk}; }

  // The tensor to receive the step's input into. A gradient has the shape of its output.
  at::Tensor empty_for(const PipelineStep& step) const {
    if (step.kind == Kind::forward) return functions_.empty_input(step.microbatch, step.chunk);
    const InFlight& known = in_flight_.at(pass_of(step));
    return at::empty(known.sizes, known.options);
  }

  void forward(size_t i) {
    const PipelineStep& step = steps_[i];
    at::Tensor input = std::exchange(received_, {});
    if (input.defined()) input.requires_grad_(trains_);
    const at::Tensor output = functions_.forward(step.microbatch, step.chunk, input);
    if (transfers_.sends(i)) result_ = output.detach();
    if (!trains_) return;
    InFlight& kept = in_flight_[pass_of(step)];
    kept.input = input;
    if (output.requires_grad()) kept.edge = torch::autograd::impl::gradient_edge(output);
    kept.sizes = output.sizes().vec();
    kept.options = output.options().requires_grad(false);
    if (!options_.deallocate) kept.output = output;
  }

  void backward(size_t i) {
    RECORD_USER_SCOPE(fmt::format("backward of micro-batch {}", steps_[i].microbatch));
    const InFlight kept = std::move(in_flight_.extract(pass_of(steps_[i])).mapped());
    at::Tensor gradient = std::exchange(received_, {});
    if (!gradient.defined()) gradient = at::ones(kept.sizes, kept.options);
    if (kept.edge.is_valid()) {
      torch::autograd::Engine::get_default_engine().execute(
          {kept.edge}, {gradient}, /*keep_graph=*/false, /*create_graph=*/false,
          /*accumulate_grad=*/true);
    }
    if (transfers_.sends(i)) result_ = kept.input.grad();
  }

  const std::vector<PipelineStep>& steps_;
  const StageFunctions& functions_;
  TransferOptions options_;
  Transfers transfers_;
  bool trains_;
  at::Tensor received_;  // input of the next step that computes
  at::Tensor result_;    // of the last step that computed, to be sent
  std::map<Pass, InFlight> in_flight_;
};

}  // namespace

void run_schedule(const PipelineSchedule& schedule, const ProcessGroup& pp,
                  const StageFunctions& functions, const TransferOptions& options) {
  check(static_cast<int>(schedule.size()) == pp.size(),
        "Expected a schedule of the {} stages of group {}, but got one of {}", pp.size(), pp.name(),
        schedule.size());
  ScheduleRun(schedule, pp, functions, options)
      .run(stage_actions(schedule, pp.rank(), options.overlap));
}

}  // namespace megatron
