// What launch() passes to the function that it runs on every rank.
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

// Creates the communication backends of a rank: gloo, NCCL, or threads of one process.
class Transport {
 public:
  virtual ~Transport() = default;
  // Collective over `ranks`: exactly these ranks call it, with the same name. Calling it again with
  // the same name and ranks (for a second layout) creates another backend.
  virtual c10::intrusive_ptr<c10d::Backend> make_backend(const std::string& name,
                                                         const std::vector<int>& ranks) = 0;
  // A backend for messages from the first of two ranks to the second, already connected. Collective
  // as make_backend. Null for a transport whose messages never wait for messages of another tag or
  // direction: it needs no links.
  virtual c10::intrusive_ptr<c10d::Backend> make_link(const std::string& /*name*/,
                                                      const std::vector<int>& /*ranks*/) {
    return nullptr;
  }
  // "gloo", "nccl" or "threads": part of the fingerprint of bit-identical runs.
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
  // Groups with the same ranks share a backend. pp gets pipeline_links() where the transport
  // creates links. Throws Error where the sizes do not multiply to world_size.
  ProcessGroupCollection make_groups(const ParallelSizes& sizes) const;
};

}  // namespace megatron
