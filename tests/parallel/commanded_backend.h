// A group of which this process is the only rank that runs, and whose operations end only on
// command: what a rank does between the start of an operation and its end is seen, without clocks.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include <torch/csrc/distributed/c10d/Backend.hpp>

#include "megatron/parallel/process_group.h"

namespace megatron {

// Reductions give this rank's own part, gathers its part for every rank, and messages that come
// hold zeros. Operations are counted from 0 in the order of their start.
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

  // Lets operation `index` end; all(): every one from now on.
  void complete(size_t index);
  void complete_all();
  // Blocks until a rank waits for operation `index`, and so can do nothing else. Throws after a
  // minute.
  void await_waiter(size_t index);

  // "start all_reduce 0", "wait all_reduce 0", and what note() added, in order.
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

// While it lives, matrix products of this thread are noted in the backend's log as "product".
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
