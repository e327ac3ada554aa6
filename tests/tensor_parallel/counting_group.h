// A process group whose other ranks do not exist: an all-reduce leaves its tensor unchanged, and is
// counted.
#pragma once

#include <memory>
#include <numeric>
#include <vector>

#include <torch/csrc/distributed/c10d/Backend.hpp>

#include "megatron/parallel/process_group.h"

namespace megatron {

class CountingBackend final : public c10d::Backend {
 public:
  explicit CountingBackend(int size) : Backend(/*rank=*/0, size) {}
  const std::string getBackendName() const override { return "counting"; }

  c10::intrusive_ptr<c10d::Work> allreduce(std::vector<at::Tensor>&,
                                           const c10d::AllreduceOptions&) override {
    ++all_reduces;
    return c10::make_intrusive<Done>();
  }

  int all_reduces = 0;

 private:
  struct Done final : c10d::Work {
    bool isCompleted() override { return true; }
    bool isSuccess() const override { return true; }
    bool wait(std::chrono::milliseconds) override { return true; }
  };
};

struct CountingGroup {
  explicit CountingGroup(int size) : backend(c10::make_intrusive<CountingBackend>(size)) {
    std::vector<int> ranks(static_cast<size_t>(size));
    std::iota(ranks.begin(), ranks.end(), 0);
    group = std::make_shared<ProcessGroup>("tp", ranks, /*global_rank=*/0, backend,
                                           std::chrono::seconds(10));
  }

  int all_reduces() const { return backend->all_reduces; }

  c10::intrusive_ptr<CountingBackend> backend;
  std::shared_ptr<ProcessGroup> group;
};

}  // namespace megatron
