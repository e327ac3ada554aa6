#include "tests/parallel/commanded_backend.h"

#include <numeric>

#include <ATen/ATen.h>
#include <ATen/record_function.h>

namespace megatron {
namespace {

constexpr std::chrono::seconds kPatience{60};

thread_local CommandedBackend* noted_by = nullptr;

std::unique_ptr<at::ObserverContext> note_product(const at::RecordFunction& function) {
  const std::string_view name = function.name();
  if (name == "aten::mm" || name == "aten::addmm" || name == "aten::addmm_")
    noted_by->note("product");
  return nullptr;
}

}  // namespace

class CommandedWork final : public c10d::Work {
 public:
  CommandedWork(c10::intrusive_ptr<CommandedBackend> backend, size_t index)
      : backend_(std::move(backend)), index_(index) {}
  bool isCompleted() override { return false; }
  bool isSuccess() const override { return true; }
  bool wait(std::chrono::milliseconds) override {
    backend_->wait_for(index_);
    return true;
  }

 private:
  c10::intrusive_ptr<CommandedBackend> backend_;
  size_t index_;
};

CommandedBackend::WorkPtr CommandedBackend::start(const std::string& name) {
  const std::lock_guard lock(mutex_);
  const size_t index = operations_.size();
  operations_.push_back({.name = name});
  log_.push_back("start " + name + " " + std::to_string(index));
  return c10::make_intrusive<CommandedWork>(
      c10::intrusive_ptr<CommandedBackend>::unsafe_reclaim_from_nonowning(this), index);
}

void CommandedBackend::wait_for(size_t index) {
  std::unique_lock lock(mutex_);
  log_.push_back("wait " + operations_[index].name + " " + std::to_string(index));
  operations_[index].waited = true;
  changed_.notify_all();
  const bool ended = changed_.wait_for(lock, kPatience,
                                       [&] { return all_may_end_ || operations_[index].may_end; });
  TORCH_CHECK(ended, "operation ", index, " was never told to end");
}

void CommandedBackend::complete(size_t index) {
  const std::lock_guard lock(mutex_);
  operations_.at(index).may_end = true;
  changed_.notify_all();
}

void CommandedBackend::complete_all() {
  const std::lock_guard lock(mutex_);
  all_may_end_ = true;
  changed_.notify_all();
}

void CommandedBackend::await_waiter(size_t index) {
  std::unique_lock lock(mutex_);
  const bool came = changed_.wait_for(
      lock, kPatience, [&] { return index < operations_.size() && operations_[index].waited; });
  TORCH_CHECK(came, "nobody waited for operation ", index);
}

std::vector<std::string> CommandedBackend::log() const {
  const std::lock_guard lock(mutex_);
  return log_;
}

void CommandedBackend::note(const std::string& line) {
  const std::lock_guard lock(mutex_);
  log_.push_back(line);
}

CommandedBackend::WorkPtr CommandedBackend::allreduce(std::vector<at::Tensor>&,
                                                      const c10d::AllreduceOptions&) {
  return start("all_reduce");
}

CommandedBackend::WorkPtr CommandedBackend::_allgather_base(at::Tensor& output, at::Tensor& input,
                                                            const c10d::AllgatherOptions&) {
  for (const at::Tensor& part : output.view({size_, -1}).unbind(0)) part.copy_(input.view(-1));
  return start("all_gather");
}

CommandedBackend::WorkPtr CommandedBackend::_reduce_scatter_base(
    at::Tensor& output, at::Tensor& input, const c10d::ReduceScatterOptions&) {
  output.view(-1).copy_(input.view({size_, -1}).select(0, rank_));
  return start("reduce_scatter");
}

CommandedBackend::WorkPtr CommandedBackend::send(std::vector<at::Tensor>&, int, int) {
  return start("send");
}

CommandedBackend::WorkPtr CommandedBackend::recv(std::vector<at::Tensor>& tensors, int, int) {
  tensors[0].zero_();
  return start("recv");
}

CommandedGroup::CommandedGroup(int rank, int size)
    : backend(c10::make_intrusive<CommandedBackend>(rank, size)) {
  std::vector<int> ranks(static_cast<size_t>(size));
  std::iota(ranks.begin(), ranks.end(), 0);
  group = std::make_shared<ProcessGroup>("tp", ranks, rank, backend, kPatience);
}

NotedProducts::NotedProducts(CommandedBackend& backend)
    : handle_(at::addThreadLocalCallback(
          at::RecordFunctionCallback(&note_product).scopes({at::RecordScope::FUNCTION}))) {
  noted_by = &backend;
}

NotedProducts::~NotedProducts() {
  at::removeCallback(handle_);
  noted_by = nullptr;
}

}  // namespace megatron
