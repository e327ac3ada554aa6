// A rank's world, handed to the function that a launch runs on every rank.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include "megatron/parallel/process_group_collection.h"
#include "megatron/parallel/rank_grid.h"

namespace megatron {

// Makes the groups of a rank over one transport (gloo, NCCL, or the in-process backend).
class Transport {
 public:
  virtual ~Transport() = default;
  // Collective over `ranks`: every rank of the list calls it with the same name, others do not call
  // it. A name may come again with the same ranks (a second layout): each time makes a backend of
  // its own.
  virtual c10::intrusive_ptr<c10d::Backend> make_backend(const std::string& name,
                                                         const std::vector<int>& ranks) = 0;
  // Collective over two ranks, with make_backend's rules: a backend for messages from the first to
  // the second, connected when it is returned. Null where messages that differ in tag or direction
  // never wait for each other: then there is no need of it.
  virtual c10::intrusive_ptr<c10d::Backend> make_link(const std::string& /*name*/,
                                                      const std::vector<int>& /*ranks*/) {
    return nullptr;
  }
  // "gloo", "nccl" or "threads": part of the fingerprint that says what is bit-identical.
  virtual std::string kind() const = 0;
};

struct RankContext {
  int rank = 0;
  int world_size = 1;
  int local_rank = 0;
  int threads = 1;  // compute threads of this rank, already set
  at::Device device = at::kCPU;
  std::chrono::milliseconds timeout{600'000};
  std::shared_ptr<Transport> transport;  // null in a world of one

  // The groups of this rank in a layout, in Megatron's rank order. Collective over the world.
  // Groups of the same ranks share a backend; pp has pipeline_links() where the transport makes
  // links. Throws Error where the sizes do not multiply to
  // world_size.
  ProcessGroupCollection make_groups(const ParallelSizes& sizes) const;
};

}  // namespace megatron
