// The table of parallel layouts: losses and gradients equal those of one rank in every combination,
// with dropout and uneven loss masks. A row is a list of words: those of a layout's name
// (verify/layout_name.h), and those that change the model (dropout, masks, per-token, and of experts
// capacity, position, seq-aux, global-aux, z-loss, shared, expert-bias) or the way to the experts
// (alltoall, allgather). The remaining ranks form the data-parallel group. Where it is larger than the number of micro-batches of a case, its ranks share the rows of
// each micro-batch.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>

#include <ATen/ATen.h>
#include <fmt/ranges.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "megatron/config/validate/validate.h"
#include "megatron/parity/case_sharing.h"
#include "megatron/verify/layout_name.h"
#include "megatron/verify/option_flags.h"
#include "megatron/verify/training_trace.h"

#include "tests/program.h"
#include "tests/temporary_folder.h"

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
    {"gpt2_deep", 2, "tp2 sp tp-overlap"},
    {"gpt2_deep", 4, "tp4 sp"},
    {"llama_deep", 2, "tp2 sp"},
    {"llama_deep", 4, "tp4 sp"},
    {"gpt2_deep", 2, "tp2 sp dropout"},
    {"gpt2_deep", 2, "tp2 sp full dropout"},
    {"gpt2_deep", 2, "tp2 sp selective dropout"},
    {"gpt2_deep", 2, "tp2 masks"},
    // Layers of other specs than that of the one rank (transformer_engine).
    {"gpt2_deep", 1, "local"},
    {"gpt2_deep", 1, "full-layer"},
    {"gpt2_deep", 2, "tp2 local"},
    {"gpt2_deep", 2, "tp2 sp local"},
    {"gpt2_deep", 2, "tp2 sp full-layer"},
    {"gpt2_deep", 2, "tp2 sp tp-overlap full-layer"},
    {"gpt2_deep", 2, "tp2 sp local selective dropout"},
    {"gpt2_deep", 2, "pp2 vp2 full-layer"},
    {"llama_deep", 2, "tp2 sp local"},
    {"llama_deep", 2, "tp2 sp full-layer dropout"},
    {"mla", 2, "tp2 sp local"},
    {"mtp1_deep", 2, "pp2 local"},
    {"mtp1_deep", 2, "pp2 full-layer"},
    {"gpt2_deep", 4, "tp2 sp fsdp3 overlap local"},
    {"gpt2_deep", 4, "cp2 zero1 overlap full-layer"},
    {"gpt2_deep", 1, "op-fuser"},
    {"gpt2_deep", 2, "tp2 op-fuser dropout"},
    {"gpt2_deep", 2, "tp2 sp tp-overlap op-fuser"},
    {"gpt2_deep", 2, "tp2 sp selective op-fuser"},
    {"llama_deep", 2, "tp2 sp op-fuser"},
    {"gpt2_deep", 4, "pp2 vp2 fsdp3 overlap op-fuser"},
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
    {"gpt2_deep", 2, "torch-fsdp2"},
    {"gpt2_deep", 4, "torch-fsdp2 overlap"},
    {"gpt2_deep", 4, "torch-fsdp2 overlap no-reshard full dropout"},
    {"llama_deep", 4, "zero1 overlap"},
    {"llama_deep", 4, "fsdp3 overlap"},
    {"gpt2_deep", 4, "fsdp3 overlap full dropout"},
    {"gpt2_deep", 4, "overlap dropout"},
    {"gpt2_deep", 4, "masks"},
    {"gpt2_loss_mask", 2, ""},
    {"gpt2_loss_mask", 2, "zero1 overlap dropout"},
    {"gpt2_deep", 4, "zero1 overlap masks per-token"},
    {"mtp1_deep", 2, "zero1"},
    // Families of models.
    {"llama_deep", 2, "tp2 sp gemma"},
    {"llama_deep", 2, "tp2 gemma local dropout"},
    {"llama_deep", 2, "tp2 sp gemma full-layer"},
    {"llama_deep", 2, "tp2 gemma op-fuser"},
    {"llama_deep", 2, "pp2 vp2 gemma"},
    {"llama_deep", 2, "cp2 gemma"},
    {"llama_deep", 2, "cp2:a2a gemma dropout"},
    {"llama_deep", 2, "cp2:allgather gemma"},
    {"llama_deep", 4, "fsdp3 overlap gemma"},
    {"llama_deep", 8, "tp2 sp pp2 vp2 cp2 gemma dropout"},
    {"llama_deep", 2, "tp2 sp cohere"},
    {"llama_deep", 4, "tp4 sp cohere"},
    {"llama_deep", 2, "tp2 cohere local"},
    {"llama_deep", 2, "tp2 sp cohere selective dropout"},
    {"llama_deep", 2, "pp2 vp2 cohere dropout"},
    {"llama_deep", 2, "cp2 cohere"},
    {"llama_deep", 8, "tp2 sp pp2 cp2 zero1 overlap cohere"},
    // A shared norm that is recomputed, with parameters that are gathered for that.
    {"llama_deep", 2, "fsdp3 cohere recompute-norm"},
    {"llama_deep", 4, "pp2 torch-fsdp2 overlap cohere recompute-norm dropout"},
    {"llama_deep", 2, "tp2 sp olmo"},
    {"llama_deep", 4, "tp4 sp olmo"},
    {"llama_deep", 2, "tp2 olmo local dropout"},
    {"llama_deep", 2, "pp2 vp2 olmo"},
    {"llama_deep", 2, "cp2 olmo"},
    {"llama_deep", 8, "tp2 sp pp2 cp2 fsdp3 overlap olmo"},
    {"llama_deep", 2, "tp2 sp neox"},
    {"llama_deep", 2, "tp2 neox local selective dropout"},
    {"llama_deep", 2, "tp2 sp neox op-fuser"},
    {"llama_deep", 2, "pp2 vp2 neox full dropout"},
    {"llama_deep", 8, "tp2 sp pp2 cp2 neox"},
    {"llama_deep", 2, "tp2 sp granite"},
    {"llama_deep", 2, "pp2 vp2 granite"},
    {"llama_deep", 2, "cp2 granite"},
    {"llama_deep", 8, "tp2 sp pp2 vp2 cp2 granite dropout"},
    // Combinations.
    {"gpt2_deep", 4, "tp2 pp2"},
    {"gpt2_deep", 4, "tp2 sp pp2 vp2"},
    {"gpt2_deep", 4, "tp2 cp2"},
    {"gpt2_deep", 4, "tp2 sp cp2"},
    {"gpt2_deep", 4, "tp2 sp zero1 overlap"},
    {"gpt2_deep", 4, "tp2 sp fsdp3 overlap"},
    {"gpt2_deep", 4, "tp2 sp torch-fsdp2 overlap"},
    {"mtp1_deep", 4, "pp2 cp2"},
    {"gpt2_deep", 4, "pp2 vp2 cp2:allgather"},
    {"gpt2_deep", 4, "pp2 zero1 overlap defer"},
    {"gpt2_deep", 4, "pp2 vp2 zero1 overlap"},
    {"gpt2_deep", 4, "pp2 fsdp3 overlap defer"},
    {"mtp1_deep", 4, "pp2 torch-fsdp2 overlap"},
    {"gpt2_deep", 4, "cp2 zero1 overlap"},
    {"gpt2_deep", 4, "cp2:a2a fsdp3 overlap"},
    {"llama_deep", 4, "cp2 torch-fsdp2"},
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
    // Experts.
    {"moe_deep", 2, "ep2 alltoall"},
    {"moe_deep", 2, "ep2 allgather"},
    {"moe_deep", 4, "ep4 alltoall"},
    {"moe_deep", 4, "ep2 alltoall overlap"},
    {"moe_deep", 2, "tp2 sp alltoall"},
    {"moe_deep", 2, "tp2 sp etp1 ep2 allgather"},
    {"moe_deep", 2, "etp2 allgather"},
    {"moe_deep", 4, "tp2 sp ep2 alltoall"},
    {"moe_deep", 4, "tp2 sp etp1 ep4 alltoall dropout"},
    {"moe_deep", 4, "tp2 sp etp1 ep2 allgather zero1"},
    {"moe_deep", 2, "ep2 alltoall zero1"},
    {"moe_deep", 4, "ep2 alltoall zero1 overlap dropout"},
    {"moe_deep", 4, "ep2 etp2 alltoall fsdp2 overlap"},
    {"moe_deep", 4, "ep2 allgather fsdp3 overlap"},
    {"moe_deep", 4, "ep4 alltoall torch-fsdp2"},
    {"moe_deep", 4, "ep2 alltoall fsdp3 overlap full dropout"},
    {"moe_deep", 4, "pp2 ep2 alltoall"},
    {"moe_deep", 4, "pp2 vp2 ep2 alltoall masks"},
    {"moe_deep", 2, "cp2 ep2 alltoall"},
    {"moe_deep", 4, "cp2 ep4 allgather masks"},
    {"moe_deep", 4, "cp2:a2a ep2 alltoall zero1 overlap"},
    {"moe_deep", 4, "tp2 sp cp2 ep2 alltoall seq-aux"},
    {"moe_deep", 4, "ep2 alltoall masks per-token"},
    {"moe_deep", 2, "ep2 alltoall recompute-moe"},
    {"moe_deep", 4, "pp2 ep2 alltoall recompute-moe masks per-token"},
    {"moe_deep", 2, "tp2 sp ep2 etp1 alltoall full"},
    {"moe_deep", 2, "tp2 sp alltoall capacity"},
    {"moe_deep", 2, "cp2 ep2 alltoall capacity"},
    {"moe_deep", 4, "tp2 sp cp2 ep2 allgather capacity"},
    {"moe_deep", 4, "ep4 alltoall capacity position"},
    {"moe_deep", 4, "cp2 ep2 alltoall capacity position"},
    {"moe_deep", 4, "ep2 alltoall global-aux z-loss"},
    {"moe_deep", 4, "tp2 sp ep2 alltoall global-aux"},
    {"moe_deep", 4, "cp2 ep2 alltoall seq-aux z-loss masks"},
    {"moe_deep", 2, "ep2 alltoall shared dropout"},
    {"moe_deep", 4, "tp2 sp ep2 alltoall shared recompute-moe"},
    {"moe_deep", 2, "ep2 alltoall local"},
    {"moe_deep", 2, "ep2 alltoall full-layer"},
    {"moe_deep_dsv3", 2, "ep2 alltoall"},
    {"moe_deep_dsv3", 4, "pp2 ep2 alltoall"},
    {"moe_deep_dsv3", 4, "tp2 sp ep4 etp1 allgather zero1"},
    {"moe_deep_dsv3", 4, "cp2 ep2 alltoall"},
    {"mtp1_moe", 2, "ep2 alltoall"},
    {"mtp1_moe", 4, "tp2 sp ep2 alltoall masks"},
    {"mtp1_moe", 4, "pp2 cp2 ep2 alltoall"},
    {"moe_deep", 8, "tp2 sp pp2 cp2 ep2 alltoall"},
    // Combined 1F1B.
    {"moe_deep", 2, "ep2 alltoall combined"},
    {"moe_deep", 4, "ep2 alltoall combined zero1 overlap dropout"},
    {"moe_deep", 4, "ep2 etp2 alltoall combined fsdp2 overlap"},
    {"moe_deep", 4, "ep2 alltoall combined fsdp3 overlap shared"},
    {"moe_deep", 4, "tp2 sp ep2 alltoall combined shared dropout"},
    {"moe_deep", 4, "cp2 ep2 alltoall combined capacity masks per-token"},
    {"moe_deep", 4, "pp2 ep2 alltoall combined masks"},
    {"moe_deep", 4, "pp2 vp2 ep2 alltoall combined dropout selective"},
    {"moe_deep_dsv3", 4, "pp2 ep2 alltoall combined"},
    {"mtp1_moe", 4, "pp2 ep2 alltoall combined overlap"},
    {"moe_deep", 4, "pp2 ep2 alltoall combined delay-wgrad zero1"},
    {"moe_deep", 8, "tp2 sp ep4 etp2 alltoall zero1 overlap"},
    {"moe_deep", 8, "pp2 vp2 ep4 allgather fsdp3 dropout"},
};

using ModelChange = void (*)(GPTModelConfig&);

// Families of models, as changes to a case.
const std::map<std::string, ModelChange> kFamilies = {
    // Norms before and after each branch, caps, an embedding scale, layers with a window and their
    // own base.
    {"gemma",
     [](GPTModelConfig& c) {
       TransformerConfig& t = c.transformer;
       t.norm_placement = NormPlacement::around;
       t.attn_logit_softcapping = 0.5;
       t.final_logit_softcapping = 3;
       t.embedding_multiplier = 8;
       t.softmax_scale = 0.2;
       t.window_size = {7, 0};
       t.window_attn_skip_freq = {2};
       t.activation_func = ActivationFunction::openai_gelu;
       c.rotary_base = 1000;
       c.rotary_base_local = 100;
       c.seq_len_interpolation_factor = 2;
       c.share_embeddings_and_output_weights = true;
     }},
    // One LayerNorm without bias for parallel branches, weights of each head in QK norms.
    {"cohere",
     [](GPTModelConfig& c) {
       TransformerConfig& t = c.transformer;
       t.use_parallel_residual = t.share_parallel_layernorm = true;
       t.normalization = Normalization::LayerNorm;
       t.layernorm_bias = false;
       t.qk_layernorm = true;
       t.qk_layernorm_scope = QkNormScope::per_head;
       t.rotary_interleaved = true;
       t.no_rope_freq = {2};
       t.logit_multiplier = 0.5;
       c.share_embeddings_and_output_weights = true;
     }},
    // Norms after the branches, QK norms over all heads of all ranks.
    {"olmo",
     [](GPTModelConfig& c) {
       TransformerConfig& t = c.transformer;
       t.norm_placement = NormPlacement::after;
       t.qk_layernorm = true;
       t.qk_layernorm_scope = QkNormScope::projection;
     }},
    // Parallel branches with a norm each, a part of the head rotates.
    {"neox",
     [](GPTModelConfig& c) {
       TransformerConfig& t = c.transformer;
       t.use_parallel_residual = true;
       t.normalization = Normalization::LayerNorm;
       t.add_bias_linear = true;
       t.gated_linear_unit = false;
       t.activation_func = ActivationFunction::gelu;
       c.rotary_percent = 0.5;
       c.add_output_layer_bias = true;
     }},
    // Multipliers, a bias in some linear layers, frequencies of a longer context.
    {"granite",
     [](GPTModelConfig& c) {
       TransformerConfig& t = c.transformer;
       t.embedding_multiplier = 6;
       t.residual_multiplier = 0.5;
       t.logit_multiplier = 0.25;
       t.add_mlp_bias = true;
       c.longrope_short_factor = std::vector<double>(t.head_dim() / 2, 1.5);
       c.longrope_long_factor = std::vector<double>(t.head_dim() / 2, 4);
       c.longrope_mscale = 1.2;
       c.rope_scaling_original_max_position_embeddings = 20;
     }},
};

// Words of a row that are not part of its layout.
constexpr const char* kModelWords[] = {"dropout", "masks",      "per-token", "capacity", "position",
                                       "seq-aux", "global-aux", "z-loss",    "shared",   "gemma",
                                       "cohere",  "olmo",       "neox",      "granite"};
constexpr const char* kDispatchers[] = {"alltoall", "allgather"};

// The layout of a row; without its data-parallel size, which follows from the number of ranks.
NamedLayout layout_of(const char* words) {
  std::vector<std::string> of_layout;
  for (const std::string& word : split_flags(words))
    if (!std::ranges::count(kModelWords, word) && !std::ranges::count(kDispatchers, word))
      of_layout.push_back(word);
  if (of_layout.empty()) of_layout = {"dp1"};
  return layout_from_name(fmt::format("{}", fmt::join(of_layout, "+")));
}

bool has_word(const TableRow& row, const char* word) {
  return std::ranges::count(split_flags(row.words), word) > 0;
}

const ParityCase& case_of(const char* model) {
  static std::map<std::string, ParityCase> cases;
  const auto found = cases.find(model);
  if (found != cases.end()) return found->second;
  const std::string path = std::string(TEST_DATA_DIR "/megatron_core/") + model + ".json";
  return cases.emplace(model, ParityCase::open(path)).first->second;
}

void apply_expert_words(const TableRow& row, MoeConfig& moe) {
  if (!moe.has_experts()) return;
  moe.moe_token_dispatcher_type = has_word(row, "allgather") ? MoeTokenDispatcherType::allgather
                                                             : MoeTokenDispatcherType::alltoall;
  if (has_word(row, "capacity")) moe.moe_expert_capacity_factor = 0.75;
  if (has_word(row, "position")) moe.moe_token_drop_policy = MoeTokenDropPolicy::position;
  if (has_word(row, "seq-aux")) moe.moe_router_load_balancing_type = {"seq_aux_loss"};
  if (has_word(row, "global-aux")) moe.moe_router_load_balancing_type = {"global_aux_loss"};
  if (has_word(row, "z-loss")) moe.moe_z_loss_coeff = 0.01;
  if (has_word(row, "shared")) moe.moe_shared_expert_intermediate_size = 32;
}

Options table_options(const TableRow& row, at::ScalarType dtype) {
  Options options;
  apply_layout(layout_of(row.words), options);
  TransformerConfig& transformer = options.model.transformer;
  transformer.params_dtype = dtype;
  case_of(row.model).configure(options, /*keep_params_dtype=*/true);
  if (has_word(row, "dropout")) transformer.hidden_dropout = transformer.attention_dropout = 0.1;
  transformer.calculate_per_token_loss = has_word(row, "per-token");
  for (const auto& [word, change] : kFamilies)
    if (has_word(row, word.c_str())) change(options.model);
  apply_expert_words(row, transformer.moe);
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

TraceInputs table_inputs(const TableRow& row, const Options& options) {
  const ParityCase& source = case_of(row.model);
  const CaseShare share = case_share(source, options.model.transformer, row.world);
  return {.steps = kTableSteps,
          .gradient_steps = 1,
          .learning_rate = source.learning_rate(),
          .initialize =
              [&source](const GPTModelChunks& chunks) {
                const at::NoGradGuard no_grad;
                for (const ParameterPtr& parameter : parameters_of(chunks)) {
                  if (parameter->shared || parameter->is_buffer) continue;
                  parameter->data.copy_(parameter->local_part(
                      source.weight(source.name_of(parameter->name), parameter->global_shape())));
                }
                for (const auto& chunk : chunks) chunk->synchronize_shared_embedding();
              },
          .microbatches =
              [row, share](int64_t step, int rank, int ranks) {
                std::vector<MicroBatch> microbatches;
                for (int64_t m = 0; m < share.microbatches; ++m) {
                  microbatches.push_back(
                      share.sharing == BatchSharing::rows
                          ? table_microbatch(row, step, m, rank * share.rows, share.rows)
                          : table_microbatch(row, step, m * ranks + rank, 0, share.rows));
                }
                return microbatches;
              },
          .sharing = share.sharing,
          .after_backward = {}};
}

// The trace of one rank with the same model, dropout and masks.
const TrainingTrace& one_rank(const TableRow& row, at::ScalarType dtype) {
  static std::map<std::string, TrainingTrace> known;
  std::string words;
  for (const char* word : kModelWords)
    if (has_word(row, word)) words += std::string(word) + " ";
  const std::string key = fmt::format("{} {}{}", row.model, words, c10::toString(dtype));
  if (const auto found = known.find(key); found != known.end()) return found->second;
  const TableRow alone{row.model, 1, words.c_str()};
  const Options options = table_options(alone, dtype);
  return known.emplace(key, record_one_rank(options, table_inputs(alone, options), /*threads=*/1))
      .first->second;
}

struct Differences {
  double loss = 0;  // or gradient norm
  double gradient = 0;
  std::string gradient_of;
};

Differences differences_of(const TableRow& row, at::ScalarType dtype) {
  const Options options = table_options(row, dtype);
  const TraceDifferences all = compare_layout(options, row.world, table_inputs(row, options),
                                              one_rank(row, dtype), /*threads=*/1);
  return {std::max(all[TracedQuantity::loss].value, all[TracedQuantity::grad_norm].value),
          all[TracedQuantity::gradient].value, all[TracedQuantity::gradient].where};
}

// Escapes the text of a Markdown table cell.
std::string cell(std::string text) {
  for (size_t at = 0; (at = text.find('|', at)) != std::string::npos; at += 2)
    text.insert(at, "\\");
  return text;
}

// The first cells of a row of docs/layouts.md.
std::string row_name(const TableRow& row) {
  return fmt::format("| {} | {} | {} |", row.model, row.world,
                     *row.words ? cell(row.words) : "data parallel");
}

TEST(LayoutTable, PageShowsItsRows) {
  std::ifstream page(DOCS_DIR "/layouts.md");
  std::vector<std::string> shown;
  bool in_table = false;
  for (std::string line; std::getline(page, line);) {
    if (line.starts_with("<!-- layout-table")) in_table = line.find("begin") != std::string::npos;
    if (!in_table || !line.starts_with("| ") || line.starts_with("| model")) continue;
    size_t end = 0;  // of the layout's cell, whose own bars are escaped
    for (int bars = 0; end < line.size() && bars < 4; ++end)
      bars += line[end] == '|' && (end == 0 || line[end - 1] != '\\');
    shown.push_back(line.substr(0, end));
  }
  std::vector<std::string> rows;
  for (const TableRow& row : kTable) rows.push_back(row_name(row));
  EXPECT_EQ(shown, rows)
      << "run: build/parity_tests --gtest_filter=LayoutTable.Every*, and put the "
         "table that it prints between the marks of docs/layouts.md";
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
    table += fmt::format("{} {:.0e} | {:.0e} | {:.0e} | {:.0e} |\n", row_name(row), in_float.loss,
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
    const auto& ours = one_rank({model, 1, ""}, at::kFloat).losses;
    for (size_t i = 0; i < theirs.size(); ++i) EXPECT_NEAR(ours[i].loss, theirs[i], 1e-5) << model;
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
    {"", 2, "torch-fsdp2 overlap"},
    {"", 4, "tp2 sp pp2 vp2"},
    {"", 4, "tp2 sp zero1 overlap"},
    {"", 4, "pp2 first1 cp2"},
    {"", 4, "cp2 fsdp3 overlap full"},
};

// Runs layouts as processes over gloo, through the program, with dropout.
TEST(LayoutTable, ProcessesHaveTheNumbersOfOneRank) {
  const TemporaryFolder folder;
  struct Step {
    double loss, grad_norm;
  };
  const auto steps_of = [&](const TableRow& row) {
    std::string flags = fmt::format("{} ", fmt::join(layout_of(row.words).flags, " "));
    // One token in 257 ends a document, so only some samples of a step have masked tokens.
    flags += has_word(row, "masks") ? "--tokenizer-type ByteTokenizer --eod-mask-loss "
                                    : "--vocab-size 96 ";
    if (has_word(row, "per-token")) flags += "--calculate-per-token-loss ";
    const std::string log = folder / "log.jsonl";
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
}

}  // namespace
}  // namespace megatron
