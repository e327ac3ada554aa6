#include "megatron/verify/layout_verification.h"

#include <chrono>
#include <cmath>

#include <ATen/ATen.h>

#include "megatron/base/error.h"
#include "megatron/config/validate/validate.h"
#include "megatron/ops/random/philox.h"
#include "megatron/parallel/model_groups.h"
#include "megatron/verify/verification_model.h"

namespace megatron {
namespace {

constexpr int kMostDefaultRanks = 8;

// The first layout of each line that fits is used.
const std::vector<std::vector<const char*>> kDefaultLayouts = {
    {"tp2+sp", "tp2"},
    {"pp2+vp2", "pp2"},
    {"cp2"},
    {"cp2:a2a", "cp2:allgather"},
    {"zero1+overlap"},
    {"fsdp3+overlap"},
    {"torch-fsdp2+overlap"},
    {"tp2+sp+cp2+zero1", "tp2+cp2+zero1", "tp2+zero1"},
    {"tp2+sp+pp2+vp2+fsdp2+overlap", "tp2+pp2+fsdp2+overlap", "pp2+fsdp2+overlap",
     "tp2+fsdp2+overlap"}};

int64_t microbatches_for(int64_t data_parallel) {
  return (kVerificationMicrobatches + data_parallel - 1) / data_parallel * data_parallel;
}

int64_t data_parallel_size(const Options& options, int world_size) {
  return parallel_sizes(options.model.transformer, world_size).dp;
}

// A random number as a function of seed and position, as for dropout and weights.
uint64_t draw(uint64_t seed, std::initializer_list<int64_t> place) {
  uint64_t value = mix64(seed);
  for (const int64_t coordinate : place) value = mix64(value ^ static_cast<uint64_t>(coordinate));
  return value;
}

// A small model gains nothing from several compute threads, and on a busy machine they mostly wait
// for each other.
int compute_threads(const GPTModelConfig& model) {
  constexpr int64_t kSmallHiddenSize = 512;
  return model.transformer.hidden_size < kSmallHiddenSize ? 1 : at::get_num_threads();
}

}  // namespace

Options options_in_layout(const Options& model, const NamedLayout& layout) {
  Options options = model;
  apply_layout(layout, options);
  options.batch.micro_batch_size = kVerificationRows;
  // If the model's ranks do not divide the world, validate() refuses it below.
  const TransformerConfig& t = options.model.transformer;
  const int64_t ranks =
      t.tensor_model_parallel_size * t.pipeline_model_parallel_size * t.context_parallel_size;
  options.batch.global_batch_size =
      kVerificationRows * microbatches_for(std::max<int64_t>(layout.world_size / ranks, 1));
  options.launch = {};
  options.profile = {};
  validate(options, layout.world_size, Command::bench);
  return options;
}

std::vector<NamedLayout> default_layouts(const Options& model) {
  std::vector<NamedLayout> layouts;
  for (const auto& alternatives : kDefaultLayouts) {
    for (const char* name : alternatives) {
      const NamedLayout layout = layout_from_name(name);
      if (layout.world_size > kMostDefaultRanks || !misfit(layout, model).empty()) continue;
      layouts.push_back(layout);
      break;
    }
  }
  return layouts;
}

LayoutVerification::LayoutVerification(Options model) : model_(std::move(model)) {
  if (!model_.ddp.bucket_size && !model_.ddp.num_buckets) {
    // Several buckets, to cover bucket order and boundaries.
    Options one_rank = model_;
    clear_layout(one_rank);
    model_.ddp.bucket_size = std::max<int64_t>(count_parameters(one_rank.model) / 5, 1);
  }
}

MicroBatch LayoutVerification::microbatch(int64_t microbatches, int64_t step, int64_t index) const {
  const GPTModelConfig& config = model_.model;
  const int64_t rows = kVerificationRows, s = config.seq_length;
  const auto seed = static_cast<uint64_t>(model_.training.seed);
  MicroBatch batch{.tokens = at::empty({rows, s}, at::kLong),
                   .position_ids = at::arange(s).expand({rows, s}).contiguous(),
                   .labels = at::empty({rows, s}, at::kLong),
                   .loss_mask = at::empty({rows, s}, at::kFloat),
                   .attention_mask = {},
                   .sample_ordinals = {}};
  // The fraction of tokens that count: 0.2 to 1 by micro-batch, none in the fourth. In the seventh
  // only the start of the rows counts, so most context-parallel slices have no such token.
  const double share = index % 8 == 3 ? 0.0 : 0.2 + 0.8 * double(index % 5) / 4;
  const int64_t end = index % 8 == 6 ? std::max<int64_t>(s / 8, 1) : s;
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t i = 0; i < s; ++i) {
      const auto token = [&](int64_t at) {
        const uint64_t number = draw(seed, {step, index, row, at});
        return static_cast<int64_t>(number % static_cast<uint64_t>(*config.vocab_size));
      };
      batch.tokens.data_ptr<int64_t>()[row * s + i] = token(i);
      batch.labels.data_ptr<int64_t>()[row * s + i] = token(i + 1);
      const double place = double(draw(seed, {~step, index, row, i}) >> 11) * 0x1p-53;
      batch.loss_mask.data_ptr<float>()[row * s + i] = i < end && place < share ? 1.0F : 0.0F;
    }
  }
  if (config.position_embedding_type == PositionEmbeddingType::mrope) {
    const at::Tensor time = batch.position_ids;
    batch.position_ids =
        at::stack({time, time.div(4, /*rounding_mode=*/"floor"), time.remainder(4)});
  }
  const int64_t first = (step * microbatches + index) * rows;
  batch.sample_ordinals = at::arange(first, first + rows, at::kLong);
  return batch;
}

TraceInputs LayoutVerification::inputs(int64_t microbatches) const {
  return {.steps = kVerificationSteps,
          .gradient_steps = kVerificationSteps,
          .learning_rate = model_.optimizer.lr,
          .initialize =
              [this](const GPTModelChunks& chunks) {
                initialize_weights(chunks, static_cast<uint64_t>(model_.training.seed));
              },
          .microbatches =
              [this, microbatches](int64_t step, int rank, int size) {
                std::vector<MicroBatch> share;
                for (int64_t i = rank; i < microbatches; i += size)
                  share.push_back(microbatch(microbatches, step, i));
                return share;
              },
          .after_backward = {}};
}

const TrainingTrace& LayoutVerification::one_rank(int64_t microbatches) {
  if (const auto found = one_rank_.find(microbatches); found != one_rank_.end())
    return found->second;
  Options options = options_in_layout(model_, layout_from_name("dp1"));
  options.model.transformer.recompute = {};  // compare recomputation with kept activations
  TrainingTrace trace =
      record_one_rank(options, inputs(microbatches), compute_threads(model_.model));
  for (const TrainStep::Losses& losses : trace.losses) {
    check(std::isfinite(losses.loss),
          "Expected losses that are numbers in one rank, but got {}; smaller initial weights or a "
          "smaller --lr may help",
          losses.loss);
  }
  return one_rank_.emplace(microbatches, std::move(trace)).first->second;
}

LayoutResult LayoutVerification::verify(const NamedLayout& layout) {
  const Options options = options_in_layout(model_, layout);
  const int64_t microbatches = microbatches_for(data_parallel_size(options, layout.world_size));
  const TrainingTrace& want = one_rank(microbatches);
  const auto start = std::chrono::steady_clock::now();
  LayoutResult result{.layout = layout.name, .ranks = layout.world_size};
  TraceInputs of_layout = inputs(microbatches);
  of_layout.after_backward = after_backward;
  try {
    result.differences =
        compare_layout(options, layout.world_size, of_layout, want,
                       std::max(compute_threads(model_.model) / layout.world_size, 1));
  } catch (const std::exception& error) {
    result.error = error_message(error);
  }
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return result;
}

}  // namespace megatron
