// Groups of processes over NCCL, for CUDA tensors. Built only with CUDA.
#pragma once

#include <chrono>
#include <map>
#include <string>
#include <vector>

#include <torch/csrc/distributed/c10d/Store.hpp>

#include "megatron/parallel/rank_context.h"

namespace megatron {

class NcclTransport final : public Transport {
 public:
  NcclTransport(c10::intrusive_ptr<c10d::Store> store, int rank, at::Device device,
                std::chrono::milliseconds timeout);
  c10::intrusive_ptr<c10d::Backend> make_backend(const std::string& name,
                                                 const std::vector<int>& ranks) override;
  // NCCL runs the messages between two ranks of a backend in one queue, whatever their tags.
  c10::intrusive_ptr<c10d::Backend> make_link(const std::string& name,
                                              const std::vector<int>& ranks) override;
  std::string kind() const override { return "nccl"; }

 private:
  c10::intrusive_ptr<c10d::Store> store_;
  int rank_;
  at::Device device_;
  std::chrono::milliseconds timeout_;
  std::map<std::string, int> made_;
};

}  // namespace megatron
