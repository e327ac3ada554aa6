#include "megatron/training/bench.h"

#include <algorithm>
#include <chrono>

#include <ATen/ATen.h>

#include "megatron/base/device.h"
#include "megatron/base/dtype.h"
#include "megatron/base/integer_math.h"
#include "megatron/config/model/batch_size.h"
#include "megatron/parallel/model_groups.h"
#include "megatron/planner/flops.h"
#include "megatron/planner/training_memory.h"
#include "megatron/reporting/machine.h"
#include "megatron/reporting/step_profiler.h"
#include "megatron/training/train_step.h"
#include "megatron/training/training_data.h"
#include "megatron/training/training_models.h"

namespace megatron {
namespace {

// Random tokens. Each sample is a function of its ordinal, so the layout does not matter.
MicroBatch random_microbatch(const GPTModelConfig& config, int64_t first_ordinal, int64_t rows,
                             at::Device device) {
  const int64_t s = config.seq_length;
  at::Tensor text = at::empty({rows, s + 1}, at::kLong);
  int64_t* ids = text.data_ptr<int64_t>();
  for (int64_t row = 0; row < rows; ++row) {
    uint64_t state = 0x9E3779B97F4A7C15ULL * uint64_t(first_ordinal + row + 1);
    for (int64_t i = 0; i <= s; ++i) {
      state = state * 6364136223846793005ULL + 1442695040888963407ULL;  // Knuth's MMIX generator
      *ids++ = static_cast<int64_t>((state >> 33) % uint64_t(*config.vocab_size));
    }
  }
  return {.tokens = text.narrow(1, 0, s).contiguous().to(device),
          .position_ids = at::arange(s, at::kLong).expand({rows, s}).contiguous().to(device),
          .labels = text.narrow(1, 1, s).contiguous().to(device),
          .loss_mask = at::ones({rows, s}, at::TensorOptions().dtype(at::kFloat).device(device)),
          .attention_mask = {},
          .sample_ordinals = at::arange(first_ordinal, first_ordinal + rows, at::kLong)};
}

double all_reduced(const ProcessGroup& world, double value, ReduceOp op) {
  at::Tensor tensor = at::full({1}, value, at::kDouble);
  world.all_reduce(tensor, op);
  return tensor.item<double>();
}

}  // namespace

nlohmann::json run_bench(const Options& options, const RankContext& rank) {
  const ProcessGroupCollection groups = make_model_groups(options.model, rank);
  TrainStep step(build_training_models(options, groups, rank), options);

  const int64_t dp = groups.dp->size(), rows = options.batch.micro_batch_size;
  const int64_t global_batch = global_batch_size(options.batch, dp);
  const int64_t num_microbatches = divide(global_batch, rows * dp, "the global batch size");
  const auto batch = [&](int64_t index) {
    std::vector<MicroBatch> microbatches;
    for (int64_t i = 0; i < num_microbatches; ++i) {
      const int64_t ordinal = index * global_batch + (i * dp + groups.dp->rank()) * rows;
      microbatches.push_back(random_microbatch(options.model, ordinal, rows, rank.device));
    }
    return microbatches;
  };
  const auto peak = [&] {
    return all_reduced(*groups.world,
                       measure_gemm_tflops(options.model.transformer.params_dtype, rank.device,
                                           /*milliseconds=*/200),
                       ReduceOp::sum);
  };

  step.record_experts(false);
  double peak_tflops = peak(), loss = 0;
  std::vector<double> seconds;
  StepProfiler profiler(options.profile, rank, groups.world);
  for (int64_t i = 0; i < options.bench.warmup_steps + options.bench.steps; ++i) {
    const std::vector<MicroBatch> microbatches = batch(i);
    profiler.before_step(i);
    groups.world->barrier();
    const auto start = std::chrono::steady_clock::now();
    loss = step.run(microbatches, BatchSharing::whole_microbatches, options.optimizer.lr).loss;
    synchronize(rank.device);
    const double spent =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    if (i >= options.bench.warmup_steps) seconds.push_back(spent);
    profiler.after_step(i + 1, [&] { step.wait_for_parameters(); });
  }
  const TrainingMemory memory = held_training_memory(step.parameters(), step.optimizer());
  const auto held_mib = [&](int64_t bytes) {
    return all_reduced(*groups.world, double(bytes) / (1 << 20), ReduceOp::max);
  };
  const double parameters_mib = held_mib(memory.parameters),
               gradients_mib = held_mib(memory.gradients),
               optimizer_mib = held_mib(memory.optimizer_state);
  const double peak_rss = all_reduced(*groups.world, peak_resident_mib(), ReduceOp::max);
  peak_tflops = std::max(peak_tflops, peak());

  std::ranges::sort(seconds);
  const size_t middle = seconds.size() / 2;
  const double median =
      seconds.size() % 2 == 1 ? seconds[middle] : 0.5 * (seconds[middle - 1] + seconds[middle]);
  const double slowest = all_reduced(*groups.world, median, ReduceOp::max);
  const double tflops = model_flops(options.model, global_batch) / slowest / 1e12;
  nlohmann::json result = {
      {"ms_per_step", slowest * 1e3},
      {"tokens_per_s", double(global_batch * options.model.seq_length) / slowest},
      {"model_tflops", tflops},
      {"gemm_peak_tflops", peak_tflops},
      {"peak_rss_mib", peak_rss},
      {"parameters_mib", parameters_mib},
      {"gradients_mib", gradients_mib},
      {"optimizer_state_mib", optimizer_mib},
      {"parameters", count_parameters(options.model)},
      {"global_batch_size", global_batch},
      {"seq_length", options.model.seq_length},
      {"dtype", dtype_name(options.model.transformer.params_dtype)},
      {"layout", describe_world(options.model.transformer, options.ddp, rank)},
      {"steps", options.bench.steps},
      {"last_loss", loss}};
  if (const double share = share_of_peak(tflops, peak_tflops); share > 0)
    result["gemm_peak_fraction"] = share;
  return result;
}

}  // namespace megatron
