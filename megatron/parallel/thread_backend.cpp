// Translates c10d's operations into the calls and messages of thread_world.h.
#include "megatron/parallel/thread_backend.h"

#include <algorithm>
#include <functional>
#include <numeric>
#include <utility>

#include <fmt/ranges.h>

#include "megatron/base/error.h"

namespace megatron {
namespace {

using Milliseconds = std::chrono::milliseconds;

// A collective or receive of a rank thread. The threads that wait do the work.
class ThreadWork final : public c10d::Work {
 public:
  ThreadWork(int rank, c10d::OpType type, Milliseconds timeout, std::function<bool()> ready,
             std::function<void(Milliseconds)> finish)
      : Work(rank, type), timeout_(timeout), ready_(std::move(ready)), finish_(std::move(finish)) {}

  bool wait(Milliseconds timeout) override {
    if (finish_) {
      // Cleared before the call, so that a failed wait is never repeated.
      const auto finish_once = std::exchange(finish_, nullptr);
      try {
        finish_once(timeout == kNoTimeout ? timeout_ : timeout);
      } catch (...) {
        exception_ = std::current_exception();
      }
      completed_ = true;
    }
    if (exception_) std::rethrow_exception(exception_);
    return true;
  }
  void synchronize() override { wait(kNoTimeout); }
  bool isCompleted() override {
    if (!completed_ && ready_()) {
      try {
        wait(kNoTimeout);
      } catch (const std::exception&) {
        // kept in exception_ for isSuccess() and wait()
      }
    }
    return completed_;
  }
  bool isSuccess() const override { return completed_ && !exception_; }

 private:
  Milliseconds timeout_;
  std::function<bool()> ready_;
  std::function<void(Milliseconds)> finish_;
};

const at::Tensor& only_tensor(const std::vector<at::Tensor>& tensors) {
  check(tensors.size() == 1, "Expected one tensor for each rank, but got {}", tensors.size());
  return tensors[0];
}

void check_contiguous(const std::vector<at::Tensor>& tensors) {
  for (const auto& tensor : tensors) {
    check(tensor.is_contiguous(), "Expected a contiguous tensor, but got strides [{}]",
          fmt::join(tensor.strides(), ", "));
  }
}

// Equal chunks of the flat elements of a tensor.
std::vector<at::Tensor> flat_chunks(const at::Tensor& base, int count) {
  check_contiguous({base});
  check(base.numel() % count == 0, "Expected {} elements to divide by the {} ranks of the group",
        base.numel(), count);
  const int64_t length = base.numel() / count;
  const at::Tensor flat = base.detach().view({-1});
  std::vector<at::Tensor> chunks;
  for (int i = 0; i < count; ++i) chunks.push_back(flat.narrow(0, i * length, length));
  return chunks;
}

std::vector<at::Tensor> row_chunks(const at::Tensor& base, std::vector<int64_t> splits, int count) {
  check_contiguous({base});
  if (splits.empty()) return flat_chunks(base, count);
  const int64_t rows = std::accumulate(splits.begin(), splits.end(), int64_t{0});
  check(static_cast<int>(splits.size()) == count && rows == base.size(0),
        "Expected {} splits that sum to {} rows, but got [{}]", count, base.size(0),
        fmt::join(splits, ", "));
  std::vector<at::Tensor> chunks;
  int64_t row = 0;
  for (const int64_t split : splits) {
    chunks.push_back(base.detach().narrow(0, row, split));
    row += split;
  }
  return chunks;
}

void check_chunks(const std::vector<at::Tensor>& chunks, const at::Tensor& single, int size) {
  check(static_cast<int>(chunks.size()) == size,
        "Expected {} tensors, one for each rank, but got {}", size, chunks.size());
  check_contiguous(chunks);
  check_contiguous({single});
  for (const auto& chunk : chunks) {
    check(chunk.numel() == single.numel() && chunk.scalar_type() == single.scalar_type(),
          "Expected tensors of {} {} elements, but got one of {} {}", single.numel(),
          at::toString(single.scalar_type()), chunk.numel(), at::toString(chunk.scalar_type()));
  }
}

}  // namespace

ThreadBackend::ThreadBackend(std::shared_ptr<ThreadWorld> world, std::shared_ptr<ThreadGroup> group,
                             int group_rank, int group_size, Milliseconds timeout)
    : Backend(group_rank, group_size),
      world_(std::move(world)),
      group_(std::move(group)),
      timeout_(timeout) {}

Milliseconds ThreadBackend::limit(Milliseconds wanted) const {
  return wanted == c10d::kUnsetTimeout ? timeout_ : wanted;
}

ThreadBackend::WorkPtr ThreadBackend::start(CollectiveCall call, Milliseconds timeout) {
  auto collective = group_->post(rank_, std::move(call));
  return c10::make_intrusive<ThreadWork>(
      rank_, c10d::OpType::UNKNOWN, limit(timeout),
      [group = group_, collective] { return group->is_ready(*collective); },
      [world = world_, group = group_, collective, member = rank_](Milliseconds time) {
        group->finish(*collective, member, time);
      });
}

ThreadBackend::WorkPtr ThreadBackend::broadcast(std::vector<at::Tensor>& tensors,
                                                const c10d::BroadcastOptions& options) {
  const at::Tensor& tensor = only_tensor(tensors);
  check_contiguous(tensors);
  check(options.rootRank >= 0 && options.rootRank < size_, "Expected a root of 0 to {}, but got {}",
        size_ - 1, options.rootRank);
  CollectiveCall call;
  call.kind = CollectiveKind::broadcast;
  call.detail = options.rootRank;
  call.numel = tensor.numel();
  call.dtype = tensor.scalar_type();
  call.inputs = call.outputs = {tensor};
  return start(std::move(call), options.timeout);
}

ThreadBackend::WorkPtr ThreadBackend::allreduce(std::vector<at::Tensor>& tensors,
                                                const c10d::AllreduceOptions& options) {
  const at::Tensor& tensor = only_tensor(tensors);
  check_contiguous(tensors);
  CollectiveCall call;
  call.kind = CollectiveKind::all_reduce;
  call.detail = options.reduceOp.op_;
  call.numel = tensor.numel();
  call.dtype = tensor.scalar_type();
  call.inputs = call.outputs = {tensor};
  return start(std::move(call), options.timeout);
}

ThreadBackend::WorkPtr ThreadBackend::allgather(std::vector<std::vector<at::Tensor>>& outputs,
                                                std::vector<at::Tensor>& inputs,
                                                const c10d::AllgatherOptions& options) {
  const at::Tensor& input = only_tensor(inputs);
  check(outputs.size() == 1, "Expected one list of outputs, but got {}", outputs.size());
  check_chunks(outputs[0], input, size_);
  CollectiveCall call;
  call.kind = CollectiveKind::all_gather;
  call.numel = input.numel();
  call.dtype = input.scalar_type();
  call.inputs = {input};
  call.outputs = outputs[0];
  return start(std::move(call), options.timeout);
}

ThreadBackend::WorkPtr ThreadBackend::_allgather_base(at::Tensor& output, at::Tensor& input,
                                                      const c10d::AllgatherOptions& options) {
  std::vector<std::vector<at::Tensor>> outputs{flat_chunks(output, size_)};
  std::vector<at::Tensor> inputs{input};
  return allgather(outputs, inputs, options);
}

ThreadBackend::WorkPtr ThreadBackend::reduce_scatter(std::vector<at::Tensor>& outputs,
                                                     std::vector<std::vector<at::Tensor>>& inputs,
                                                     const c10d::ReduceScatterOptions& options) {
  const at::Tensor& output = only_tensor(outputs);
  check(inputs.size() == 1, "Expected one list of inputs, but got {}", inputs.size());
  check_chunks(inputs[0], output, size_);
  CollectiveCall call;
  call.kind = CollectiveKind::reduce_scatter;
  call.detail = options.reduceOp.op_;
  call.numel = output.numel();
  call.dtype = output.scalar_type();
  call.inputs = inputs[0];
  call.outputs = {output};
  return start(std::move(call), options.timeout);
}

ThreadBackend::WorkPtr ThreadBackend::_reduce_scatter_base(
    at::Tensor& output, at::Tensor& input, const c10d::ReduceScatterOptions& options) {
  std::vector<at::Tensor> outputs{output};
  std::vector<std::vector<at::Tensor>> inputs{flat_chunks(input, size_)};
  return reduce_scatter(outputs, inputs, options);
}

ThreadBackend::WorkPtr ThreadBackend::alltoall_base(at::Tensor& output, at::Tensor& input,
                                                    std::vector<int64_t>& output_splits,
                                                    std::vector<int64_t>& input_splits,
                                                    const c10d::AllToAllOptions& options) {
  check(output.scalar_type() == input.scalar_type(), "Expected an output of {}, but got {}",
        at::toString(input.scalar_type()), at::toString(output.scalar_type()));
  CollectiveCall call;
  call.kind = CollectiveKind::all_to_all;
  call.dtype = input.scalar_type();
  call.inputs = row_chunks(input, input_splits, size_);
  call.outputs = row_chunks(output, output_splits, size_);
  return start(std::move(call), options.timeout);
}

ThreadBackend::WorkPtr ThreadBackend::send(std::vector<at::Tensor>& tensors, int destination,
                                           int tag) {
  const at::Tensor& tensor = only_tensor(tensors);
  check(destination >= 0 && destination < size_, "Expected a destination of 0 to {}, but got {}",
        size_ - 1, destination);
  group_->send(rank_, destination, tag, tensor.detach().clone(at::MemoryFormat::Contiguous));
  return c10::make_intrusive<ThreadWork>(
      rank_, c10d::OpType::SEND, timeout_, [] { return true; }, [](Milliseconds) {});
}

ThreadBackend::WorkPtr ThreadBackend::recv(std::vector<at::Tensor>& tensors, int source, int tag) {
  const at::Tensor tensor = only_tensor(tensors);
  check_contiguous(tensors);
  check(source >= 0 && source < size_, "Expected a source of 0 to {}, but got {}", size_ - 1,
        source);
  const uint64_t number = group_->post_receive(source, rank_, tag);
  return c10::make_intrusive<ThreadWork>(
      rank_, c10d::OpType::RECV, timeout_,
      [group = group_, source, member = rank_, tag, number] {
        return group->has_message(source, member, tag, number);
      },
      [world = world_, group = group_, source, member = rank_, tag, number,
       tensor](Milliseconds time) {
        const at::Tensor message = group->receive(source, member, tag, number, time);
        check(message.numel() == tensor.numel() && message.scalar_type() == tensor.scalar_type(),
              "the sender sent {} {} elements, but the receiver expects {} {}", message.numel(),
              at::toString(message.scalar_type()), tensor.numel(),
              at::toString(tensor.scalar_type()));
        const at::NoGradGuard no_grad;
        tensor.detach().copy_(message.view(tensor.sizes()));
      });
}

ThreadBackend::WorkPtr ThreadBackend::barrier(const c10d::BarrierOptions& options) {
  return start(CollectiveCall{}, options.timeout);
}

ThreadTransport::ThreadTransport(std::shared_ptr<ThreadWorld> world, int rank, Milliseconds timeout)
    : world_(std::move(world)), rank_(rank), timeout_(timeout) {}

c10::intrusive_ptr<c10d::Backend> ThreadTransport::make_backend(const std::string& name,
                                                                const std::vector<int>& ranks) {
  const auto place = std::find(ranks.begin(), ranks.end(), rank_);
  check(place != ranks.end(), "Expected rank {} among the ranks [{}] of group {}", rank_,
        fmt::join(ranks, ", "), name);
  const std::string key = fmt::format("{}[{}]", name, fmt::join(ranks, ","));
  auto group = world_->group(fmt::format("{}#{}", key, made_[key]++), ranks);
  return c10::make_intrusive<ThreadBackend>(world_, std::move(group),
                                            static_cast<int>(place - ranks.begin()),
                                            static_cast<int>(ranks.size()), timeout_);
}

}  // namespace megatron
