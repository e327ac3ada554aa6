#include "megatron/inference/decode_bench.h"

#include <algorithm>
#include <chrono>

#include <ATen/Parallel.h>

#include "megatron/base/dtype.h"
#include "megatron/base/error.h"
#include "megatron/base/integer_math.h"
#include "megatron/inference/fast_model_runner.h"
#include "megatron/ops/decode/memory_bandwidth.h"

namespace megatron {
namespace {

constexpr int64_t kBlockSize = 64;
constexpr int64_t kReadBytes = int64_t{256} << 20;

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

double median(std::vector<double> values) {
  std::ranges::sort(values);
  const size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : 0.5 * (values[middle - 1] + values[middle]);
}

// The sequences of a run, each with its own blocks.
class Sequences {
 public:
  Sequences(const DecodeBenchOptions& options, int64_t vocabulary) {
    const int64_t length = options.prompt_tokens + options.new_tokens;
    const int64_t blocks = ceil_div(length, kBlockSize);
    uint64_t state = 1;
    for (int64_t i = 0; i < options.batch; ++i) {
      std::vector<int64_t> ids(length), table(blocks);
      for (int64_t& id : ids) {
        state = state * 6364136223846793005ULL + 1442695040888963407ULL;  // Knuth's MMIX generator
        id = static_cast<int64_t>((state >> 33) % static_cast<uint64_t>(vocabulary));
      }
      for (int64_t j = 0; j < blocks; ++j) table[j] = i * blocks + j;
      ids_.push_back(std::move(ids));
      blocks_.push_back(std::move(table));
    }
  }

  int64_t num_blocks() const { return std::ssize(blocks_) * std::ssize(blocks_.front()); }

  std::vector<StepRow> rows(int64_t first, int64_t count) const {
    std::vector<StepRow> rows;
    for (size_t i = 0; i < ids_.size(); ++i) {
      rows.push_back({.tokens = std::span(ids_[i]).subspan(first, count),
                      .position = first,
                      .blocks = blocks_[i]});
    }
    return rows;
  }
  // Replaces the tokens at `position` by the most likely ones.
  void choose(const at::Tensor& logits, int64_t position) {
    const auto v = logits.size(1);
    for (size_t i = 0; i < ids_.size(); ++i) {
      if (position >= std::ssize(ids_[i])) continue;
      const float* row = logits.const_data_ptr<float>() + static_cast<int64_t>(i) * v;
      ids_[i][position] = std::max_element(row, row + v) - row;
    }
  }

 private:
  std::vector<std::vector<int64_t>> ids_, blocks_;
};

}  // namespace

nlohmann::json run_decode_bench(const GPTModel& model, const DecodeBenchOptions& options) {
  const std::string reason = reason_against_fast_runner(model);
  check(reason.empty(),
        "Expected a dense model in one rank on the CPU for a benchmark of decode, but got {}",
        reason);
  Sequences sequences(options, model.config().required_vocab_size());
  FastModelRunner runner(
      model,
      {.block_size = kBlockSize, .num_blocks = sequences.num_blocks(), .weights = options.weights});
  double bandwidth = measure_read_bandwidth(kReadBytes, /*repeats=*/5);
  std::vector<double> prefill, decode;
  for (int64_t run = 0; run < options.warmup + options.repeats; ++run) {
    Clock::time_point start = Clock::now();
    sequences.choose(runner.forward(sequences.rows(0, options.prompt_tokens)),
                     options.prompt_tokens);
    const double prefill_seconds = seconds_since(start);
    start = Clock::now();
    for (int64_t i = 0; i < options.new_tokens; ++i) {
      const int64_t position = options.prompt_tokens + i;
      sequences.choose(runner.forward(sequences.rows(position, 1)), position + 1);
    }
    if (run < options.warmup) continue;
    prefill.push_back(prefill_seconds);
    decode.push_back(seconds_since(start));
  }
  bandwidth = std::max(bandwidth, measure_read_bandwidth(kReadBytes, /*repeats=*/5));

  const TransformerConfig& transformer = model.config().transformer;
  const PagedCacheShape& cache = runner.cache().shape();
  // Keys and values of one position, without padding.
  const int64_t position_bytes = cache.layers * 2 * cache.groups * cache.head_dim *
                                 static_cast<int64_t>(c10::elementSize(cache.dtype));
  const double mean_length = double(options.prompt_tokens) + 0.5 * double(options.new_tokens + 1);
  const double step_bytes =
      double(runner.weight_bytes()) + double(options.batch) * mean_length * double(position_bytes);
  const double decode_seconds = median(decode);
  const auto rate = [&](int64_t tokens, double seconds) {
    return double(options.batch * tokens) / seconds;
  };
  return {
      {"decode_tokens_per_s", rate(options.new_tokens, decode_seconds)},
      {"prefill_tokens_per_s", rate(options.prompt_tokens, median(prefill))},
      {"bandwidth_fraction", step_bytes * double(options.new_tokens) / decode_seconds / bandwidth},
      {"read_bandwidth_gb_per_s", bandwidth / 1e9},
      {"weight_mib", double(runner.weight_bytes()) / (1 << 20)},
      {"weights",
       weight_format_name(options.weights ? *options.weights : weight_format_of(cache.dtype))},
      {"dtype", dtype_name(transformer.compute_dtype())},
      {"prompt_tokens", options.prompt_tokens},
      {"new_tokens", options.new_tokens},
      {"batch", options.batch},
      {"threads", at::get_num_threads()},
      {"repeats", options.repeats}};
}

}  // namespace megatron
