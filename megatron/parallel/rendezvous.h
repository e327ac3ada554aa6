// The store through which the ranks of a world find each other and report failures.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include <torch/csrc/distributed/c10d/Store.hpp>

#include "megatron/parallel/communication_error.h"
#include "megatron/parallel/rank_environment.h"

namespace megatron {

// A store that this process serves at `host`, a loopback address, on `port`, or on a free port for
// 0. Throws Error where the port is in use.
struct LocalStore {
  c10::intrusive_ptr<c10d::Store> store;
  int port;
};
LocalStore host_local_store(const std::string& host, int port, std::chrono::milliseconds timeout);

// The store of a rank: serves it where identity.hosts_store, else connects to it. Throws Error.
c10::intrusive_ptr<c10d::Store> join_store(const RankIdentity& identity,
                                           std::chrono::milliseconds timeout);

// Why a rank failed; reported through the store to the process that started the rank.
struct RankFailure {
  FailureKind kind = FailureKind::own;
  std::string text;
};
void report_failure(c10d::Store& store, int rank, const RankFailure& failure);
std::optional<RankFailure> reported_failure(c10d::Store& store, int rank);

// A rank that ends, for whatever reason, announces it with leave_world. ranks_still_running waits
// until all have, or for `limit`, and returns the ranks that have not: after a failure, those that
// hang or were killed.
void leave_world(c10d::Store& store, int rank);
std::vector<int> ranks_still_running(c10d::Store& store, int world_size,
                                     std::chrono::milliseconds limit);

}  // namespace megatron
