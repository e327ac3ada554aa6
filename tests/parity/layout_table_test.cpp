// The table of parallel layouts: losses and gradients equal those of one rank in every combination,
// with dropout and uneven loss masks. A row is a list of words: tp2 sp cp2 (cp2:a2a, cp2:allgather)
// pp2 vp2 first1 account layout:STRING zero1 fsdp2 fsdp3 overlap defer full selective dropout masks
// per-token. The remaining ranks form the data-parallel group. Where it is larger than the number of
// micro-batches of a case, its ranks share the rows of each micro-batch.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "megatron/config/options/command_line.h"
#include "megatron/config/validate/validate.h"
#include "megatron/models/gpt/gpt_builder.h"
#include "megatron/parallel/model_groups.h"
#include "megatron/parity/case_sharing.h"
#include "megatron/training/train_step.h"

#include "tests/parallel/thread_world.h"
#include "tests/program.h"

namespace megatron {
namespace {

constexpr int64_t kTableSteps = 5;

struct TableRow {
  const char* model;
  int world;
  const char* words;
};

constexpr TableRow kTable[] = {
    // Tensor and sequence parallel.
    {"gpt2_deep", 2, "tp2"},
    {"gpt2_deep", 2, "tp2 sp"},
    {"gpt2_deep", 2, "tp2 sp pieces"},
    {"gpt2_deep", 4, "tp4 sp"},
    {"llama_deep", 2, "tp2 sp"},
    {"llama_deep", 4, "tp4 sp"},
    {"gpt2_deep", 2, "tp2 sp dropout"},
    {"gpt2_deep", 2, "tp2 sp full dropout"},
    {"gpt2_deep", 2, "tp2 sp selective dropout"},
    {"gpt2_deep", 2, "tp2 masks"},
    // Pipeline.
    {"gpt2_deep", 2, "pp2"},
    {"gpt2_deep", 4, "pp4"},
    {"gpt2_deep", 2, "pp2 vp2"},
    {"llama_deep", 2, "pp2 first1"},
    {"llama_deep", 4, "pp4 layout:Et|t*2||tL"},
    {"gpt2_deep", 2, "pp2 layout:Et|t|tt|L"},
    {"gpt2_deep", 3, "pp3 account"},
    {"llama_deep", 2, "pp2 vp2"},
    {"gpt2_deep", 2, "pp2 vp2 dropout"},
    {"gpt2_deep", 4, "pp4 full dropout"},
    {"gpt2_deep", 2, "pp2 vp2 masks"},
    {"gpt2_deep", 2, "pp2 masks per-token"},
    {"mtp1_deep", 2, "pp2"},
    {"mtp1_deep", 4, "pp4 layout:Et|ttt|m|L"},
    // Context parallel.
    {"gpt2_deep", 2, "cp2"},
    {"gpt2_deep", 2, "cp2:a2a"},
    {"gpt2_deep", 2, "cp2:allgather"},
    {"gpt2_deep", 4, "cp4"},
    {"llama_deep", 2, "cp2"},
    {"llama_deep", 2, "cp2:a2a"},
    {"llama_deep", 2, "cp2:allgather"},
    {"gpt2_deep", 2, "cp2 dropout"},
    {"gpt2_deep", 2, "cp2:a2a dropout"},
    {"gpt2_deep", 2, "cp2:allgather dropout"},
    {"gpt2_deep", 2, "cp2 masks"},
    {"gpt2_deep", 2, "cp2 masks per-token"},
    {"gpt2_deep", 2, "cp2 full dropout"},
    {"mtp1_deep", 2, "cp2"},
    // Data parallel.
    {"gpt2_deep", 2, ""},
    {"gpt2_deep", 4, ""},
    {"gpt2_deep", 4, "overlap"},
    {"gpt2_deep", 2, "zero1"},
    {"gpt2_deep", 4, "zero1 overlap"},
    {"gpt2_deep", 2, "fsdp2"},
    {"gpt2_deep", 4, "fsdp2 overlap"},
    {"gpt2_deep", 2, "fsdp3"},
    {"gpt2_deep", 4, "fsdp3 overlap"},
    {"llama_deep", 4, "zero1 overlap"},
    {"llama_deep", 4, "fsdp3 overlap"},
    {"gpt2_deep", 4, "fsdp3 overlap full dropout"},
    {"gpt2_deep", 4, "overlap dropout"},
    {"gpt2_deep", 4, "masks"},
    {"gpt2_loss_mask", 2, ""},
    {"gpt2_loss_mask", 2, "zero1 overlap dropout"},
    {"gpt2_deep", 4, "zero1 overlap masks per-token"},
    {"mtp1_deep", 2, "zero1"},
    // Combinations.
    {"gpt2_deep", 4, "tp2 pp2"},
    {"gpt2_deep", 4, "tp2 sp pp2 vp2"},
    {"gpt2_deep", 4, "tp2 cp2"},
    {"gpt2_deep", 4, "tp2 sp cp2"},
    {"gpt2_deep", 4, "tp2 sp zero1 overlap"},
    {"gpt2_deep", 4, "tp2 sp fsdp3 overlap"},
    {"mtp1_deep", 4, "pp2 cp2"},
    {"gpt2_deep", 4, "pp2 vp2 cp2:allgather"},
    {"gpt2_deep", 4, "pp2 zero1 overlap defer"},
    {"gpt2_deep", 4, "pp2 vp2 zero1 overlap"},
    {"gpt2_deep", 4, "pp2 fsdp3 overlap defer"},
    {"gpt2_deep", 4, "cp2 zero1 overlap"},
    {"gpt2_deep", 4, "cp2:a2a fsdp3 overlap"},
    {"gpt2_loss_mask", 4, "tp2 sp overlap"},
    {"mla", 4, "tp2 sp pp2"},
    {"mla", 4, "pp2 zero1 overlap"},
    {"mla", 4, "tp2 cp2"},
    {"llama_deep", 4, "tp2 sp pp2 vp2"},
    {"llama_deep", 4, "tp2 sp cp2:a2a"},
    {"gpt2_deep", 8, "tp2 sp pp2 cp2"},
    {"gpt2_deep", 8, "tp2 sp pp2 vp2 zero1 overlap"},
    {"gpt2_deep", 8, "tp2 sp cp2 zero1 overlap dropout"},
    {"gpt2_deep", 8, "tp2 sp pp2 vp2 cp2 full dropout"},
    {"gpt2_deep", 8, "pp2 vp2 cp2 zero1 overlap masks"},
    {"gpt2_deep", 8, "tp2 pp2 fsdp3 overlap dropout"},
    {"llama_deep", 8, "tp2 sp pp2 vp2 cp2"},
    {"llama_deep", 8, "tp2 sp pp4"},
};

std::vector<std::string> split_words(const char* text) {
  std::istringstream stream(text);
  return {std::istream_iterator<std::string>(stream), {}};
}

// The command-line flags of a row.
std::string flags_of(const char* words) {
  static const std::map<std::string, std::string> flags = {
      {"tp", "--tensor-model-parallel-size "},
      {"pp", "--pipeline-model-parallel-size "},
      {"vp", "--num-virtual-stages-per-pipeline-rank "},
      {"cp", "--context-parallel-size "},
      {"sp", "--sequence-parallel"},
      {"pieces", "--tp-comm-overlap"},
      {"first1", "--decoder-first-pipeline-num-layers 1"},
      {"account", "--account-for-embedding-in-pipeline-split --account-for-loss-in-pipeline-split"},
      {"defer", "--defer-embedding-wgrad-compute"},
      {"zero1", "--use-distributed-optimizer"},
      {"fsdp2", "--use-megatron-fsdp --data-parallel-sharding-strategy optim_grads"},
      {"fsdp3", "--use-megatron-fsdp --data-parallel-sharding-strategy optim_grads_params"},
      {"full", "--recompute-granularity full --recompute-method uniform --recompute-num-layers 1"},
      {"selective", "--recompute-granularity selective"},
  };
  const std::vector<std::string> list = split_words(words);
  const bool shards_optimizer = std::ranges::any_of(
      list, [](const auto& word) { return word == "zero1" || word.starts_with("fsdp"); });
  std::string result;
  for (const std::string& word : list) {
    if (word == "dropout" || word == "masks" || word == "per-token") continue;
    if (word == "overlap") {
      result += "--overlap-grad-reduce ";
      if (shards_optimizer) result += "--overlap-param-gather ";
      continue;
    }
    if (const auto found = flags.find(word); found != flags.end()) {
      result += found->second + " ";
      continue;
    }
    const auto colon = word.find(':');
    if (word.starts_with("layout:")) {
      result += "--pipeline-model-parallel-layout " + word.substr(colon + 1) + " ";
      continue;
    }
    result += flags.at(word.substr(0, 2)) + word.substr(2, colon - 2) + " ";
    if (colon != std::string::npos) result += "--cp-comm-type " + word.substr(colon + 1) + " ";
  }
  return result;
}

bool has_word(const TableRow& row, const char* word) {
  return std::ranges::count(split_words(row.words), word) > 0;
}

const ParityCase& case_of(const char* model) {
  static std::map<std::string, ParityCase> cases;
  const auto found = cases.find(model);
  if (found != cases.end()) return found->second;
  const std::string path = std::string(TEST_DATA_DIR "/megatron_core/") + model + ".json";
  return cases.emplace(model, ParityCase::open(path)).first->second;
}

Options table_options(const TableRow& row, at::ScalarType dtype) {
  const std::vector<std::string> flags = split_words(flags_of(row.words).c_str());
  Options options = parse_options(Command::bench, flags).options;
  TransformerConfig& transformer = options.model.transformer;
  transformer.params_dtype = dtype;
  case_of(row.model).configure(options, /*keep_params_dtype=*/true);
  if (has_word(row, "dropout")) transformer.hidden_dropout = transformer.attention_dropout = 0.1;
  transformer.calculate_per_token_loss = has_word(row, "per-token");
  options.ddp.bucket_size = 30000;  // several buckets
  validate(options, row.world, Command::parity);
  return options;
}

// `rows` of a micro-batch from `first_row` on.
MicroBatch table_microbatch(const TableRow& row, int64_t step, int64_t index, int64_t first_row,
                            int64_t rows) {
  const ParityCase& source = case_of(row.model);
  const ParityCase::Input input = source.input(step % source.steps(), index);
  const auto part = [&](const at::Tensor& whole) { return whole.narrow(0, first_row, rows); };
  MicroBatch microbatch{.tokens = part(input.tokens),
                        .position_ids = part(input.position_ids),
                        .labels = part(input.labels),
                        .loss_mask = part(input.loss_mask),
                        .attention_mask = input.attention_mask,
                        .sample_ordinals = {}};
  const int64_t first =
      (step * source.num_microbatches() + index) * input.tokens.size(0) + first_row;
  microbatch.sample_ordinals = at::arange(first, first + rows, at::kLong);
  if (has_word(row, "masks")) {
    microbatch.loss_mask = (microbatch.labels % (index + 2) != 0).to(input.loss_mask.scalar_type());
  }
  return microbatch;
}

struct TableNumbers {
  std::vector<double> losses, grad_norms;
  std::map<std::string, at::Tensor> gradients;  // of the first step; local shards
};

// Runs a row on this rank. Calls `compare` with each parameter after the first step's backward.
template <typename Compare>
TableNumbers run_row(const TableRow& row, const Options& options, const RankContext& rank,
                     const Compare& compare) {
  const ParityCase& source = case_of(row.model);
  const ProcessGroupCollection groups = make_model_groups(options.model, rank);
  const GPTModelChunks chunks = build_gpt_model_chunks(options.model, groups, rank.device);
  {
    const at::NoGradGuard no_grad;
    for (const ParameterPtr& parameter : parameters_of(chunks)) {
      if (parameter->shared) continue;
      parameter->data.copy_(
          parameter->local_part(source.weight(parameter->name, parameter->global_shape())));
    }
    for (const auto& chunk : chunks) chunk->synchronize_shared_embedding();
  }
  TrainStep step(chunks, options);
  TableNumbers numbers;
  const CaseShare share = case_share(source, options.model.transformer, rank.world_size);
  const int64_t place = groups.dp->rank();
  for (int64_t i = 0; i < kTableSteps; ++i) {
    std::vector<MicroBatch> microbatches;
    for (int64_t m = 0; m < share.microbatches; ++m) {
      microbatches.push_back(
          share.sharing == BatchSharing::rows
              ? table_microbatch(row, i, m, place * share.rows, share.rows)
              : table_microbatch(row, i, place * share.microbatches + m, 0, share.rows));
    }
    numbers.losses.push_back(step.forward_backward(microbatches, share.sharing).loss);
    if (i == 0) {
      step.unshard_gradients();
      for (const ParameterPtr& parameter : step.parameters())
        if (!parameter->shared) compare(*parameter);
    }
    numbers.grad_norms.push_back(step.optimize(source.learning_rate()).grad_norm);
  }
  return numbers;
}

// One rank's numbers for the same model, dropout and masks.
const TableNumbers& one_rank(const TableRow& row, at::ScalarType dtype) {
  static std::map<std::string, TableNumbers> known;
  std::string words;
  for (const char* word : {"dropout", "masks", "per-token"})
    if (has_word(row, word)) words += std::string(word) + " ";
  const std::string key = fmt::format("{} {}{}", row.model, words, c10::toString(dtype));
  if (const auto found = known.find(key); found != known.end()) return found->second;
  const TableRow alone{row.model, 1, words.c_str()};
  TableNumbers numbers;
  run_thread_world(1, [&](RankContext& rank) {
    std::map<std::string, at::Tensor> gradients;
    numbers = run_row(alone, table_options(alone, dtype), rank, [&](const Parameter& parameter) {
      gradients[parameter.name] = parameter.main_grad.clone();
    });
    numbers.gradients = std::move(gradients);
  });
  return known.emplace(key, std::move(numbers)).first->second;
}

// The largest differences. Those of gradients are relative to the largest element of the tensor, or
// to a thousandth of the largest element of all tensors where that is more: smaller gradients are
// dominated by cancellation.
constexpr double kGradientFloor = 1e-3;

struct Differences {
  double loss = 0, gradient = 0;
  std::string gradient_of;  // the parameter, with the largest element of its gradient

  void note_gradient(double difference, double largest, double floor, const std::string& name) {
    const double relative = difference / std::max(largest, floor);
    if (relative <= gradient) return;
    gradient = relative;
    gradient_of = fmt::format("{} (largest {:.1e}, floor {:.1e})", name, largest, floor);
  }
};

Differences differences_of(const TableRow& row, at::ScalarType dtype) {
  const TableNumbers& want = one_rank(row, dtype);
  const Options options = table_options(row, dtype);
  std::map<std::string, double> largest_of;
  double floor = 0;
  for (const auto& [name, gradient] : want.gradients) {
    largest_of[name] = gradient.abs().max().item<double>();
    floor = std::max(floor, kGradientFloor * largest_of[name]);
  }
  std::vector<Differences> by_rank(row.world);
  run_thread_world(row.world, [&](RankContext& rank) {
    Differences& largest = by_rank[rank.rank];
    const TableNumbers got = run_row(row, options, rank, [&](const Parameter& parameter) {
      const at::Tensor theirs = parameter.local_part(want.gradients.at(parameter.name));
      const at::Tensor difference = (parameter.main_grad - theirs).abs().max();
      largest.note_gradient(difference.item<double>(), largest_of.at(parameter.name), floor,
                            parameter.name);
    });
    for (size_t i = 0; i < want.losses.size(); ++i) {
      largest.loss = std::max(
          {largest.loss, std::abs(got.losses[i] - want.losses[i]),
           std::abs(got.grad_norms[i] - want.grad_norms[i]) / std::max(1.0, want.grad_norms[i])});
    }
  });
  Differences all;
  for (const Differences& one : by_rank) {
    all.loss = std::max(all.loss, one.loss);
    if (one.gradient <= all.gradient) continue;
    all.gradient = one.gradient;
    all.gradient_of = one.gradient_of;
  }
  return all;
}

// Escapes the text of a Markdown table cell.
std::string cell(std::string text) {
  for (size_t at = 0; (at = text.find('|', at)) != std::string::npos; at += 2)
    text.insert(at, "\\");
  return text;
}

TEST(LayoutTable, EveryCombinationHasTheNumbersOfOneRank) {
  std::string gradients_of;  // where each row's fp32 gradients differ most
  std::string table =
      "| model | ranks | layout | losses, fp32 | gradients, fp32 | losses, fp64 | gradients, fp64 "
      "|\n|---|---|---|---|---|---|---|\n";
  for (const TableRow& row : kTable) {
    SCOPED_TRACE(fmt::format("{} on {} ranks: {}", row.model, row.world, row.words));
    const Differences in_float = differences_of(row, at::kFloat);
    const Differences in_double = differences_of(row, at::kDouble);
    table += fmt::format("| {} | {} | {} | {:.0e} | {:.0e} | {:.0e} | {:.0e} |\n", row.model,
                         row.world, *row.words ? cell(row.words) : "data parallel", in_float.loss,
                         in_float.gradient, in_double.loss, in_double.gradient);
    gradients_of += fmt::format("{:.1e} {} {} {}: {}\n", in_float.gradient, row.model, row.world,
                                row.words, in_float.gradient_of);
    EXPECT_LE(in_float.loss, 1e-5);
    EXPECT_LE(in_float.gradient, 1e-5) << in_float.gradient_of;
    EXPECT_LE(in_double.loss, 1e-10);
    EXPECT_LE(in_double.gradient, 1e-10) << in_double.gradient_of;
  }
  fmt::print("{}\nWhere fp32 gradients differ most:\n{}", table, gradients_of);
  // The losses of one rank equal those of megatron-core.
  for (const char* model : {"gpt2_deep", "llama_deep", "mtp1_deep"}) {
    const auto theirs = case_of(model).json()["step_loss"].get<std::vector<double>>();
    const std::vector<double>& ours = one_rank({model, 1, ""}, at::kFloat).losses;
    for (size_t i = 0; i < theirs.size(); ++i) EXPECT_NEAR(ours[i], theirs[i], 1e-5) << model;
  }
}

constexpr TableRow kProcessTable[] = {
    {"", 2, "tp2 sp"},
    {"", 2, "pp2 vp2 masks"},
    {"", 2, "cp2"},
    {"", 2, "cp2:a2a"},
    {"", 2, "cp2:allgather"},
    {"", 2, "overlap"},
    {"", 2, "zero1 overlap masks per-token"},
    {"", 2, "fsdp2 overlap"},
    {"", 2, "fsdp3 overlap"},
    {"", 4, "tp2 sp pp2 vp2"},
    {"", 4, "tp2 sp zero1 overlap"},
    {"", 4, "pp2 first1 cp2"},
    {"", 4, "cp2 fsdp3 overlap full"},
};

// Runs layouts as processes over gloo, through the program, with dropout.
TEST(LayoutTable, ProcessesHaveTheNumbersOfOneRank) {
  std::string pattern = testing::TempDir() + "/table-XXXXXX";
  ASSERT_NE(mkdtemp(pattern.data()), nullptr);
  struct Step {
    double loss, grad_norm;
  };
  const auto steps_of = [&](const TableRow& row) {
    std::string flags = flags_of(row.words);
    // One token in 257 ends a document, so only some samples of a step have masked tokens.
    flags += has_word(row, "masks") ? "--tokenizer-type ByteTokenizer --eod-mask-loss "
                                    : "--vocab-size 96 ";
    if (has_word(row, "per-token")) flags += "--calculate-per-token-loss ";
    const std::string log = fmt::format("{}/log.jsonl", pattern);
    std::remove(log.c_str());
    const ProgramResult result = run_program(fmt::format(
        "train --mock-data --make-vocab-size-divisible-by 8 --num-layers 4 "
        "--hidden-size 32 --num-attention-heads 4 --seq-length 32 --micro-batch-size 1 "
        "--global-batch-size 8 --train-iters 5 --lr 1e-3 --adam-eps 1e-5 --hidden-dropout 0.1 "
        "--attention-dropout 0.1 --eval-interval 0 --threads 1 --ddp-bucket-size 9000 "
        "--log-json {} --nproc {} {}",
        log, row.world, flags));
    EXPECT_EQ(result.status, 0) << flags << '\n' << result.errors;
    std::vector<Step> steps;
    std::ifstream stream(log);
    for (std::string line; std::getline(stream, line);) {
      const nlohmann::json step = nlohmann::json::parse(line);
      steps.push_back({step["loss"].get<double>(), step["grad_norm"].get<double>()});
    }
    return steps;
  };
  std::map<std::string, std::vector<Step>> one_rank_by_words;
  for (const TableRow& row : kProcessTable) {
    SCOPED_TRACE(row.words);
    std::string words;
    for (const char* word : {"masks", "per-token"})
      if (has_word(row, word)) words += std::string(word) + " ";
    if (!one_rank_by_words.contains(words))
      one_rank_by_words[words] = steps_of({"", 1, words.c_str()});
    const std::vector<Step>& want = one_rank_by_words[words];
    ASSERT_EQ(std::ssize(want), kTableSteps);
    const std::vector<Step> got = steps_of(row);
    ASSERT_EQ(got.size(), want.size());
    for (size_t i = 0; i < want.size(); ++i) {
      EXPECT_NEAR(got[i].loss, want[i].loss, 1e-5);
      EXPECT_NEAR(got[i].grad_norm, want[i].grad_norm, 1e-5 * std::max(1.0, want[i].grad_norm));
    }
  }
  std::filesystem::remove_all(pattern);
}

}  // namespace
}  // namespace megatron
