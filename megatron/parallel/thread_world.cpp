// Waiting, and the work of collectives.
#include "megatron/parallel/thread_world.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include <ATen/ATen.h>
#include <fmt/ranges.h>

#include "megatron/base/device.h"
#include "megatron/base/integer_math.h"
#include "megatron/parallel/communication_error.h"
#include "megatron/parallel/thread_reduce.h"

namespace megatron {
namespace {

constexpr int64_t kReducePiece = 1 << 15;  // elements of a unit of work of a reduction

const char* kind_name(CollectiveKind kind) {
  switch (kind) {
    case CollectiveKind::all_reduce:
      return "all_reduce";
    case CollectiveKind::reduce_scatter:
      return "reduce_scatter";
    case CollectiveKind::all_gather:
      return "all_gather";
    case CollectiveKind::broadcast:
      return "broadcast";
    case CollectiveKind::all_to_all:
      return "all_to_all";
    case CollectiveKind::barrier:
      return "barrier";
  }
  return "unknown";
}

std::string describe(const CollectiveCall& call) {
  std::string text = kind_name(call.kind);
  switch (call.kind) {
    case CollectiveKind::barrier:
      return text;
    case CollectiveKind::all_reduce:
    case CollectiveKind::reduce_scatter:
      text += call.detail == c10d::ReduceOp::SUM   ? " (sum)"
              : call.detail == c10d::ReduceOp::MAX ? " (max)"
                                                   : " (min)";
      break;
    case CollectiveKind::broadcast:
      text += fmt::format(" (from group rank {})", call.detail);
      break;
    default:
      break;
  }
  if (call.kind == CollectiveKind::all_to_all) {
    return fmt::format("{} of {}", text, at::toString(call.dtype));
  }
  return fmt::format("{} of {} {}", text, call.numel, at::toString(call.dtype));
}

void copy_tensor(const at::Tensor& from, const at::Tensor& to) {
  if (to.const_data_ptr() == from.const_data_ptr() || from.numel() == 0) return;
  if (from.is_cpu() && to.is_cpu()) {
    std::memcpy(to.data_ptr(), from.const_data_ptr(), from.nbytes());
  } else {
    to.copy_(from);
  }
}

}  // namespace

struct ThreadGroup::Collective {
  explicit Collective(size_t size) : calls(size), here(size, false) {}

  std::vector<CollectiveCall> calls;
  std::vector<bool> here;  // whose call has been posted
  size_t count = 0;
  std::string mismatch;  // why the calls do not belong together
  int64_t units = 0, next_unit = 0, units_done = 0;
  std::string failure;  // of a unit of work

  bool complete() const { return count == here.size(); }
  bool is_ready() const { return complete() || !mismatch.empty(); }
};

ThreadWorld::ThreadWorld(int world_size) : ended_(world_size, false) {}

ThreadWorld::~ThreadWorld() = default;

void ThreadWorld::rank_ended(int rank) {
  const std::lock_guard lock(mutex_);
  ended_.at(rank) = true;
  for (const auto& [name, group] : groups_) group->notify_all_members();
}

std::shared_ptr<ThreadGroup> ThreadWorld::group(const std::string& name,
                                                const std::vector<int>& ranks) {
  const std::lock_guard lock(mutex_);
  auto& group = groups_[name];
  if (!group) group = std::make_shared<ThreadGroup>(*this, name, ranks);
  check(group->ranks_ == ranks, "Expected ranks [{}] of group {}, but got [{}]",
        fmt::join(group->ranks_, ", "), name, fmt::join(ranks, ", "));
  return group;
}

ThreadGroup::ThreadGroup(ThreadWorld& world, std::string name, std::vector<int> ranks)
    : world_(world),
      name_(std::move(name)),
      ranks_(std::move(ranks)),
      changed_(ranks_.size()),
      next_(ranks_.size(), 0) {}

void ThreadGroup::notify_all_members() {
  for (auto& changed : changed_) changed.notify_all();
}

template <typename Done, typename Missing>
void ThreadGroup::wait(Lock& lock, int member, Clock::time_point deadline, Done&& done,
                       Missing&& missing) {
  while (!done()) {
    for (const int other : missing()) {
      if (!world_.ended_[ranks_[other]]) continue;
      throw CommunicationError(FailureKind::peer_ended,
                               fmt::format("rank {} has ended", ranks_[other]));
    }
    if (changed_[member].wait_until(lock, deadline) == std::cv_status::timeout && !done()) {
      std::vector<int> late;
      for (const int other : missing()) late.push_back(ranks_[other]);
      throw CommunicationError(FailureKind::communication,
                               fmt::format("time is up, and rank{} [{}] did not come",
                                           late.size() == 1 ? "" : "s", fmt::join(late, ", ")));
    }
  }
}

std::string ThreadGroup::find_mismatch(const Collective& collective, int member,
                                       const CollectiveCall& call) const {
  std::string mismatch;
  for (size_t other = 0; other < ranks_.size() && mismatch.empty(); ++other) {
    if (!collective.here[other]) continue;
    const CollectiveCall& theirs = collective.calls[other];
    // The lower rank comes first in every text, whichever of the two came first.
    const bool mine_first = member < static_cast<int>(other);
    if (call.kind != theirs.kind || call.detail != theirs.detail || call.dtype != theirs.dtype ||
        call.numel != theirs.numel) {
      mismatch =
          fmt::format("rank {} called {}, but rank {} called {}",
                      ranks_[mine_first ? member : other], describe(mine_first ? call : theirs),
                      ranks_[mine_first ? other : member], describe(mine_first ? theirs : call));
      continue;
    }
    if (call.kind != CollectiveKind::all_to_all) continue;
    const auto compare = [&](int from, const at::Tensor& sent, int to, const at::Tensor& expected) {
      if (sent.numel() == expected.numel() || !mismatch.empty()) return;
      mismatch = fmt::format("rank {} sends {} elements in all_to_all, but rank {} expects {}",
                             from, sent.numel(), to, expected.numel());
    };
    const auto compare_mine = [&] {
      compare(ranks_[member], call.inputs[other], ranks_[other], theirs.outputs[member]);
    };
    const auto compare_theirs = [&] {
      compare(ranks_[other], theirs.inputs[member], ranks_[member], call.outputs[other]);
    };
    if (mine_first) {
      compare_mine();
      compare_theirs();
    } else {
      compare_theirs();
      compare_mine();
    }
  }
  return mismatch;
}

std::shared_ptr<ThreadGroup::Collective> ThreadGroup::post(int member, CollectiveCall call) {
  // Work that this rank's stream still computes must be visible to the others.
  if (!call.inputs.empty()) synchronize(call.inputs[0].device());
  const Lock lock(world_.mutex_);
  const uint64_t number = next_[member]++;
  auto& slot = gathering_[number];
  if (!slot) slot = std::make_shared<Collective>(ranks_.size());
  const std::shared_ptr<Collective> collective = slot;

  if (collective->mismatch.empty()) collective->mismatch = find_mismatch(*collective, member, call);
  const int64_t size = static_cast<int64_t>(ranks_.size());
  const int64_t pieces = ceil_div(call.numel, kReducePiece);
  collective->calls[member] = std::move(call);
  collective->here[member] = true;
  if (++collective->count == ranks_.size()) {
    switch (collective->calls[0].kind) {
      case CollectiveKind::all_reduce:
        collective->units = pieces;
        break;
      case CollectiveKind::reduce_scatter:
        collective->units = size * pieces;
        break;
      case CollectiveKind::all_gather:
      case CollectiveKind::all_to_all:
        collective->units = size * size;
        break;
      case CollectiveKind::broadcast:
        collective->units = size;
        break;
      case CollectiveKind::barrier:
        break;
    }
    gathering_.erase(number);
  }
  if (collective->is_ready()) notify_all_members();
  return collective;
}

bool ThreadGroup::is_ready(const Collective& collective) {
  const Lock lock(world_.mutex_);
  return collective.is_ready();
}

void ThreadGroup::finish(Collective& collective, int member, std::chrono::milliseconds timeout) {
  const auto deadline = Clock::now() + timeout;
  Lock lock(world_.mutex_);
  wait(
      lock, member, deadline, [&] { return collective.is_ready(); },
      [&] {
        std::vector<int> absent;
        for (size_t i = 0; i < ranks_.size(); ++i) {
          if (!collective.here[i]) absent.push_back(static_cast<int>(i));
        }
        return absent;
      });
  if (!collective.mismatch.empty())
    throw CommunicationError(FailureKind::communication, collective.mismatch);
  while (collective.next_unit < collective.units) {
    const int64_t unit = collective.next_unit++;
    lock.unlock();
    std::string failure;
    try {
      run_unit(collective, unit);
    } catch (const std::exception& error) {
      failure = error.what();
    }
    lock.lock();
    if (collective.failure.empty()) collective.failure = failure;
    if (++collective.units_done == collective.units) notify_all_members();
  }
  // Other members work on the remaining units and will finish them: no time limit here.
  while (collective.units_done < collective.units) changed_[member].wait(lock);
  if (!collective.failure.empty())
    throw CommunicationError(FailureKind::communication, collective.failure);
}

void ThreadGroup::run_unit(Collective& collective, int64_t unit) const {
  const auto& calls = collective.calls;
  const int64_t size = static_cast<int64_t>(calls.size());
  const auto op = static_cast<c10d::ReduceOp::RedOpType>(calls[0].detail);
  const at::NoGradGuard no_grad;
  switch (calls[0].kind) {
    case CollectiveKind::all_reduce: {
      std::vector<at::Tensor> tensors;
      for (const auto& call : calls) tensors.push_back(call.outputs[0]);
      const int64_t begin = unit * kReducePiece;
      const int64_t end = std::min(begin + kReducePiece, calls[0].numel);
      reduce_in_rank_order(tensors, tensors, op, begin, end);
      break;
    }
    case CollectiveKind::reduce_scatter: {
      const int64_t to = unit % size, begin = unit / size * kReducePiece;
      std::vector<at::Tensor> inputs;
      for (const auto& call : calls) inputs.push_back(call.inputs[to]);
      const int64_t end = std::min(begin + kReducePiece, calls[0].numel);
      reduce_in_rank_order(inputs, {calls[to].outputs[0]}, op, begin, end);
      break;
    }
    case CollectiveKind::all_gather:
      copy_tensor(calls[unit % size].inputs[0], calls[unit / size].outputs[unit % size]);
      break;
    case CollectiveKind::all_to_all:
      copy_tensor(calls[unit % size].inputs[unit / size], calls[unit / size].outputs[unit % size]);
      break;
    case CollectiveKind::broadcast:
      if (unit != calls[0].detail) {
        copy_tensor(calls[calls[0].detail].outputs[0], calls[unit].outputs[0]);
      }
      break;
    case CollectiveKind::barrier:
      break;
  }
  if (!calls[0].outputs.empty()) synchronize(calls[0].outputs[0].device());
}

void ThreadGroup::send(int source, int destination, int tag, at::Tensor message) {
  synchronize(message.device());
  const Lock lock(world_.mutex_);
  Channel& channel = channels_[{source, destination, tag}];
  channel.messages.emplace(channel.sent++, std::move(message));
  changed_[destination].notify_all();
}

uint64_t ThreadGroup::post_receive(int source, int destination, int tag) {
  const Lock lock(world_.mutex_);
  return channels_[{source, destination, tag}].awaited++;
}

bool ThreadGroup::has_message(int source, int destination, int tag, uint64_t number) {
  const Lock lock(world_.mutex_);
  return channels_[{source, destination, tag}].messages.count(number) > 0;
}

at::Tensor ThreadGroup::receive(int source, int destination, int tag, uint64_t number,
                                std::chrono::milliseconds timeout) {
  const auto deadline = Clock::now() + timeout;
  Lock lock(world_.mutex_);
  Channel& channel = channels_[{source, destination, tag}];
  wait(
      lock, destination, deadline, [&] { return channel.messages.count(number) > 0; },
      [&] { return std::vector<int>{source}; });
  at::Tensor message = std::move(channel.messages.at(number));
  channel.messages.erase(number);
  return message;
}

}  // namespace megatron
