// A communication group of a rank: its members and its collectives.
//
// Collectives are deterministic for a given layout and do nothing in a group of one. A failure of
// the transport becomes a CommunicationError that names rank, group and operation.
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

#include "megatron/parallel/communication_error.h"
#include "megatron/parallel/pipeline_links.h"

namespace megatron {

enum class ReduceOp { sum, max, min };

// An asynchronous operation, as c10d's Work. It keeps the tensors alive until wait(), which must be
// called once and throws CommunicationError on failure.
class Work {
 public:
  virtual ~Work() = default;
  virtual void wait() = 0;
};

// Backends with two ranks each: 0 is the source, 1 the destination.
using LinkBackends = std::map<MessageLink, c10::intrusive_ptr<c10d::Backend>>;

class ProcessGroup {
 public:
  // `backend` may be null for a group of one. `ranks` are global ranks in group order,
  // `global_rank` among them. `device` is the device whose tensors the backend accepts. `links` are
  // the links that start or end at this rank; their messages go over their own backends.
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

  // In place, on contiguous tensors with the same shape and dtype on every rank.
  void all_reduce(at::Tensor tensor, ReduceOp op = ReduceOp::sum) const;
  void broadcast(at::Tensor tensor, int group_root) const;
  // [n, ...] -> [size * n, ...]: the ranks' tensors in rank order along dimension 0.
  at::Tensor all_gather(const at::Tensor& tensor) const;
  // [size * n, ...] -> [n, ...]: this rank's shard of the sum over ranks.
  at::Tensor reduce_scatter(const at::Tensor& tensor) const;
  // [sum of input_splits, ...] -> [sum of output_splits, ...]: input_splits[r] rows go to rank r,
  // and output_splits[r] rows come from it. Both empty: equal splits.
  at::Tensor all_to_all(const at::Tensor& tensor, std::vector<int64_t> output_splits = {},
                        std::vector<int64_t> input_splits = {}) const;
  void barrier() const;

  // Asynchronous forms, on contiguous tensors; they write to `output` what the forms above return.
  // No tensor may be read or changed before wait().
  std::shared_ptr<Work> iall_reduce(at::Tensor tensor, ReduceOp op = ReduceOp::sum) const;
  std::shared_ptr<Work> iall_gather(at::Tensor output, const at::Tensor& input) const;
  std::shared_ptr<Work> ireduce_scatter(at::Tensor output, const at::Tensor& input) const;
  std::shared_ptr<Work> iall_to_all(at::Tensor output, const at::Tensor& input,
                                    std::vector<int64_t> output_splits,
                                    std::vector<int64_t> input_splits) const;

  // Point to point, by group rank. Messages between two ranks with the same tag arrive in the order
  // in which they were sent. NCCL ignores tags: all messages between two ranks must start in the
  // same order on both sides, apart from those of a link, which has an order of its own. The tensor
  // of isend must not change before wait().
  std::shared_ptr<Work> isend(const at::Tensor& tensor, int group_destination, int tag = 0) const;
  std::shared_ptr<Work> irecv(at::Tensor tensor, int group_source, int tag = 0) const;
  void recv(at::Tensor tensor, int group_source, int tag = 0) const;

 private:
  std::string description() const;
  void check_tensor(const at::Tensor& tensor, std::string_view operation) const;
  void check_member(int member, std::string_view operation) const;
  void check_splits(const at::Tensor& tensor, const std::vector<int64_t>& output_splits,
                    const std::vector<int64_t>& input_splits) const;
  // The backend of a message, and the other rank's position in it.
  struct Route {
    c10d::Backend* backend;
    int peer;
  };
  Route route_to(int destination, int tag) const;
  Route route_from(int source, int tag) const;
  // Starts an operation on `tensors`. Exceptions of `start` and of wait() become
  // CommunicationErrors. `wait_limit` is for operations without a time limit of their own.
  template <typename Start>
  std::shared_ptr<Work> begin(std::string operation, std::vector<at::Tensor> tensors, Start&& start,
                              std::chrono::milliseconds wait_limit = kNoTimeout) const;
  // c10d's messages have no option for a time limit. On a GPU wait() with a limit would block the
  // host, so there is none.
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

// Throws Error on every rank unless all ranks pass the same `hash` (of their options, say). The
// text names `what` and the ranks that differ from the first. Where some differ, every rank calls
// `explain` with those ranks to describe the difference; it may communicate.
void check_same_on_all_ranks(
    const ProcessGroup& world, std::string_view what, uint64_t hash,
    const std::function<std::string(const std::vector<int>& others)>& explain = {});

}  // namespace megatron
