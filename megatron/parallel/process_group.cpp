// Checks and shapes of the collectives; a c10d backend moves the data.
#include "megatron/parallel/process_group.h"

#include <algorithm>
#include <exception>
#include <numeric>
#include <utility>

#include <fmt/ranges.h>

#include "megatron/base/human_bytes.h"
#include "megatron/base/trace_range.h"
#include "megatron/parallel/communication_range.h"

namespace megatron {
namespace {

// The first line of a transport's error text, without a leading source location.
std::string short_reason(const std::exception& error) {
  std::string text = error_message(error);
  if (const auto end = text.find("] "); text.starts_with("[") && end != std::string::npos) {
    text = text.substr(end + 2);
  }
  while (!text.empty() && (text.back() == '.' || text.back() == ' ')) text.pop_back();
  return text;
}

[[noreturn]] void fail_collective(std::string_view operation, const std::string& group,
                                  const std::exception& error) {
  throw CommunicationError(
      transport_failure_kind(error),
      fmt::format("{} {} failed: {}; another rank has ended, hangs or does something else, or "
                  "needs more than --distributed-timeout-minutes",
                  operation, group, short_reason(error)));
}

c10d::ReduceOp c10d_op(ReduceOp op) {
  switch (op) {
    case ReduceOp::sum:
      return c10d::ReduceOp::SUM;
    case ReduceOp::max:
      return c10d::ReduceOp::MAX;
    case ReduceOp::min:
      return c10d::ReduceOp::MIN;
  }
  fail("Expected a reduction of sum, max or min, but got number {}", static_cast<int>(op));
}

// A trace range from the start of an operation to the end of its wait.
TraceRange begin_communication_range(const std::string& operation, const std::string& group,
                                     int global_rank, const std::vector<at::Tensor>& tensors) {
  return begin_trace_range([&] {
    std::string name =
        fmt::format("{}{}: {} over {}", kCommunicationRange, global_rank, operation, group);
    size_t bytes = 0;
    for (const at::Tensor& tensor : tensors) bytes = std::max<size_t>(bytes, tensor.nbytes());
    if (bytes > 0) name += ", " + human_bytes(static_cast<int64_t>(bytes));
    return name;
  });
}

// An operation in flight and the tensors that it reads or writes.
class BackendWork final : public Work {
 public:
  BackendWork(c10::intrusive_ptr<c10d::Work> work, std::vector<at::Tensor> tensors,
              std::string operation, std::string group, std::chrono::milliseconds timeout,
              TraceRange range)
      : work_(std::move(work)),
        tensors_(std::move(tensors)),
        operation_(std::move(operation)),
        group_(std::move(group)),
        timeout_(timeout),
        range_(std::move(range)) {}

  void wait() override {
    if (!work_) return;
    const auto work = std::exchange(work_, nullptr);
    try {
      work->wait(timeout_);
    } catch (const std::exception& error) {
      fail_collective(operation_, group_, error);
    }
    tensors_.clear();
    range_.reset();
  }

 private:
  c10::intrusive_ptr<c10d::Work> work_;
  std::vector<at::Tensor> tensors_;
  std::string operation_;
  std::string group_;
  std::chrono::milliseconds timeout_;
  TraceRange range_;
};

class CompletedWork final : public Work {
 public:
  void wait() override {}
};

}  // namespace

ProcessGroup::ProcessGroup(std::string name, std::vector<int> ranks, int global_rank,
                           c10::intrusive_ptr<c10d::Backend> backend,
                           std::chrono::milliseconds timeout, at::Device device, LinkBackends links)
    : name_(std::move(name)),
      ranks_(std::move(ranks)),
      global_rank_(global_rank),
      backend_(std::move(backend)),
      timeout_(timeout),
      device_(device),
      links_(std::move(links)) {
  const auto place = std::find(ranks_.begin(), ranks_.end(), global_rank);
  check(place != ranks_.end(), "Expected rank {} in group {}, but its ranks are [{}]", global_rank,
        name_, fmt::join(ranks_, ", "));
  rank_ = static_cast<int>(place - ranks_.begin());
  check(size() == 1 || backend_, "Expected a backend for group {} of {} ranks, but got none", name_,
        size());
}

std::string ProcessGroup::description() const {
  return fmt::format("over group {} (ranks [{}]) on rank {}", name_, fmt::join(ranks_, ", "),
                     global_rank_);
}

void ProcessGroup::check_tensor(const at::Tensor& tensor, std::string_view operation) const {
  check(tensor.defined() && tensor.is_contiguous(),
        "Expected a contiguous tensor for {} {}, but got {}; .contiguous() makes one", operation,
        description(), tensor.defined() ? "a strided one" : "none");
}

void ProcessGroup::check_member(int member, std::string_view operation) const {
  check(member >= 0 && member < size(), "Expected a group rank of 0 to {} for {} {}, but got {}",
        size() - 1, operation, description(), member);
}

template <typename Start>
std::shared_ptr<Work> ProcessGroup::begin(std::string operation, std::vector<at::Tensor> tensors,
                                          Start&& start,
                                          std::chrono::milliseconds wait_limit) const {
  const at::NoGradGuard no_grad;
  try {
    auto range = begin_communication_range(operation, name_, global_rank_, tensors);
    return std::make_shared<BackendWork>(start(), std::move(tensors), operation, description(),
                                         wait_limit, std::move(range));
  } catch (const std::exception& error) {
    fail_collective(operation, description(), error);
  }
}

void ProcessGroup::all_reduce(at::Tensor tensor, ReduceOp op) const {
  check_tensor(tensor, "all_reduce");
  if (size() == 1 || tensor.numel() == 0) return;
  // A GPU backend reduces CPU tensors (a few numbers) by way of its device.
  const at::Tensor there = tensor.detach().to(device_);
  iall_reduce(there, op)->wait();
  if (!there.is_alias_of(tensor)) tensor.detach().copy_(there);
}

std::shared_ptr<Work> ProcessGroup::iall_reduce(at::Tensor tensor, ReduceOp op) const {
  check_tensor(tensor, "all_reduce");
  if (size() == 1 || tensor.numel() == 0) return std::make_shared<CompletedWork>();
  std::vector<at::Tensor> tensors{tensor.detach()};
  c10d::AllreduceOptions options;
  options.reduceOp = c10d_op(op);
  options.timeout = timeout_;
  return begin("all_reduce", tensors, [&] { return backend_->allreduce(tensors, options); });
}

void ProcessGroup::broadcast(at::Tensor tensor, int group_root) const {
  check_tensor(tensor, "broadcast");
  check_member(group_root, "broadcast");
  if (size() == 1 || tensor.numel() == 0) return;
  std::vector<at::Tensor> tensors{tensor.detach().to(device_)};
  c10d::BroadcastOptions options;
  options.rootRank = group_root;
  options.timeout = timeout_;
  begin("broadcast", tensors, [&] { return backend_->broadcast(tensors, options); })->wait();
  if (!tensors[0].is_alias_of(tensor)) tensor.detach().copy_(tensors[0]);
}

at::Tensor ProcessGroup::all_gather(const at::Tensor& tensor) const {
  check(tensor.dim() >= 1, "Expected a tensor of at least one dimension for all_gather {}",
        description());
  if (size() == 1) return tensor;
  at::Tensor input = tensor.detach().contiguous();
  std::vector<int64_t> shape = input.sizes().vec();
  shape[0] *= size();
  at::Tensor output = at::empty(shape, input.options());
  iall_gather(output, input)->wait();
  return output;
}

std::shared_ptr<Work> ProcessGroup::iall_gather(at::Tensor output, const at::Tensor& input) const {
  check_tensor(input, "all_gather");
  check_tensor(output, "all_gather");
  check(output.numel() == size() * input.numel() && output.scalar_type() == input.scalar_type(),
        "Expected an output of {} times [{}] in {} for all_gather {}, but got [{}] in {}", size(),
        fmt::join(input.sizes(), ", "), c10::toString(input.scalar_type()), description(),
        fmt::join(output.sizes(), ", "), c10::toString(output.scalar_type()));
  at::Tensor from = input.detach(), to = output.detach();
  if (size() == 1 && !to.is_same(from)) {
    const at::NoGradGuard no_grad;
    to.view(-1).copy_(from.view(-1));
  }
  if (size() == 1 || from.numel() == 0) return std::make_shared<CompletedWork>();
  c10d::AllgatherOptions options;
  options.timeout = timeout_;
  return begin("all_gather", {to, from},
               [&] { return backend_->_allgather_base(to, from, options); });
}

at::Tensor ProcessGroup::reduce_scatter(const at::Tensor& tensor) const {
  check(tensor.dim() >= 1 && tensor.size(0) % size() == 0,
        "Expected dimension 0 divisible by {} for reduce_scatter {}, but got shape [{}]", size(),
        description(), fmt::join(tensor.sizes(), ", "));
  if (size() == 1) return tensor;
  at::Tensor input = tensor.detach().contiguous();
  std::vector<int64_t> shape = input.sizes().vec();
  shape[0] /= size();
  at::Tensor output = at::empty(shape, input.options());
  ireduce_scatter(output, input)->wait();
  return output;
}

std::shared_ptr<Work> ProcessGroup::ireduce_scatter(at::Tensor output,
                                                    const at::Tensor& input) const {
  check_tensor(input, "reduce_scatter");
  check_tensor(output, "reduce_scatter");
  check(input.numel() == size() * output.numel() && output.scalar_type() == input.scalar_type(),
        "Expected an input of {} times [{}] in {} for reduce_scatter {}, but got [{}] in {}",
        size(), fmt::join(output.sizes(), ", "), c10::toString(output.scalar_type()), description(),
        fmt::join(input.sizes(), ", "), c10::toString(input.scalar_type()));
  at::Tensor from = input.detach(), to = output.detach();
  if (size() == 1 && !to.is_same(from)) {
    const at::NoGradGuard no_grad;
    to.view(-1).copy_(from.view(-1));
  }
  if (size() == 1 || from.numel() == 0) return std::make_shared<CompletedWork>();
  c10d::ReduceScatterOptions options;
  options.timeout = timeout_;
  return begin("reduce_scatter", {to, from},
               [&] { return backend_->_reduce_scatter_base(to, from, options); });
}

at::Tensor ProcessGroup::all_to_all(const at::Tensor& tensor, std::vector<int64_t> output_splits,
                                    std::vector<int64_t> input_splits) const {
  check(tensor.dim() >= 1, "Expected a tensor of at least one dimension for all_to_all {}",
        description());
  const int64_t rows = tensor.size(0);
  if (output_splits.empty() && input_splits.empty()) {
    check(rows % size() == 0,
          "Expected dimension 0 divisible by {} for all_to_all {}, but got {}; pass the splits "
          "where they are uneven",
          size(), description(), rows);
    output_splits.assign(ranks_.size(), rows / size());
    input_splits = output_splits;
  }
  check_splits(tensor, output_splits, input_splits);
  if (size() == 1) return tensor;
  std::vector<int64_t> shape = tensor.sizes().vec();
  shape[0] = std::accumulate(output_splits.begin(), output_splits.end(), int64_t{0});
  at::Tensor output = at::empty(shape, tensor.options());
  iall_to_all(output, tensor.detach().contiguous(), std::move(output_splits),
              std::move(input_splits))
      ->wait();
  return output;
}

void ProcessGroup::check_splits(const at::Tensor& tensor, const std::vector<int64_t>& output_splits,
                                const std::vector<int64_t>& input_splits) const {
  const int64_t rows = tensor.size(0);
  check(output_splits.size() == ranks_.size() && input_splits.size() == ranks_.size(),
        "Expected {} output and input splits for all_to_all {}, but got {} and {}", size(),
        description(), output_splits.size(), input_splits.size());
  const int64_t sent = std::accumulate(input_splits.begin(), input_splits.end(), int64_t{0});
  const auto negative = [](int64_t split) { return split < 0; };
  check(sent == rows && std::none_of(input_splits.begin(), input_splits.end(), negative) &&
            std::none_of(output_splits.begin(), output_splits.end(), negative),
        "Expected input splits that sum to the {} rows of all_to_all {} and no negative split, but "
        "got [{}] to send and [{}] to receive",
        rows, description(), fmt::join(input_splits, ", "), fmt::join(output_splits, ", "));
}

std::shared_ptr<Work> ProcessGroup::iall_to_all(at::Tensor output, const at::Tensor& input,
                                                std::vector<int64_t> output_splits,
                                                std::vector<int64_t> input_splits) const {
  check_splits(input, output_splits, input_splits);
  if (size() == 1) {
    const at::NoGradGuard no_grad;
    output.copy_(input);
    return std::make_shared<CompletedWork>();
  }
  at::Tensor from = input.detach(), to = output.detach();
  c10d::AllToAllOptions options;
  options.timeout = timeout_;
  return begin("all_to_all", {to, from}, [&] {
    return backend_->alltoall_base(to, from, output_splits, input_splits, options);
  });
}

void ProcessGroup::barrier() const {
  if (size() == 1) return;
  c10d::BarrierOptions options;
  options.timeout = timeout_;
  if (device_.is_cuda()) options.device = device_;
  begin("barrier", {}, [&] { return backend_->barrier(options); })->wait();
}

std::chrono::milliseconds ProcessGroup::message_limit() const {
  return device_.is_cpu() ? timeout_ : kNoTimeout;
}

ProcessGroup::Route ProcessGroup::route_to(int destination, int tag) const {
  const auto link = links_.find({rank_, destination, tag});
  if (link == links_.end()) return {backend_.get(), destination};
  return {link->second.get(), /*peer=*/1};
}

ProcessGroup::Route ProcessGroup::route_from(int source, int tag) const {
  const auto link = links_.find({source, rank_, tag});
  if (link == links_.end()) return {backend_.get(), source};
  return {link->second.get(), /*peer=*/0};
}

std::shared_ptr<Work> ProcessGroup::isend(const at::Tensor& tensor, int group_destination,
                                          int tag) const {
  check_tensor(tensor, "send");
  check_member(group_destination, "send");
  check(group_destination != rank_, "Expected another rank as the destination of send {}",
        description());
  if (tensor.numel() == 0) return std::make_shared<CompletedWork>();
  const std::string operation = fmt::format("send to rank {}", ranks_[group_destination]);
  std::vector<at::Tensor> tensors{tensor.detach()};
  const Route to = route_to(group_destination, tag);
  return begin(
      operation, tensors, [&] { return to.backend->send(tensors, to.peer, tag); }, message_limit());
}

std::shared_ptr<Work> ProcessGroup::irecv(at::Tensor tensor, int group_source, int tag) const {
  check_tensor(tensor, "recv");
  check_member(group_source, "recv");
  check(group_source != rank_, "Expected another rank as the source of recv {}", description());
  if (tensor.numel() == 0) return std::make_shared<CompletedWork>();
  const std::string operation = fmt::format("recv from rank {}", ranks_[group_source]);
  std::vector<at::Tensor> tensors{tensor.detach()};
  const Route from = route_from(group_source, tag);
  return begin(
      operation, tensors, [&] { return from.backend->recv(tensors, from.peer, tag); },
      message_limit());
}

void ProcessGroup::recv(at::Tensor tensor, int group_source, int tag) const {
  irecv(std::move(tensor), group_source, tag)->wait();
}

void check_same_on_all_ranks(
    const ProcessGroup& world, std::string_view what, uint64_t hash,
    const std::function<std::string(const std::vector<int>& others)>& explain) {
  at::Tensor mine = at::empty({1}, at::kLong);
  mine.data_ptr<int64_t>()[0] = static_cast<int64_t>(hash);
  const at::Tensor all = world.all_gather(mine.to(world.device())).to(at::kCPU);
  const int64_t* hashes = all.data_ptr<int64_t>();
  std::vector<int> others;
  for (int i = 0; i < world.size(); ++i) {
    if (hashes[i] != hashes[0]) others.push_back(world.ranks()[i]);
  }
  if (others.empty()) return;
  const std::string why = explain ? explain(others) : "";
  fail(
      "Expected the same {} on all {} ranks, but rank{} [{}] differ{} from rank {}{}; start every "
      "rank with the same command and the same build",
      what, world.size(), others.size() == 1 ? "" : "s", fmt::join(others, ", "),
      others.size() == 1 ? "s" : "", world.ranks().front(), why.empty() ? "" : ": " + why);
}

}  // namespace megatron
