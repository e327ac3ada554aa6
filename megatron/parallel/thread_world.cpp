// Meeting, waiting and the pieces of work of thread_world.h.
#include "megatron/parallel/thread_world.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include <ATen/ATen.h>
#include <fmt/ranges.h>

#include "megatron/base/device.h"
#include "megatron/base/error.h"
#include "megatron/base/integer_math.h"
#include "megatron/parallel/thread_reduce.h"

namespace megatron {
namespace {

constexpr int64_t kReducePiece = 1 << 15;  // elements that one thread reduces at a time

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

std::string describe(const CollectivePart& part) {
  std::string text = kind_name(part.kind);
  switch (part.kind) {
    case CollectiveKind::barrier:
      return text;
    case CollectiveKind::all_reduce:
    case CollectiveKind::reduce_scatter:
      text += part.detail == c10d::ReduceOp::SUM   ? " (sum)"
              : part.detail == c10d::ReduceOp::MAX ? " (max)"
                                                   : " (min)";
      break;
    case CollectiveKind::broadcast:
      text += fmt::format(" (from group rank {})", part.detail);
      break;
    default:
      break;
  }
  if (part.kind == CollectiveKind::all_to_all) {
    return fmt::format("{} of {}", text, at::toString(part.dtype));
  }
  return fmt::format("{} of {} {}", text, part.numel, at::toString(part.dtype));
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
  explicit Collective(size_t size) : parts(size), here(size, false) {}

  std::vector<CollectivePart> parts;
  std::vector<bool> here;
  size_t count = 0;
  int64_t units = 0, next_unit = 0, units_done = 0;
  std::string failure;

  bool complete() const { return count == here.size(); }
};

ThreadWorld::ThreadWorld(int world_size) : ended_(world_size, false) {}

ThreadWorld::~ThreadWorld() = default;

void ThreadWorld::abort(const std::string& reason) {
  const std::lock_guard lock(mutex_);
  if (abort_reason_.empty()) abort_reason_ = reason;
  for (const auto& [name, group] : groups_) group->notify_all_members();
}

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

void ThreadGroup::check_usable() const {
  if (!failure_.empty()) throw Error(failure_);
  if (!world_.abort_reason_.empty()) throw Error(world_.abort_reason_);
}

template <typename Done, typename Missing>
void ThreadGroup::wait(Lock& lock, int member, Clock::time_point deadline, Done&& done,
                       Missing&& missing) {
  while (!done()) {
    check_usable();
    for (const int other : missing()) {
      check(!world_.ended_[ranks_[other]], "rank {} has ended", ranks_[other]);
    }
    if (changed_[member].wait_until(lock, deadline) == std::cv_status::timeout && !done()) {
      check_usable();
      std::vector<int> late;
      for (const int other : missing()) late.push_back(ranks_[other]);
      fail("time is up, and rank{} [{}] did not come", late.size() == 1 ? "" : "s",
           fmt::join(late, ", "));
    }
  }
}

std::shared_ptr<ThreadGroup::Collective> ThreadGroup::post(int member, CollectivePart part) {
  // What this rank's stream still computes must be there for the others.
  if (!part.inputs.empty()) synchronize(part.inputs[0].device());
  const Lock lock(world_.mutex_);
  check_usable();
  const uint64_t number = next_[member]++;
  auto& slot = gathering_[number];
  if (!slot) slot = std::make_shared<Collective>(ranks_.size());
  const std::shared_ptr<Collective> collective = slot;

  for (size_t other = 0; other < ranks_.size(); ++other) {
    if (!collective->here[other]) continue;
    const CollectivePart& theirs = collective->parts[other];
    const bool same = part.kind == theirs.kind && part.detail == theirs.detail &&
                      part.dtype == theirs.dtype && part.numel == theirs.numel;
    if (!same) {
      // The lower rank first, whoever came first: one mistake, one text.
      const bool mine_first = member < static_cast<int>(other);
      failure_ =
          fmt::format("rank {} called {}, but rank {} called {}",
                      ranks_[mine_first ? member : other], describe(mine_first ? part : theirs),
                      ranks_[mine_first ? other : member], describe(mine_first ? theirs : part));
    }
    break;  // those that are here agree
  }
  if (part.kind == CollectiveKind::all_to_all) {
    for (size_t other = 0; other < ranks_.size(); ++other) {
      if (!collective->here[other] || !failure_.empty()) continue;
      const CollectivePart& theirs = collective->parts[other];
      const auto compare = [&](int from, const at::Tensor& sent, int to, const at::Tensor& taken) {
        if (sent.numel() == taken.numel()) return;
        failure_ = fmt::format("rank {} sends {} elements in all_to_all, but rank {} expects {}",
                               from, sent.numel(), to, taken.numel());
      };
      const auto compare_mine = [&] {
        compare(ranks_[member], part.inputs[other], ranks_[other], theirs.outputs[member]);
      };
      const auto compare_theirs = [&] {
        compare(ranks_[other], theirs.inputs[member], ranks_[member], part.outputs[other]);
      };
      // What the higher rank sends is looked at first, so that the lower one's mistake is what
      // stays.
      if (member < static_cast<int>(other)) {
        compare_theirs();
        compare_mine();
      } else {
        compare_mine();
        compare_theirs();
      }
    }
  }
  if (!failure_.empty()) {
    notify_all_members();
    throw Error(failure_);
  }

  const int64_t size = static_cast<int64_t>(ranks_.size());
  const int64_t pieces = ceil_div(part.numel, kReducePiece);
  collective->parts[member] = std::move(part);
  collective->here[member] = true;
  if (++collective->count == ranks_.size()) {
    switch (collective->parts[0].kind) {
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
    notify_all_members();
  }
  return collective;
}

bool ThreadGroup::arrived(const Collective& collective) {
  const Lock lock(world_.mutex_);
  return collective.complete();
}

void ThreadGroup::finish(Collective& collective, int member, std::chrono::milliseconds timeout) {
  const auto deadline = Clock::now() + timeout;
  Lock lock(world_.mutex_);
  wait(
      lock, member, deadline, [&] { return collective.complete(); },
      [&] {
        std::vector<int> absent;
        for (size_t i = 0; i < ranks_.size(); ++i) {
          if (!collective.here[i]) absent.push_back(static_cast<int>(i));
        }
        return absent;
      });
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
  // The remaining pieces are being worked on: nothing can keep them from ending, so no time limit
  // here.
  while (collective.units_done < collective.units) changed_[member].wait(lock);
  if (!collective.failure.empty()) throw Error(collective.failure);
}

void ThreadGroup::run_unit(Collective& collective, int64_t unit) const {
  const auto& parts = collective.parts;
  const int64_t size = static_cast<int64_t>(parts.size());
  const auto op = static_cast<c10d::ReduceOp::RedOpType>(parts[0].detail);
  const at::NoGradGuard no_grad;
  switch (parts[0].kind) {
    case CollectiveKind::all_reduce: {
      std::vector<at::Tensor> tensors;
      for (const auto& part : parts) tensors.push_back(part.outputs[0]);
      const int64_t begin = unit * kReducePiece;
      const int64_t end = std::min(begin + kReducePiece, parts[0].numel);
      reduce_in_rank_order(tensors, tensors, op, begin, end);
      break;
    }
    case CollectiveKind::reduce_scatter: {
      const int64_t to = unit % size, begin = unit / size * kReducePiece;
      std::vector<at::Tensor> inputs;
      for (const auto& part : parts) inputs.push_back(part.inputs[to]);
      const int64_t end = std::min(begin + kReducePiece, parts[0].numel);
      reduce_in_rank_order(inputs, {parts[to].outputs[0]}, op, begin, end);
      break;
    }
    case CollectiveKind::all_gather:
      copy_tensor(parts[unit % size].inputs[0], parts[unit / size].outputs[unit % size]);
      break;
    case CollectiveKind::all_to_all:
      copy_tensor(parts[unit % size].inputs[unit / size], parts[unit / size].outputs[unit % size]);
      break;
    case CollectiveKind::broadcast:
      if (unit != parts[0].detail) {
        copy_tensor(parts[parts[0].detail].outputs[0], parts[unit].outputs[0]);
      }
      break;
    case CollectiveKind::barrier:
      break;
  }
  if (!parts[0].outputs.empty()) synchronize(parts[0].outputs[0].device());
}

void ThreadGroup::send(int source, int destination, int tag, at::Tensor message) {
  synchronize(message.device());
  const Lock lock(world_.mutex_);
  check_usable();
  check(!world_.ended_[ranks_[destination]], "rank {} has ended", ranks_[destination]);
  Channel& channel = channels_[{source, destination, tag}];
  channel.messages.emplace(channel.sent++, std::move(message));
  changed_[destination].notify_all();
}

uint64_t ThreadGroup::post_receive(int source, int destination, int tag) {
  const Lock lock(world_.mutex_);
  check_usable();
  return channels_[{source, destination, tag}].awaited++;
}

bool ThreadGroup::has_message(int source, int destination, int tag, uint64_t ticket) {
  const Lock lock(world_.mutex_);
  return channels_[{source, destination, tag}].messages.count(ticket) > 0;
}

at::Tensor ThreadGroup::receive(int source, int destination, int tag, uint64_t ticket,
                                std::chrono::milliseconds timeout) {
  const auto deadline = Clock::now() + timeout;
  Lock lock(world_.mutex_);
  Channel& channel = channels_[{source, destination, tag}];
  wait(
      lock, destination, deadline, [&] { return channel.messages.count(ticket) > 0; },
      [&] { return std::vector<int>{source}; });
  at::Tensor message = std::move(channel.messages.at(ticket));
  channel.messages.erase(ticket);
  return message;
}

}  // namespace megatron
