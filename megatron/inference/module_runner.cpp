#include "megatron/inference/module_runner.h"

#include <deque>

#include <ATen/ATen.h>

#include "megatron/base/error.h"
#include "megatron/pipeline/pipeline_forward.h"

namespace megatron {
namespace {

PipelineMicroBatch microbatch_of(std::span<const int64_t> tokens, int64_t position,
                                 InferenceContext& inference, at::Device device) {
  const auto s = static_cast<int64_t>(tokens.size());
  const at::Tensor positions = at::arange(position, position + s, at::kLong);
  const at::Tensor ids = at::empty({1, s}, at::kLong);
  std::copy(tokens.begin(), tokens.end(), ids.data_ptr<int64_t>());
  ForwardContext context;
  context.sample_ordinals = at::arange(1, at::kLong);
  context.positions = context.residual_positions = positions;
  return {.input = {.input_ids = ids.to(device),
                    .position_ids = positions.unsqueeze(0).contiguous().to(device),
                    .inference_context = &inference,
                    .runtime_gather_output = true},
          .context = context};
}

}  // namespace

ModuleRunner::ModuleRunner(const GPTModelChunks& chunks, int64_t block_size)
    : chunks_(chunks), block_size_(block_size), vocab_size_(*chunks.front()->config().vocab_size) {
  check(block_size >= 1, "Expected blocks of at least one token, but got {}", block_size);
  RecordingInferenceContext recording;
  const std::vector<int64_t> token = {0};
  run_pipeline_forward(
      chunks_, {microbatch_of(token, 0, recording, chunks_.front()->tensor_options().device())},
      {});
  entries_ = recording.entries();
  const ProcessGroup& mp = *chunks_.front()->groups().mp;
  const at::Tensor bytes =
      at::full({1}, bytes_per_token(entries_) * block_size_, at::TensorOptions(at::kLong))
          .to(mp.device());
  mp.all_reduce(bytes, ReduceOp::max);
  bytes_per_block_ = bytes.item<int64_t>();
}

void ModuleRunner::allocate(int64_t num_blocks) {
  check(num_blocks >= 1, "Expected at least one block of the key-value cache, but got {}",
        num_blocks);
  num_blocks_ = num_blocks;
  cache_ = PagedEntries(entries_, num_blocks, block_size_);
}

void ModuleRunner::check_row(const StepRow& row) const {
  const int64_t end = row.position + std::ssize(row.tokens);
  check(!row.tokens.empty() && row.position >= 0,
        "Expected a row of at least one token, but got {}", row.tokens.size());
  check(std::ssize(row.blocks) * block_size_ >= end,
        "Expected blocks for {} tokens, but got {} blocks of {}", end, row.blocks.size(),
        block_size_);
  for (const int64_t block : row.blocks) {
    check(block >= 0 && block < num_blocks_, "Expected blocks below {}, but got block {}",
          num_blocks_, block);
  }
  for (const int64_t token : row.tokens) {
    check(token >= 0 && token < vocab_size_,
          "Expected tokens below the vocabulary size {}, but got {}", vocab_size_, token);
  }
}

at::Tensor ModuleRunner::forward(std::span<const StepRow> rows) {
  if (rows.empty()) return {};
  const at::Device device = chunks_.front()->tensor_options().device();
  std::deque<DynamicInferenceContext> contexts;
  std::vector<PipelineMicroBatch> microbatches;
  for (const StepRow& row : rows) {
    check_row(row);
    DynamicInferenceContext& context = contexts.emplace_back(cache_, row, block_size_, device);
    context.materialize_only_last_token_logits = row.logits != RowLogits::all;
    microbatches.push_back(microbatch_of(row.tokens, row.position, context, device));
  }
  std::vector<at::Tensor> logits(rows.size());
  run_pipeline_forward(chunks_, microbatches,
                       {.on_output = [&](int64_t index, const at::Tensor& output) {
                         if (rows[index].logits != RowLogits::none)
                           logits[index] = output.select(0, 0).narrow(1, 0, vocab_size_);
                         return output;
                       }});
  std::erase_if(logits, [](const at::Tensor& of_row) { return !of_row.defined(); });
  if (!chunks_.back()->stage().post_process) return {};
  if (logits.empty()) return at::empty({0, vocab_size_}, at::TensorOptions(at::kFloat));
  const at::Tensor all = at::cat(logits);
  return all.scalar_type() == at::kDouble ? all : all.to(at::kFloat);
}

void ModuleRunner::copy_block(int64_t from, int64_t to) {
  check(from >= 0 && from < num_blocks_ && to >= 0 && to < num_blocks_,
        "Expected blocks below {}, but got {} and {}", num_blocks_, from, to);
  cache_.copy_block(from, to);
}

}  // namespace megatron
