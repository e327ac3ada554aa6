// A c10d backend for ranks that are threads of one process: shared memory, no sockets, reductions
// in rank order. Tensors must be contiguous. Operations that it does not implement throw, as in
// c10d's base class.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include <torch/csrc/distributed/c10d/Backend.hpp>

#include "megatron/parallel/rank_context.h"
#include "megatron/parallel/thread_world.h"

namespace megatron {

class ThreadBackend final : public c10d::Backend {
 public:
  ThreadBackend(std::shared_ptr<ThreadWorld> world, std::shared_ptr<ThreadGroup> group,
                int group_rank, int group_size, std::chrono::milliseconds timeout);

  using WorkPtr = c10::intrusive_ptr<c10d::Work>;

  const std::string getBackendName() const override { return "threads"; }
  void setTimeout(std::chrono::milliseconds timeout) override { timeout_ = timeout; }

  WorkPtr broadcast(std::vector<at::Tensor>& tensors,
                    const c10d::BroadcastOptions& options = {}) override;
  WorkPtr allreduce(std::vector<at::Tensor>& tensors,
                    const c10d::AllreduceOptions& options = {}) override;
  WorkPtr allgather(std::vector<std::vector<at::Tensor>>& outputs, std::vector<at::Tensor>& inputs,
                    const c10d::AllgatherOptions& options = {}) override;
  WorkPtr _allgather_base(at::Tensor& output, at::Tensor& input,
                          const c10d::AllgatherOptions& options = {}) override;
  WorkPtr reduce_scatter(std::vector<at::Tensor>& outputs,
                         std::vector<std::vector<at::Tensor>>& inputs,
                         const c10d::ReduceScatterOptions& options = {}) override;
  WorkPtr _reduce_scatter_base(at::Tensor& output, at::Tensor& input,
                               const c10d::ReduceScatterOptions& options = {}) override;
  // Splits are in rows of dimension 0. Both empty: equal splits.
  WorkPtr alltoall_base(at::Tensor& output, at::Tensor& input, std::vector<int64_t>& output_splits,
                        std::vector<int64_t>& input_splits,
                        const c10d::AllToAllOptions& options = {}) override;
  // Copies the message; the returned work is complete.
  WorkPtr send(std::vector<at::Tensor>& tensors, int destination, int tag) override;
  WorkPtr recv(std::vector<at::Tensor>& tensors, int source, int tag) override;
  WorkPtr barrier(const c10d::BarrierOptions& options = {}) override;

 private:
  WorkPtr start(CollectiveCall part, std::chrono::milliseconds timeout);
  std::chrono::milliseconds limit(std::chrono::milliseconds wanted) const;

  std::shared_ptr<ThreadWorld> world_;  // keeps the group's world alive
  std::shared_ptr<ThreadGroup> group_;
  std::chrono::milliseconds timeout_;
};

// Creates the groups of one rank of a ThreadWorld.
class ThreadTransport final : public Transport {
 public:
  ThreadTransport(std::shared_ptr<ThreadWorld> world, int rank, std::chrono::milliseconds timeout);
  c10::intrusive_ptr<c10d::Backend> make_backend(const std::string& name,
                                                 const std::vector<int>& ranks) override;
  std::string kind() const override { return "threads"; }

 private:
  std::shared_ptr<ThreadWorld> world_;
  int rank_;
  std::chrono::milliseconds timeout_;
  std::map<std::string, int> made_;
};

}  // namespace megatron
