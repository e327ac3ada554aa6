// The store that the ranks of a world meet at, and what they leave there when they fail.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include <torch/csrc/distributed/c10d/Store.hpp>

#include "megatron/parallel/rank_environment.h"

namespace megatron {

// A store served by this process at `host` (a loopback address), at `port` or, for 0, at a free
// port. Throws Error where the port is in use.
struct LocalStore {
  c10::intrusive_ptr<c10d::Store> store;
  int port;
};
LocalStore host_local_store(const std::string& host, int port, std::chrono::milliseconds timeout);

// The store of a rank: served by it where `identity` says so, else joined. Throws Error.
c10::intrusive_ptr<c10d::Store> join_store(const RankIdentity& identity,
                                           std::chrono::milliseconds timeout);

// Why a rank failed, left in the store for the process that started it.
struct RankFailure {
  bool communication = false;  // another rank may be the cause
  std::string text;
};
void report_failure(c10d::Store& store, int rank, const RankFailure& failure);
std::optional<RankFailure> reported_failure(c10d::Store& store, int rank);

// A rank that ends, for whatever reason, says so. The ranks that have not said it `limit` after the
// call, which is earlier where all have: those that hang or were killed, if the others gave up.
void leave_world(c10d::Store& store, int rank);
std::vector<int> ranks_still_there(c10d::Store& store, int world_size,
                                   std::chrono::milliseconds limit);

}  // namespace megatron
