// A communication group of a rank: who is in it, and the collectives over it.
//
// Every collective is deterministic for a given layout, does nothing in a group of one, and turns a
// failure of the transport into an Error that names rank, group and operation.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <ATen/ATen.h>
#include <torch/csrc/distributed/c10d/Backend.hpp>

#include "megatron/base/error.h"
#include "megatron/parallel/pipeline_links.h"

namespace megatron {

enum class ReduceOp { sum, max, min };

// A collective that failed. Often another rank is the cause: it ended, hangs, or called something
// else.
class CommunicationError : public Error {
 public:
  using Error::Error;
};

// What an asynchronous operation returns. wait() must be called once; it throws Error on failure.
// It keeps the tensors alive until then.
class Pending;

// Backends of two ranks, source and destination.
using LinkBackends = std::map<MessageLink, c10::intrusive_ptr<c10d::Backend>>;

class ProcessGroup {
 public:
  // `backend` may be null for a group of one. `ranks` are global ranks in group order and hold
  // `global_rank`. `device` is the kind of device whose tensors the backend takes. Messages of
  // `links` go over their own backends: those that this rank sends or receives.
  ProcessGroup(std::string name, std::vector<int> ranks, int global_rank,
               c10::intrusive_ptr<c10d::Backend> backend, std::chrono::milliseconds timeout,
               at::Device device = at::kCPU, LinkBackends links = {});

  const std::string& name() const { return name_; }
  const std::vector<int>& ranks() const { return ranks_; }
  int size() const { return static_cast<int>(ranks_.size()); }
  int rank() const { return rank_; }  // position within the group
  int global_rank() const { return global_rank_; }
  bool is_first() const { return rank_ == 0; }
  bool is_last() const { return rank_ == size() - 1; }
  at::Device device() const { return device_; }

  // In place, on contiguous tensors of the same shape and dtype on every rank.
  void all_reduce(at::Tensor tensor, ReduceOp op = ReduceOp::sum) const;
  void broadcast(at::Tensor tensor, int group_root) const;
  // [n, ...] -> [size * n, ...], the ranks' parts in rank order along dimension 0.
  at::Tensor all_gather(const at::Tensor& tensor) const;
  // [size * n, ...] -> [n, ...]: this rank's part of the sum over ranks.
  at::Tensor reduce_scatter(const at::Tensor& tensor) const;
  // [sum of input_splits, ...] -> [sum of output_splits, ...]: input_splits[r] rows go to rank r,
  // and output_splits[r] rows come from it. Both empty: equal parts.
  at::Tensor all_to_all(const at::Tensor& tensor, std::vector<int64_t> output_splits = {},
                        std::vector<int64_t> input_splits = {}) const;
  void barrier() const;

  // The asynchronous forms: neither tensor may be read or changed before wait(). All contiguous;
  // `output` takes what the form above would return.
  std::shared_ptr<Pending> iall_reduce(at::Tensor tensor, ReduceOp op = ReduceOp::sum) const;
  std::shared_ptr<Pending> iall_gather(at::Tensor output, const at::Tensor& input) const;
  std::shared_ptr<Pending> ireduce_scatter(at::Tensor output, const at::Tensor& input) const;

  // Point to point, by group rank. Messages between two ranks with one tag arrive in the order of
  // sending. Over NCCL all that two ranks send each other, whatever its tag, must begin in the same
  // order on both sides, except that a link counts for itself. The tensor of isend must not change
  // before wait(); recv fills `tensor`.
  std::shared_ptr<Pending> isend(const at::Tensor& tensor, int group_destination,
                                 int tag = 0) const;
  std::shared_ptr<Pending> irecv(at::Tensor tensor, int group_source, int tag = 0) const;
  void recv(at::Tensor tensor, int group_source, int tag = 0) const;

 private:
  std::string description() const;
  void check_tensor(const at::Tensor& tensor, std::string_view operation) const;
  void check_member(int member, std::string_view operation) const;
  // Where a message goes: a backend, and the other rank's place in it.
  struct Route {
    c10d::Backend* backend;
    int peer;
  };
  Route route_to(int destination, int tag) const;
  Route route_from(int source, int tag) const;
  // Starts an operation on `tensors`; what it throws, then or in wait(), becomes a
  // CommunicationError. The limit is that of wait(), for operations that have none of their own.
  template <typename Start>
  std::shared_ptr<Pending> begin(std::string operation, std::vector<at::Tensor> tensors,
                                 Start&& start,
                                 std::chrono::milliseconds wait_limit = kNoTimeout) const;
  // Messages have no options with a time limit; on a GPU a limit of wait() would block the host.
  std::chrono::milliseconds message_limit() const;

  std::string name_;
  std::vector<int> ranks_;
  int global_rank_;
  int rank_;
  c10::intrusive_ptr<c10d::Backend> backend_;
  std::chrono::milliseconds timeout_;
  at::Device device_;
  LinkBackends links_;
};

class Pending {
 public:
  virtual ~Pending() = default;
  virtual void wait() = 0;
};

// Throws Error on every rank unless all ranks call it with the same `hash` (of their options, say).
// The text names `what` and the ranks that differ from the first. Where they differ every rank
// calls `explain` with those ranks, to say in what; it may communicate.
void check_same_on_all_ranks(
    const ProcessGroup& world, std::string_view what, uint64_t hash,
    const std::function<std::string(const std::vector<int>& others)>& explain = {});

}  // namespace megatron
