// The state that ranks as threads of one process share: the collectives in which they meet, their
// mailboxes, and which ranks have ended.
//
// Collectives are asynchronous. Posting a call never waits. The ranks that wait for a complete
// collective share its work, so that a rank that waits late delays nobody; the result does not
// depend on which rank does which piece.
//
// Failures are deterministic. A rank that fails ends, and a wait fails exactly when it needs
// something that an ended rank has not delivered. What each rank does therefore depends on the data
// that reach it, never on when another rank fails.
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

  // The rank posts and sends nothing more. Waits that need it fail.
  void rank_ended(int rank);
  // The group of that name; the first rank to ask creates it.
  std::shared_ptr<ThreadGroup> group(const std::string& name, const std::vector<int>& ranks);

 private:
  friend class ThreadGroup;
  std::mutex mutex_;  // guards everything here and in the groups
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

// One rank's call of a collective. `inputs` and `outputs` hold one tensor, or one for each rank
// where the kind scatters (inputs) or gathers (outputs).
struct CollectiveCall {
  CollectiveKind kind = CollectiveKind::barrier;
  int64_t detail = 0;  // the reduction, or the root
  int64_t numel = 0;   // elements for one rank; must be the same on all ranks
  at::ScalarType dtype = at::kByte;
  std::vector<at::Tensor> inputs, outputs;
};

class ThreadGroup {
 public:
  using Clock = std::chrono::steady_clock;
  struct Collective;

  ThreadGroup(ThreadWorld& world, std::string name, std::vector<int> ranks);

  // The n-th post of each member belongs to the n-th collective of the group.
  std::shared_ptr<Collective> post(int member, CollectiveCall call);
  // Whether finish() would not wait for another rank's call.
  bool is_ready(const Collective& collective);
  // Waits for the calls of all members and does a share of the work. Throws CommunicationError
  // where the calls do not match, a member has ended without its call, or time is up.
  void finish(Collective& collective, int member, std::chrono::milliseconds timeout);

  // Messages are buffered: sending never waits. post_receive gives the number of the message to
  // receive in the channel (source, destination, tag).
  void send(int source, int destination, int tag, at::Tensor message);
  uint64_t post_receive(int source, int destination, int tag);
  bool has_message(int source, int destination, int tag, uint64_t number);
  at::Tensor receive(int source, int destination, int tag, uint64_t number,
                     std::chrono::milliseconds timeout);

 private:
  friend class ThreadWorld;
  struct Channel {
    uint64_t sent = 0, awaited = 0;
    std::map<uint64_t, at::Tensor> messages;
  };
  using Lock = std::unique_lock<std::mutex>;

  void notify_all_members();
  // The first disagreement between the new call of `member` and the calls before it, or "".
  std::string find_mismatch(const Collective& collective, int member,
                            const CollectiveCall& call) const;
  // Waits until `done`. Throws CommunicationError where a rank that `missing` lists has ended, or
  // time is up. `missing` gives the group ranks whose calls or messages `done` needs.
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
};

}  // namespace megatron
