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
          received_[step] = transfers_.end_receive(step);
          break;
        case StageAction::Kind::compute:
          compute(step);
          break;
        case StageAction::Kind::begin_send:
          transfers_.begin_send(step, results_.extract(step).mapped());
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

  void compute(size_t i) {
    if (functions_.combined) return combined(i);
    steps_[i].kind == Kind::forward ? forward(i) : backward(i);
  }

  at::Tensor input_of(size_t i) {
    const auto received = received_.extract(i);
    return received.empty() ? at::Tensor() : received.mapped();
  }

  at::Tensor forward_input(size_t i) {
    const at::Tensor input = input_of(i);
    return input.defined() ? input.requires_grad_(trains_) : input;
  }

  at::Tensor output_grad(size_t i, const InFlight& kept) {
    const at::Tensor gradient = input_of(i);
    return gradient.defined() ? gradient : at::ones(kept.sizes, kept.options);
  }

  void keep(size_t i, const at::Tensor& result) {
    if (transfers_.sends(i)) results_[i] = result;
  }

  // What a backward pass needs of the output.
  InFlight& keep_for_backward(size_t i, const at::Tensor& output) {
    InFlight& kept = in_flight_[pass_of(steps_[i])];
    kept.sizes = output.sizes().vec();
    kept.options = output.options().requires_grad(false);
    if (!options_.deallocate) kept.output = output;
    return kept;
  }

  void begin_backward(size_t i) const {
    if (functions_.before_backward)
      functions_.before_backward(steps_[i].microbatch, steps_[i].chunk);
  }

  void forward(size_t i) {
    const PipelineStep& step = steps_[i];
    const at::Tensor input = forward_input(i);
    const at::Tensor output = functions_.forward(step.microbatch, step.chunk, input);
    keep(i, output.detach());
    if (!trains_) return;
    InFlight& kept = keep_for_backward(i, output);
    kept.input = input;
    if (output.requires_grad()) kept.edge = torch::autograd::impl::gradient_edge(output);
  }

  void backward(size_t i) {
    RECORD_USER_SCOPE(fmt::format("backward of micro-batch {}", steps_[i].microbatch));
    const InFlight kept = std::move(in_flight_.extract(pass_of(steps_[i])).mapped());
    const at::Tensor gradient = output_grad(i, kept);
    if (kept.edge.is_valid()) {
      begin_backward(i);
      torch::autograd::Engine::get_default_engine().execute(
          {kept.edge}, {gradient}, /*keep_graph=*/false, /*create_graph=*/false,
          /*accumulate_grad=*/true);
    }
    keep(i, kept.input.defined() ? kept.input.grad() : at::Tensor());
  }

  // A step alone, or with the next one.
  void combined(size_t first) {
    const size_t last = steps_[first].with_next ? first + 1 : first;
    CombinedPasses passes;
    for (size_t i = first; i <= last; ++i) {
      if (steps_[i].kind == Kind::forward) {
        passes.forward = steps_[i];
        passes.input = forward_input(i);
      } else {
        passes.backward = steps_[i];
        passes.output_grad =
            output_grad(i, std::move(in_flight_.extract(pass_of(steps_[i])).mapped()));
        begin_backward(i);
      }
    }
    const CombinedResults results = functions_.combined(passes);
    for (size_t i = first; i <= last; ++i) {
      const bool is_forward = steps_[i].kind == Kind::forward;
      keep(i, is_forward ? results.output : results.input_grad);
      if (is_forward) keep_for_backward(i, results.output);
    }
  }

  const std::vector<PipelineStep>& steps_;
  const StageFunctions& functions_;
  TransferOptions options_;
  Transfers transfers_;
  bool trains_;
  // By step: inputs of the next computation, and results of the last one that are to be sent.
  std::map<size_t, at::Tensor> received_, results_;
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
