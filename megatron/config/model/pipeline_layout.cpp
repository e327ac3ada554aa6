#include "megatron/config/model/pipeline_layout.h"

#include <algorithm>
#include <numeric>

#include <fmt/ranges.h>

#include "megatron/base/error.h"
#include "megatron/base/problems.h"
#include "megatron/config/model/pipeline_layout_string.h"

namespace megatron {
namespace {

// Layers by virtual stage -> chunks, with the embedding before the first layer, and the predictions
// and the loss behind the last.
std::vector<PipelineChunk> chunks_of_counts(const std::vector<int64_t>& layers) {
  std::vector<PipelineChunk> chunks;
  int64_t first = 0;
  for (const int64_t count : layers) {
    chunks.push_back({.first_layer = first, .num_layers = count});
    first += count;
  }
  chunks.front().embedding = true;
  chunks.back().prediction = chunks.back().loss = true;
  return chunks;
}

// C: chunks of a rank, from either of the two options that say so. `layers` counts what is split.
int64_t chunks_per_rank(const TransformerConfig& config, int64_t layers) {
  const PipelineConfig& pipeline = config.pipeline;
  const int64_t stages = config.pipeline_model_parallel_size;
  if (!pipeline.num_layers_per_virtual_pipeline_stage)
    return pipeline.virtual_pipeline_model_parallel_size.value_or(1);
  const int64_t wanted = *pipeline.num_layers_per_virtual_pipeline_stage, of_rank = layers / stages;
  check(layers % stages == 0 && wanted >= 1 && of_rank % wanted == 0,
        "Expected --num-layers-per-virtual-pipeline-stage to divide the {} layers of each of {} "
        "ranks, but got {}; {} would work",
        layers % stages == 0 ? fmt::format("{}", of_rank)
                             : fmt::format("{:.2f}", double(layers) / double(stages)),
        stages, wanted, nearest_divisors(std::max<int64_t>(of_rank, 1), wanted));
  return of_rank / wanted;
}

// Layers of each rank with other first or last stages.
std::vector<int64_t> uneven_ranks(const TransformerConfig& config) {
  const int64_t stages = config.pipeline_model_parallel_size, layers = config.num_layers;
  const auto& first = config.pipeline.num_layers_in_first_pipeline_stage;
  const auto& last = config.pipeline.num_layers_in_last_pipeline_stage;
  check(stages > 1,
        "Expected --pipeline-model-parallel-size above 1 with --decoder-first-pipeline-num-layers "
        "or --decoder-last-pipeline-num-layers, but got {}; leave them out",
        stages);
  const int64_t middle = layers - first.value_or(0) - last.value_or(0);
  const int64_t ranks = stages - (first ? 1 : 0) - (last ? 1 : 0);
  const bool sane = first.value_or(0) >= 0 && last.value_or(0) >= 0 && middle >= 0;
  if (!sane || (ranks == 0 ? middle != 0 : middle % ranks != 0)) {
    // What the other of the two would have to be, with as much in the middle as fits.
    const int64_t fixed = first && last ? std::clamp<int64_t>(*first, 0, layers) : 0;
    const int64_t rest = layers - fixed;
    const int64_t each = ranks == 0 ? 0 : std::clamp(middle, int64_t{0}, rest) / ranks;
    fail(
        "Expected --num-layers {} less {} of the first and {} of the last stage to share out over "
        "{} stages between, but got {} left; {} layers in the {} stage would work",
        layers, first.value_or(0), last.value_or(0), ranks, middle, rest - each * ranks,
        last ? "last" : "first");
  }
  std::vector<int64_t> counts(stages, ranks == 0 ? 0 : middle / ranks);
  if (first) counts.front() = *first;
  if (last) counts.back() = *last;
  return counts;
}

// `counted`: the layers, and embedding and loss where they count as such.
std::vector<int64_t> even_ranks(const TransformerConfig& config, int64_t counted) {
  const int64_t stages = config.pipeline_model_parallel_size;
  if (counted % stages == 0) return std::vector<int64_t>(stages, counted / stages);
  const int64_t extra = counted - config.num_layers;
  const int64_t chunks =
      std::max<int64_t>(config.pipeline.virtual_pipeline_model_parallel_size.value_or(1), 1);
  const int64_t below = counted / (stages * chunks) * (stages * chunks) - extra;
  const int64_t above = below + stages * chunks;
  fail(
      "Expected --num-layers{} divisible by --pipeline-model-parallel-size ({}), but got {}; "
      "{}--num-layers {}{}, or --pipeline-model-parallel-layout, would work",
      extra > 0 ? fmt::format(" and {} for embedding and loss", extra) : "", stages, counted,
      chunks > 1
          ? ""
          : fmt::format("a pipeline parallel size of {}, or ", nearest_divisors(counted, stages)),
      below < 1 ? "" : fmt::format("{} or ", below), above);
}

std::vector<PipelineChunk> chunks_of_numbers(const TransformerConfig& config) {
  const PipelineConfig& pipeline = config.pipeline;
  const int64_t embedding = pipeline.account_for_embedding_in_pipeline_split ? 1 : 0;
  const int64_t loss = pipeline.account_for_loss_in_pipeline_split ? 1 : 0;
  const bool uneven =
      pipeline.num_layers_in_first_pipeline_stage || pipeline.num_layers_in_last_pipeline_stage;
  check(!uneven || embedding + loss == 0,
        "Expected --decoder-first/last-pipeline-num-layers or "
        "--account-for-embedding/loss-in-pipeline-split, but got both; leave one out");
  check(!uneven || !pipeline.num_layers_per_virtual_pipeline_stage,
        "Expected --num-virtual-stages-per-pipeline-rank with "
        "--decoder-first/last-pipeline-num-layers, but got "
        "--num-layers-per-virtual-pipeline-stage; stages of different size have chunks of "
        "different size");
  const int64_t counted = config.num_layers + embedding + loss;
  const std::vector<int64_t> ranks = uneven ? uneven_ranks(config) : even_ranks(config, counted);
  const int64_t chunks = chunks_per_rank(config, counted);
  std::vector<int64_t> layers;
  for (int64_t chunk = 0; chunk < chunks; ++chunk) {
    for (const int64_t count : ranks) {
      check(count % chunks == 0,
            "Expected {} layers of a rank to divide into {} virtual stages, but got {} left over; "
            "--num-virtual-stages-per-pipeline-rank {} would work",
            count, chunks, count % chunks, nearest_divisors(std::max<int64_t>(count, 1), chunks));
      layers.push_back(count / chunks);
    }
  }
  layers.front() -= embedding;
  layers.back() -= loss;
  check(layers.front() >= 0 && layers.back() >= 0,
        "Expected a layer of the first and last virtual stage for embedding and loss to take the "
        "place of, but got none; fewer virtual stages work");
  return chunks_of_counts(layers);
}

void check_counts(const TransformerConfig& config, const std::vector<std::string>& stages) {
  const std::string all = std::accumulate(stages.begin(), stages.end(), std::string());
  const auto expect = [&](char symbol, int64_t wanted, const char* what) {
    const int64_t got = std::ranges::count(all, symbol);
    check(got == wanted,
          "Expected {} in --pipeline-model-parallel-layout to be {} ({}), but got {}; {} {} '{}' "
          "works",
          fmt::format("the number of '{}'", symbol), wanted, what, got,
          got < wanted ? "adding" : "leaving out", std::abs(got - wanted), symbol);
  };
  expect('E', 1, "the embedding");
  expect('L', 1, "the loss");
  expect('t', config.num_layers, "--num-layers");
  expect('m', config.mtp.mtp_num_layers, "--mtp-num-layers");
  const std::string order = "EtmL";
  check(std::ranges::is_sorted(all, [&](char a, char b) { return order.find(a) < order.find(b); }),
        "Expected E, then every t, then every m, then L in --pipeline-model-parallel-layout, but "
        "got '{}'",
        all);
  check(stages.front().starts_with('E') && stages.back().ends_with('L'),
        "Expected E in the first and L in the last stage of --pipeline-model-parallel-layout, but "
        "got '{}' and '{}'; empty stages go between",
        stages.front(), stages.back());
}

std::vector<PipelineChunk> chunks_of_string(const TransformerConfig& config) {
  const PipelineConfig& pipeline = config.pipeline;
  check(
      !pipeline.num_layers_in_first_pipeline_stage && !pipeline.num_layers_in_last_pipeline_stage &&
          !pipeline.account_for_embedding_in_pipeline_split &&
          !pipeline.account_for_loss_in_pipeline_split &&
          !pipeline.num_layers_per_virtual_pipeline_stage,
      "Expected --pipeline-model-parallel-layout or the options that count layers "
      "(--decoder-first/last-pipeline-num-layers, --account-for-embedding/loss-in-pipeline-split, "
      "--num-layers-per-virtual-pipeline-stage), but got both; leave one out");
  const std::vector<std::string> stages =
      expand_pipeline_layout(pipeline.pipeline_model_parallel_layout);
  check_counts(config, stages);
  std::vector<int64_t> layers;
  for (const std::string& stage : stages) layers.push_back(std::ranges::count(stage, 't'));
  std::vector<PipelineChunk> chunks = chunks_of_counts(layers);
  if (config.mtp.mtp_num_layers == 0) return chunks;
  chunks.back().prediction = false;
  int64_t with_prediction = 0;
  for (size_t i = 0; i < stages.size(); ++i) {
    chunks[i].prediction = stages[i].find('m') != std::string::npos;
    with_prediction += chunks[i].prediction ? 1 : 0;
  }
  check(with_prediction == 1,
        "Expected all m of --pipeline-model-parallel-layout in one stage, but got {} stages",
        with_prediction);
  return chunks;
}

}  // namespace

PipelineLayout::PipelineLayout(int stages, std::vector<PipelineChunk> virtual_stages)
    : stages_(stages),
      chunks_(static_cast<int>(virtual_stages.size()) / stages),
      virtual_stages_(std::move(virtual_stages)) {}

PipelineLayout PipelineLayout::of(const TransformerConfig& config) {
  const PipelineConfig& pipeline = config.pipeline;
  const int64_t stages = config.pipeline_model_parallel_size;
  const auto& virtual_stages = pipeline.virtual_pipeline_model_parallel_size;
  check(!virtual_stages || !pipeline.num_layers_per_virtual_pipeline_stage,
        "Expected --num-virtual-stages-per-pipeline-rank or "
        "--num-layers-per-virtual-pipeline-stage, but got both; leave one out");
  check(virtual_stages.value_or(1) >= 1,
        "Expected --num-virtual-stages-per-pipeline-rank of at least 1, but got {}; 1 works",
        virtual_stages.value_or(1));
  std::vector<PipelineChunk> chunks = pipeline.pipeline_model_parallel_layout.empty()
                                          ? chunks_of_numbers(config)
                                          : chunks_of_string(config);
  const auto count = static_cast<int64_t>(chunks.size());
  check(count % stages == 0,
        "Expected a number of stages in --pipeline-model-parallel-layout divisible by "
        "--pipeline-model-parallel-size ({}), but got {}; {} stages would work",
        stages, count, nearest_multiples(stages, count));
  check(virtual_stages.value_or(count / stages) == count / stages,
        "Expected --num-virtual-stages-per-pipeline-rank {} as --pipeline-model-parallel-layout "
        "says ({} stages on {} ranks), but got {}; leave it out",
        count / stages, count, stages, virtual_stages.value_or(1));
  check(stages > 1 || count == 1,
        "Expected --pipeline-model-parallel-size above 1 with {} virtual stages, but got 1; 2 "
        "works",
        count);
  return {static_cast<int>(stages), std::move(chunks)};
}

int PipelineLayout::prediction_virtual_stage() const {
  const auto place = std::ranges::find_if(virtual_stages_, &PipelineChunk::prediction);
  return static_cast<int>(place - virtual_stages_.begin());
}

int64_t PipelineLayout::most_layers() const {
  return std::ranges::max_element(virtual_stages_, {}, &PipelineChunk::num_layers)->num_layers;
}

std::string describe_stage(const PipelineLayout& layout, int stage, int64_t depths) {
  std::vector<std::string> chunks;
  for (int i = 0; i < layout.chunks(); ++i) {
    const PipelineChunk& chunk = layout.chunk(stage, i);
    std::vector<std::string> parts;
    if (chunk.num_layers == 1) {
      parts.push_back(fmt::format("layer {}", chunk.first_layer + 1));
    } else if (chunk.num_layers > 1) {
      parts.push_back(
          fmt::format("layers {}-{}", chunk.first_layer + 1, chunk.first_layer + chunk.num_layers));
    }
    if (chunk.embedding) parts.emplace_back("embedding");
    if (chunk.prediction && depths > 0)
      parts.push_back(fmt::format("{} further token{}", depths, depths == 1 ? "" : "s"));
    if (chunk.loss) parts.emplace_back("output layer");
    chunks.push_back(parts.empty() ? "nothing" : fmt::format("{}", fmt::join(parts, ", ")));
  }
  return fmt::format("{}", fmt::join(chunks, "; "));
}

}  // namespace megatron
