#include "megatron/pipeline/stage_actions.h"

#include <deque>
#include <map>
#include <set>
#include <utility>

namespace megatron {
namespace {

// How many steps ahead receives begin. A steady pipeline alternately receives activations and
// gradients, so one of each is in flight while a step computes.
constexpr size_t kStepsAhead = 2;

class StageActions {
 public:
  StageActions(const PipelineSchedule& schedule, int stage, bool overlap)
      : steps_(schedule[stage]),
        stage_(stage),
        stages_(static_cast<int>(schedule.size())),
        chunks_(chunks_of(schedule)),
        in_flight_(static_cast<size_t>(sends_in_flight(schedule))),
        ahead_(overlap ? kStepsAhead : 0) {}

  std::vector<StageAction> make() {
    for (size_t first = 0, last; first < steps_.size(); first = last + 1) {
      last = steps_[first].with_next ? first + 1 : first;
      begin_receives_until(last + ahead_);
      for (size_t i = first; i <= last; ++i)
        if (source_of(placed(i), stages_, chunks_)) add(Action::end_receive, i);
      add(Action::compute, first);
      for (size_t i = first; i <= last; ++i) {
        if (steps_[i].kind == PipelineStep::Kind::forward) passed_.insert(pass_of(i));
        if (destination_of(placed(i), stages_, chunks_)) send(i);
      }
    }
    for (auto& [kind, sent] : sent_) end_sends(sent, 0);
    return std::move(actions_);
  }

 private:
  using Action = StageAction::Kind;

  PlacedStep placed(size_t step) const { return {stage_, steps_[step]}; }
  std::pair<int64_t, int> pass_of(size_t step) const {
    return {steps_[step].microbatch, steps_[step].chunk};
  }
  void add(Action kind, size_t step) { actions_.push_back({kind, step}); }

  // Receives begin in the order of the list, which is the order of the sends. A gradient's shape is
  // known only after its forward pass.
  void begin_receives_until(size_t last) {
    for (; begun_ <= last && begun_ < steps_.size(); ++begun_) {
      if (!source_of(placed(begun_), stages_, chunks_)) continue;
      const bool is_gradient = steps_[begun_].kind == PipelineStep::Kind::backward;
      if (is_gradient && !passed_.contains(pass_of(begun_))) return;
      add(Action::begin_receive, begun_);
    }
  }

  void send(size_t step) {
    std::deque<size_t>& sent = sent_[steps_[step].kind];
    end_sends(sent, in_flight_ - 1);
    add(Action::begin_send, step);
    sent.push_back(step);
  }

  // Until at most `left` are in flight.
  void end_sends(std::deque<size_t>& sent, size_t left) {
    for (; sent.size() > left; sent.pop_front()) add(Action::end_send, sent.front());
  }

  const std::vector<PipelineStep>& steps_;
  int stage_, stages_, chunks_;
  size_t in_flight_, ahead_;
  size_t begun_ = 0;                                       // first step whose receive has not begun
  std::set<std::pair<int64_t, int>> passed_;               // forward passes done
  std::map<PipelineStep::Kind, std::deque<size_t>> sent_;  // sends in flight
  std::vector<StageAction> actions_;
};

}  // namespace

std::vector<StageAction> stage_actions(const PipelineSchedule& schedule, int stage, bool overlap) {
  return StageActions(schedule, stage, overlap).make();
}

MessageLink link_into(const PlacedStep& consumer, int stages, int chunks) {
  const bool is_forward = consumer.step.kind == PipelineStep::Kind::forward;
  return {.source = source_of(consumer, stages, chunks).value().stage,
          .destination = consumer.stage,
          .tag = is_forward ? kActivationTag : kGradientTag};
}

}  // namespace megatron
