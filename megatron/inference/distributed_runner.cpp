#include "megatron/inference/distributed_runner.h"

#include <algorithm>

#include <ATen/ATen.h>

#include "megatron/base/error.h"

namespace megatron {
namespace {

enum MessageKind : int64_t { kStop = 0, kForward = 1, kCopyBlock = 2 };

// Apart from the messages of pipelines, which may share the backend.
constexpr int kLogitsTag = 1000;

at::Tensor tensor_of(const std::vector<int64_t>& values, at::Device device) {
  return at::tensor(values, at::kLong).to(device);
}

// Rows as numbers: kind, rows, and of each row its sizes and contents.
std::vector<int64_t> pack(std::span<const StepRow> rows) {
  std::vector<int64_t> message = {kForward, std::ssize(rows)};
  for (const StepRow& row : rows) {
    message.insert(message.end(), {std::ssize(row.tokens), std::ssize(row.blocks), row.position,
                                   static_cast<int64_t>(row.logits), row.sequence_length});
    message.insert(message.end(), row.tokens.begin(), row.tokens.end());
    message.insert(message.end(), row.blocks.begin(), row.blocks.end());
  }
  return message;
}

// The rows' spans refer to the message.
std::vector<StepRow> unpack(const std::vector<int64_t>& message) {
  std::vector<StepRow> rows(static_cast<size_t>(message[1]));
  size_t next = 2;
  for (StepRow& row : rows) {
    const auto tokens = static_cast<size_t>(message[next]);
    const auto blocks = static_cast<size_t>(message[next + 1]);
    row.position = message[next + 2];
    row.logits = static_cast<RowLogits>(message[next + 3]);
    row.sequence_length = message[next + 4];
    next += 5;
    row.tokens = std::span(message).subspan(next, tokens);
    row.blocks = std::span(message).subspan(next + tokens, blocks);
    next += tokens + blocks;
  }
  return rows;
}

}  // namespace

StepRanks step_ranks(const ProcessGroupCollection& groups) {
  if (groups.ep->size() > 1) return {.group = groups.world};
  return {.group = groups.mp, .replicas = groups.dp->size(), .replica = groups.dp->rank()};
}

DistributedRunner::DistributedRunner(ModelRunner& local, const StepRanks& ranks,
                                     const ProcessGroupCollection& groups)
    : local_(local), group_(ranks.group) {
  std::vector<int64_t> last_stage = {groups.pp->ranks().back()};
  broadcast(last_stage);
  const std::vector<int>& members = group_->ranks();
  logits_rank_ = static_cast<int>(std::ranges::find(members, last_stage[0]) - members.begin());
}

// The first rank's numbers, on every rank.
void DistributedRunner::broadcast(std::vector<int64_t>& message) const {
  if (group_->size() == 1) return;
  const at::Tensor size = tensor_of({std::ssize(message)}, group_->device());
  group_->broadcast(size, 0);
  message.resize(static_cast<size_t>(size.item<int64_t>()));
  const at::Tensor content = tensor_of(message, group_->device());
  group_->broadcast(content, 0);
  const at::Tensor received = content.to(at::kCPU);
  message.assign(received.const_data_ptr<int64_t>(),
                 received.const_data_ptr<int64_t>() + received.numel());
}

// The logits travel from the last stage to the first rank of the group.
at::Tensor DistributedRunner::run(std::span<const StepRow> rows) {
  const at::Tensor logits = local_.forward(rows);
  if (logits_rank_ == 0) return logits;
  if (group_->rank() == logits_rank_) {
    std::vector<int64_t> shape = {logits.size(0), logits.scalar_type() == at::kDouble};
    group_->isend(tensor_of(shape, group_->device()), 0, kLogitsTag)->wait();
    if (logits.size(0) > 0) group_->isend(logits.contiguous(), 0, kLogitsTag)->wait();
  }
  if (!group_->is_first()) return logits;
  const at::Tensor shape = tensor_of({0, 0}, group_->device());
  group_->recv(shape, logits_rank_, kLogitsTag);
  const at::Tensor sizes = shape.to(at::kCPU);
  const at::ScalarType dtype = sizes[1].item<int64_t>() != 0 ? at::kDouble : at::kFloat;
  const at::Tensor received = at::empty({sizes[0].item<int64_t>(), local_.vocab_size()},
                                        at::TensorOptions(dtype).device(group_->device()));
  if (received.size(0) > 0) group_->recv(received, logits_rank_, kLogitsTag);
  return received;
}

at::Tensor DistributedRunner::forward(std::span<const StepRow> rows) {
  check(group_->is_first(), "Expected forward() on the first rank of group '{}', but got rank {}",
        group_->name(), group_->rank());
  if (group_->size() > 1) {
    std::vector<int64_t> message = pack(rows);
    broadcast(message);
  }
  return run(rows);
}

void DistributedRunner::copy_block(int64_t from, int64_t to) {
  std::vector<int64_t> message = {kCopyBlock, from, to};
  broadcast(message);
  local_.copy_block(from, to);
}

void DistributedRunner::serve() {
  for (;;) {
    std::vector<int64_t> message;
    broadcast(message);
    if (message[0] == kStop) return;
    if (message[0] == kCopyBlock) {
      local_.copy_block(message[1], message[2]);
    } else {
      run(unpack(message));
    }
  }
}

void DistributedRunner::stop() {
  std::vector<int64_t> message = {kStop};
  broadcast(message);
}

}  // namespace megatron
