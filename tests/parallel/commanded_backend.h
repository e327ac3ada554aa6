// A group in which only this rank runs and whose operations complete on command. It shows what a
// rank does between the start of an operation and its completion, without clocks.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include <torch/csrc/distributed/c10d/Backend.hpp>

#include "megatron/parallel/process_group.h"

namespace megatron {

// Reductions return this rank's contribution, gathers return it for every rank, and received
// messages hold zeros. Operations are numbered from 0 in the order of their start.
class CommandedBackend final : public c10d::Backend {
 public:
  CommandedBackend(int rank, int size) : Backend(rank, size) {}
  const std::string getBackendName() const override { return "commanded"; }

  using WorkPtr = c10::intrusive_ptr<c10d::Work>;
  WorkPtr allreduce(std::vector<at::Tensor>& tensors, const c10d::AllreduceOptions&) override;
  WorkPtr _allgather_base(at::Tensor& output, at::Tensor& input,
                          const c10d::AllgatherOptions&) override;
  WorkPtr _reduce_scatter_base(at::Tensor& output, at::Tensor& input,
                               const c10d::ReduceScatterOptions&) override;
  WorkPtr send(std::vector<at::Tensor>& tensors, int destination, int tag) override;
  WorkPtr recv(std::vector<at::Tensor>& tensors, int source, int tag) override;

  // Completes operation `index`; complete_all() completes all operations, later ones too.
  void complete(size_t index);
  void complete_all();
  // Blocks until the rank waits for operation `index`. Throws after a minute.
  void await_waiter(size_t index);

  // "start all_reduce 0", "wait all_reduce 0", and the lines of note(), in order.
  std::vector<std::string> log() const;
  void note(const std::string& line);

 private:
  friend class CommandedWork;
  struct Operation {
    std::string name;
    bool waited = false, may_end = false;
  };
  WorkPtr start(const std::string& name);
  void wait_for(size_t index);

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Operation> operations_;
  std::vector<std::string> log_;
  bool all_may_end_ = false;
};

struct CommandedGroup {
  CommandedGroup(int rank, int size);
  c10::intrusive_ptr<CommandedBackend> backend;
  std::shared_ptr<ProcessGroup> group;
};

// Adds "product" to the backend's log for each matrix product of this thread while it lives.
class NotedProducts {
 public:
  explicit NotedProducts(CommandedBackend& backend);
  ~NotedProducts();
  NotedProducts(const NotedProducts&) = delete;
  NotedProducts& operator=(const NotedProducts&) = delete;

 private:
  uint64_t handle_;
};

}  // namespace megatron
