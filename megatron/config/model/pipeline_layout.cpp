#include "megatron/config/model/pipeline_layout.h"

#include <algorithm>
#include <numeric>

#include <fmt/ranges.h>

#include "megatron/base/error.h"
#include "megatron/base/problems.h"
#include "megatron/config/model/pipeline_layout_string.h"

namespace megatron {
namespace {

// Chunks with these numbers of layers. The first holds the embedding, the last the MTP layers and
// the loss.
std::vector<PipelineChunk> chunks_of_counts(const std::vector<int64_t>& layers) {
  std::vector<PipelineChunk> chunks;
  int64_t first = 0;
  for (const int64_t count : layers) {
    chunks.push_back({.first_layer = first, .num_layers = count});
    first += count;
  }
  chunks.front().embedding = true;
  chunks.back().mtp = chunks.back().loss = true;
  return chunks;
}

// Chunks per rank, from either of the two options. `layers` includes embedding and loss where they
// count as layers.
int64_t chunks_per_rank(const TransformerConfig& config, int64_t layers) {
  const PipelineConfig& pipeline = config.pipeline;
  const int64_t stages = config.pipeline_model_parallel_size;
  if (!pipeline.num_layers_per_virtual_pipeline_stage)
    return pipeline.virtual_pipeline_model_parallel_size.value_or(1);
  const int64_t wanted = *pipeline.num_layers_per_virtual_pipeline_stage, of_rank = layers / stages;
  check(
      layers % stages == 0 && wanted >= 1 && of_rank % wanted == 0,
      "Expected num_layers_per_virtual_pipeline_stage to divide the {} layers per rank ({} ranks), "
      "but got {}; {} would work",
      layers % stages == 0 ? fmt::format("{}", of_rank)
                           : fmt::format("{:.2f}", double(layers) / double(stages)),
      stages, wanted, nearest_divisors(std::max<int64_t>(of_rank, 1), wanted));
  return of_rank / wanted;
}

// Layers of each rank if the first or last stage has its own number.
std::vector<int64_t> uneven_ranks(const TransformerConfig& config) {
  const int64_t stages = config.pipeline_model_parallel_size, layers = config.num_layers;
  const auto& first = config.pipeline.num_layers_in_first_pipeline_stage;
  const auto& last = config.pipeline.num_layers_in_last_pipeline_stage;
  check(stages > 1,
        "Expected pipeline_model_parallel_size above 1 with num_layers_in_first_pipeline_stage "
        "or num_layers_in_last_pipeline_stage, but got {}; leave them out",
        stages);
  const int64_t middle = layers - first.value_or(0) - last.value_or(0);
  const int64_t ranks = stages - (first ? 1 : 0) - (last ? 1 : 0);
  const bool sane = first.value_or(0) >= 0 && last.value_or(0) >= 0 && middle >= 0;
  if (!sane || (ranks == 0 ? middle != 0 : middle % ranks != 0)) {
    // The size of the last (or first) stage that leaves an even split between the others.
    const int64_t fixed = first && last ? std::clamp<int64_t>(*first, 0, layers) : 0;
    const int64_t rest = layers - fixed;
    const int64_t each = ranks == 0 ? 0 : std::clamp(middle, int64_t{0}, rest) / ranks;
    fail(
        "Expected num_layers ({}) minus {} in the first and {} in the last stage to split evenly "
        "over {} other stages, but got {} left; {} layers in the {} stage would work",
        layers, first.value_or(0), last.value_or(0), ranks, middle, rest - each * ranks,
        last ? "last" : "first");
  }
  std::vector<int64_t> counts(stages, ranks == 0 ? 0 : middle / ranks);
  if (first) counts.front() = *first;
  if (last) counts.back() = *last;
  return counts;
}

// `counted`: layers, including embedding and loss where they count as layers.
std::vector<int64_t> even_ranks(const TransformerConfig& config, int64_t counted) {
  const int64_t stages = config.pipeline_model_parallel_size;
  if (counted % stages == 0) return std::vector<int64_t>(stages, counted / stages);
  const int64_t extra = counted - config.num_layers;
  const int64_t chunks =
      std::max<int64_t>(config.pipeline.virtual_pipeline_model_parallel_size.value_or(1), 1);
  const int64_t below = counted / (stages * chunks) * (stages * chunks) - extra;
  const int64_t above = below + stages * chunks;
  fail(
      "Expected num_layers{} divisible by pipeline_model_parallel_size ({}), but got {}; "
      "{}num_layers {}{}, or pipeline_model_parallel_layout, would work",
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
        "Expected num_layers_in_first_pipeline_stage or num_layers_in_last_pipeline_stage, or "
        "account_for_embedding_in_pipeline_split or account_for_loss_in_pipeline_split, but got "
        "both; leave one out");
  check(!uneven || !pipeline.num_layers_per_virtual_pipeline_stage,
        "Expected virtual_pipeline_model_parallel_size with num_layers_in_first_pipeline_stage or "
        "num_layers_in_last_pipeline_stage, but got num_layers_per_virtual_pipeline_stage; chunks "
        "of these stages differ in size");
  const int64_t counted = config.num_layers + embedding + loss;
  const std::vector<int64_t> ranks = uneven ? uneven_ranks(config) : even_ranks(config, counted);
  const int64_t chunks = chunks_per_rank(config, counted);
  std::vector<int64_t> layers;
  for (int64_t chunk = 0; chunk < chunks; ++chunk) {
    for (const int64_t count : ranks) {
      check(count % chunks == 0,
            "Expected the {} layers of a rank to divide into {} virtual stages, but got {} left; "
            "virtual_pipeline_model_parallel_size {} would work",
            count, chunks, count % chunks, nearest_divisors(std::max<int64_t>(count, 1), chunks));
      layers.push_back(count / chunks);
    }
  }
  layers.front() -= embedding;
  layers.back() -= loss;
  check(layers.front() >= 0 && layers.back() >= 0,
        "Expected a layer in the first and last virtual stage that embedding and loss can replace, "
        "but got none; fewer virtual stages work");
  return chunks_of_counts(layers);
}

void check_counts(const TransformerConfig& config, const std::vector<std::string>& stages) {
  const std::string all = std::accumulate(stages.begin(), stages.end(), std::string());
  const auto expect = [&](char symbol, int64_t wanted, const char* what) {
    const int64_t got = std::ranges::count(all, symbol);
    check(got == wanted,
          "Expected {} in pipeline_model_parallel_layout to be {} ({}), but got {}; {} {} '{}' "
          "works",
          fmt::format("the number of '{}'", symbol), wanted, what, got,
          got < wanted ? "adding" : "leaving out", std::abs(got - wanted), symbol);
  };
  expect('E', 1, "the embedding");
  expect('L', 1, "the loss");
  expect('t', config.num_layers, "num_layers");
  expect('m', config.mtp.mtp_num_layers, "mtp_num_layers");
  const std::string order = "EtmL";
  check(std::ranges::is_sorted(all, [&](char a, char b) { return order.find(a) < order.find(b); }),
        "Expected E, then every t, then every m, then L in pipeline_model_parallel_layout, but "
        "got '{}'",
        all);
  check(stages.front().starts_with('E') && stages.back().ends_with('L'),
        "Expected E in the first and L in the last stage of pipeline_model_parallel_layout, but "
        "got '{}' and '{}'; empty stages go between",
        stages.front(), stages.back());
}

std::vector<PipelineChunk> chunks_of_string(const TransformerConfig& config) {
  const PipelineConfig& pipeline = config.pipeline;
  check(!pipeline.num_layers_in_first_pipeline_stage &&
            !pipeline.num_layers_in_last_pipeline_stage &&
            !pipeline.account_for_embedding_in_pipeline_split &&
            !pipeline.account_for_loss_in_pipeline_split &&
            !pipeline.num_layers_per_virtual_pipeline_stage,
        "Expected pipeline_model_parallel_layout or other options that assign layers "
        "(num_layers_in_first_pipeline_stage, num_layers_in_last_pipeline_stage, "
        "account_for_embedding_in_pipeline_split, account_for_loss_in_pipeline_split, "
        "num_layers_per_virtual_pipeline_stage), but got both; leave one out");
  const std::vector<std::string> stages =
      expand_pipeline_layout(pipeline.pipeline_model_parallel_layout);
  check_counts(config, stages);
  std::vector<int64_t> layers;
  for (const std::string& stage : stages) layers.push_back(std::ranges::count(stage, 't'));
  std::vector<PipelineChunk> chunks = chunks_of_counts(layers);
  if (config.mtp.mtp_num_layers == 0) return chunks;
  chunks.back().mtp = false;
  int64_t with_mtp = 0;
  for (size_t i = 0; i < stages.size(); ++i) {
    chunks[i].mtp = stages[i].find('m') != std::string::npos;
    with_mtp += chunks[i].mtp ? 1 : 0;
  }
  check(with_mtp == 1,
        "Expected all m of pipeline_model_parallel_layout in one stage, but got {} stages",
        with_mtp);
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
        "Expected virtual_pipeline_model_parallel_size or "
        "num_layers_per_virtual_pipeline_stage, but got both; leave one out");
  check(virtual_stages.value_or(1) >= 1,
        "Expected virtual_pipeline_model_parallel_size of at least 1, but got {}; 1 works",
        virtual_stages.value_or(1));
  std::vector<PipelineChunk> chunks = pipeline.pipeline_model_parallel_layout.empty()
                                          ? chunks_of_numbers(config)
                                          : chunks_of_string(config);
  const auto count = static_cast<int64_t>(chunks.size());
  check(count % stages == 0,
        "Expected a number of stages in pipeline_model_parallel_layout divisible by "
        "pipeline_model_parallel_size ({}), but got {}; {} stages would work",
        stages, count, nearest_multiples(stages, count));
  check(virtual_stages.value_or(count / stages) == count / stages,
        "Expected virtual_pipeline_model_parallel_size {} for pipeline_model_parallel_layout ({} "
        "stages on {} ranks), but got {}; leave it out",
        count / stages, count, stages, virtual_stages.value_or(1));
  check(stages > 1 || count == 1,
        "Expected pipeline_model_parallel_size above 1 with {} virtual stages, but got 1; 2 "
        "works",
        count);
  return {static_cast<int>(stages), std::move(chunks)};
}

int PipelineLayout::mtp_virtual_stage() const {
  const auto chunk = std::ranges::find_if(virtual_stages_, &PipelineChunk::mtp);
  return static_cast<int>(chunk - virtual_stages_.begin());
}

int64_t PipelineLayout::most_layers() const {
  return std::ranges::max_element(virtual_stages_, {}, &PipelineChunk::num_layers)->num_layers;
}

std::string describe_stage(const PipelineLayout& layout, int stage, int64_t mtp_num_layers) {
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
    if (chunk.mtp && mtp_num_layers > 0)
      parts.push_back(
          fmt::format("{} MTP layer{}", mtp_num_layers, mtp_num_layers == 1 ? "" : "s"));
    if (chunk.loss) parts.emplace_back("output layer");
    chunks.push_back(parts.empty() ? "nothing" : fmt::format("{}", fmt::join(parts, ", ")));
  }
  return fmt::format("{}", fmt::join(chunks, "; "));
}

}  // namespace megatron
