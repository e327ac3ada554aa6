// A c10d backend whose operations complete on a test's command, for a group of two ranks of which
// the second contributes zeros.
#pragma once

#include <algorithm>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <torch/csrc/distributed/c10d/Backend.hpp>

#include "megatron/base/error.h"
#include "megatron/parallel/process_group_collection.h"

namespace megatron {

// The events of a rank in order, and the event after which each operation completes. A wait for an
// operation that cannot complete yet is an Error: events come from this rank only, so that the wait
// would never end.
class Script {
 public:
  void add(const std::string& event) {
    events_.push_back(event);
    if (on_event) on_event(event);
  }
  void complete_after(const std::string& operation, const std::string& event) {
    conditions_[operation] = event;
  }
  void wait_for(const std::string& operation) {
    if (const auto found = conditions_.find(operation); found != conditions_.end()) {
      check(happened(found->second), "Expected a wait for {} after '{}', but got it after [{}]",
            operation, found->second, fmt::join(events_, ", "));
    }
    add("wait " + operation);
  }
  bool happened(const std::string& event) const {
    return std::ranges::find(events_, event) != events_.end();
  }
  // The position of the first occurrence of an event.
  size_t place(const std::string& event) const {
    check(happened(event), "Expected '{}', but got [{}]", event, fmt::join(events_, ", "));
    return static_cast<size_t>(std::ranges::find(events_, event) - events_.begin());
  }
  // How often an event came before the first occurrence of another.
  int64_t count_before(const std::string& event, const std::string& other) const {
    const auto end = events_.begin() + static_cast<std::ptrdiff_t>(place(other));
    return std::count(events_.begin(), end, event);
  }
  // Adds the event "start all_gather 3" for the fourth of its kind and returns "all_gather 3".
  std::string start(const std::string& kind) {
    const std::string operation = fmt::format("{} {}", kind, counts_[kind]++);
    add("start " + operation);
    return operation;
  }
  void restart() { *this = Script(); }

  std::function<void(const std::string& event)> on_event;

 private:
  std::vector<std::string> events_;
  std::map<std::string, std::string> conditions_;  // event by operation
  std::map<std::string, int> counts_;
};

class CommandedWork final : public c10d::Work {
 public:
  CommandedWork(Script& script, std::string operation, std::function<void()> finish)
      : script_(script), operation_(std::move(operation)), finish_(std::move(finish)) {}
  bool wait(std::chrono::milliseconds) override {
    script_.wait_for(operation_);
    finish_();
    return true;
  }

 private:
  Script& script_;
  std::string operation_;
  std::function<void()> finish_;
};

class CommandedBackend final : public c10d::Backend {
 public:
  explicit CommandedBackend(Script& script) : Backend(/*rank=*/0, /*size=*/2), script_(script) {}
  const std::string getBackendName() const override { return "commanded"; }

  using WorkPtr = c10::intrusive_ptr<c10d::Work>;
  WorkPtr allreduce(std::vector<at::Tensor>&, const c10d::AllreduceOptions&) override {
    return start("all_reduce", [] {});
  }
  WorkPtr _reduce_scatter_base(at::Tensor& output, at::Tensor& input,
                               const c10d::ReduceScatterOptions&) override {
    return start("reduce_scatter", [output, input] {
      output.view(-1).copy_(input.view(-1).narrow(0, 0, output.numel()));
    });
  }
  WorkPtr _allgather_base(at::Tensor& output, at::Tensor& input,
                          const c10d::AllgatherOptions&) override {
    return start("all_gather", [output, input] {
      output.view(-1).narrow(0, 0, input.numel()).copy_(input.view(-1));
      output.view(-1).narrow(0, input.numel(), input.numel()).zero_();
    });
  }

 private:
  WorkPtr start(const std::string& kind, std::function<void()> finish) {
    return c10::make_intrusive<CommandedWork>(script_, script_.start(kind), [finish] {
      const at::NoGradGuard no_grad;
      finish();
    });
  }
  Script& script_;
};

inline ProcessGroupPtr commanded_group(Script& script) {
  return std::make_shared<ProcessGroup>("commanded", std::vector<int>{0, 1}, /*global_rank=*/0,
                                        c10::make_intrusive<CommandedBackend>(script),
                                        std::chrono::seconds(10));
}

}  // namespace megatron
