// What ranks that are threads of one process share: the meeting points of their collectives,
// mailboxes for their messages, and one switch that ends every wait.
//
// Collectives are asynchronous: a rank posts its part and never waits in doing so; whoever waits
// for the result and finds all parts there takes pieces of the work until none is left. So a rank
// that is slow to wait holds nobody up, and the result does not depend on who does which piece.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <tuple>
#include <vector>

#include <ATen/core/Tensor.h>

namespace megatron {

class ThreadGroup;

class ThreadWorld {
 public:
  explicit ThreadWorld(int world_size);
  ~ThreadWorld();

  // Ends every wait, now and later, with an Error that gives the reason. The first reason stays.
  void abort(const std::string& reason);
  // This rank takes part no more: who waits for it fails at once.
  void rank_ended(int rank);
  // The group of that name, made by the first rank that asks.
  std::shared_ptr<ThreadGroup> group(const std::string& name, const std::vector<int>& ranks);

 private:
  friend class ThreadGroup;
  std::mutex mutex_;  // guards everything here and in the groups
  std::string abort_reason_;
  std::vector<bool> ended_;
  std::map<std::string, std::shared_ptr<ThreadGroup>> groups_;
};

enum class CollectiveKind {
  all_reduce,
  reduce_scatter,
  all_gather,
  broadcast,
  all_to_all,
  barrier
};

// What one rank brings to a collective. `inputs` and `outputs` hold one tensor, or one for each
// rank where the kind scatters (inputs) or gathers (outputs).
struct CollectivePart {
  CollectiveKind kind = CollectiveKind::barrier;
  int64_t detail = 0;  // the reduction, or the root
  int64_t numel = 0;   // elements of one piece; must be the same on all ranks
  at::ScalarType dtype = at::kByte;
  std::vector<at::Tensor> inputs, outputs;
};

class ThreadGroup {
 public:
  using Clock = std::chrono::steady_clock;
  struct Collective;

  ThreadGroup(ThreadWorld& world, std::string name, std::vector<int> ranks);

  // Collectives: the n-th post of each member makes the n-th collective of the group. Throws Error
  // where members bring different operations, types or sizes.
  std::shared_ptr<Collective> post(int member, CollectivePart part);
  bool arrived(const Collective& collective);
  void finish(Collective& collective, int member, std::chrono::milliseconds timeout);

  // Messages: buffered, so sending never waits. A receiver posts first, which fixes which message
  // of the (source, destination, tag) channel it takes.
  void send(int source, int destination, int tag, at::Tensor message);
  uint64_t post_receive(int source, int destination, int tag);
  bool has_message(int source, int destination, int tag, uint64_t ticket);
  at::Tensor receive(int source, int destination, int tag, uint64_t ticket,
                     std::chrono::milliseconds timeout);

 private:
  friend class ThreadWorld;
  struct Channel {
    uint64_t sent = 0, awaited = 0;
    std::map<uint64_t, at::Tensor> messages;
  };
  using Lock = std::unique_lock<std::mutex>;

  void notify_all_members();
  void check_usable() const;
  // Waits until `done`; throws when the world is aborted, a rank that `missing` lists has ended, or
  // time is up. `missing` gives the group ranks that the wait is for.
  template <typename Done, typename Missing>
  void wait(Lock& lock, int member, Clock::time_point deadline, Done&& done, Missing&& missing);
  void run_unit(Collective& collective, int64_t unit) const;

  ThreadWorld& world_;
  std::string name_;
  std::vector<int> ranks_;
  std::vector<std::condition_variable> changed_;  // one for each member
  std::vector<uint64_t> next_;                    // the next collective of each member
  std::map<uint64_t, std::shared_ptr<Collective>> gathering_;
  std::map<std::tuple<int, int, int>, Channel> channels_;
  std::string failure_;  // set by a mismatch: the group is of no use any more
};

}  // namespace megatron
