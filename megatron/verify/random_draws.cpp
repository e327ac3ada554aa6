#include "megatron/verify/random_draws.h"

#include <algorithm>
#include <map>
#include <set>
#include <span>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "megatron/base/error.h"
#include "megatron/config/options/command_line.h"
#include "megatron/ops/random/philox.h"
#include "megatron/verify/layout_verification.h"
#include "megatron/verify/option_flags.h"
#include "megatron/verify/verification_model.h"

namespace megatron {
namespace {

constexpr double kShareOfOptions = 0.15;  // model options that a draw tries
constexpr double kShareOfWords = 0.3;     // layout words that a draw tries, besides sizes
constexpr int kMostRanks = 8;

// Random numbers as a function of a key.
class Dice {
 public:
  explicit Dice(uint64_t key) : key_(key) {}

  // 0 to count - 1.
  int64_t below(int64_t count) {
    return static_cast<int64_t>(mix64(key_ ^ mix64(++drawn_)) % static_cast<uint64_t>(count));
  }
  bool chance(double probability) { return double(below(1 << 20)) < probability * (1 << 20); }
  template <typename T>
  const T& one_of(const std::vector<T>& values) {
    return values[below(std::ssize(values))];
  }
  template <typename T>
  void shuffle(std::vector<T>& values) {
    for (int64_t i = std::ssize(values) - 1; i > 0; --i) std::swap(values[i], values[below(i + 1)]);
  }

 private:
  uint64_t key_;
  uint64_t drawn_ = 0;
};

const std::set<std::string> kSections = {"Model",
                                         "Attention",
                                         "Multi-latent attention",
                                         "Positions",
                                         "Multi-token prediction",
                                         "MuP",
                                         "Mixture of experts",
                                         "Regularization and initial weights",
                                         "Loss",
                                         "Recomputation of activations",
                                         "Optimizer"};

// Values to draw, by flag, for options that are not switches or choices. Sizes are drawn first.
const std::map<std::string, std::vector<std::string>> kValues = {
    {"kv-channels", {"4", "8", "24"}},
    {"ffn-hidden-size", {"16", "48", "80", "128"}},
    {"norm-epsilon", {"1e-6", "1e-3"}},
    {"glu-linear-offset", {"1"}},
    {"activation-func-clamp-value", {"0.05", "7"}},
    {"softmax-scale", {"0.1", "0.5"}},
    {"add-proj-bias", {"true", "false"}},
    {"add-mlp-bias", {"true", "false"}},
    {"embedding-multiplier", {"6"}},
    {"residual-multiplier", {"0.5"}},
    {"logit-multiplier", {"0.25", "2"}},
    {"final-logit-softcapping", {"0.5", "30"}},
    {"attn-logit-softcapping", {"0.5", "5"}},
    {"rotary-base-local", {"100"}},
    {"rope-scaling-low-freq-factor", {"2"}},
    {"rope-scaling-high-freq-factor", {"8"}},
    {"rope-scaling-original-max-position-embeddings", {"16"}},
    {"rope-dynamic-scaling-factor", {"4"}},
    {"longrope-mscale", {"1.2"}},
    {"window-size", {"3,0", "7,0", "15,-1", "-1,0"}},
    {"window-attn-skip-freq", {"2", "3"}},
    {"max-position-embeddings", {"64", "100"}},
    {"rotary-percent", {"0.5"}},
    {"rotary-base", {"500", "500000"}},
    {"rotary-seq-len-interpolation-factor", {"2", "3.5"}},
    {"rope-scaling-factor", {"4", "32"}},
    {"no-rope-freq", {"2", "3"}},
    {"rotary-scaling-factor", {"4"}},
    {"original-max-position-embeddings", {"8", "16"}},
    {"beta-fast", {"16"}},
    {"beta-slow", {"2"}},
    {"mscale", {"0.7"}},
    {"mscale-all-dim", {"0.7", "1"}},
    {"yarn-rotary-scaling-factor", {"4"}},
    {"yarn-original-max-position-embeddings", {"8", "16"}},
    {"yarn-beta-fast", {"16"}},
    {"yarn-beta-slow", {"2"}},
    {"yarn-mscale", {"0.7"}},
    {"yarn-mscale-all-dim", {"0.7"}},
    {"q-lora-rank", {"12", "24"}},
    {"kv-lora-rank", {"8", "20"}},
    {"qk-head-dim", {"8", "12"}},
    {"qk-pos-emb-head-dim", {"4", "8"}},
    {"v-head-dim", {"8", "12"}},
    {"mtp-num-layers", {"1", "2", "3"}},
    {"mtp-loss-scaling-factor", {"0.3", "2"}},
    {"mup-base-hidden-size", {"16"}},
    {"mup-embedding-mult", {"2"}},
    {"mup-output-mult", {"0.5"}},
    {"mup-base-head-dim", {"4"}},
    {"mup-attn-scale-power", {"0.5"}},
    {"hidden-dropout", {"0", "0.2"}},
    {"attention-dropout", {"0", "0.2"}},
    {"init-method-std", {"0.05", "0.1"}},
    {"embedding-init-method-std", {"0.1"}},
    {"label-smoothing", {"0.1", "0.3"}},
    {"recompute-modules",
     {"core_attn", "layernorm", "mlp", "mla_up_proj", "moe", "moe_act", "shared_experts"}},
    {"moe-layer-freq", {"1", "2"}},
    {"moe-ffn-hidden-size", {"8", "24", "40"}},
    {"moe-shared-expert-intermediate-size", {"8", "24"}},
    {"moe-router-topk", {"1", "2", "3"}},
    {"moe-router-topk-scaling-factor", {"2.5"}},
    {"moe-router-num-groups", {"2"}},
    {"moe-router-group-topk", {"1", "2"}},
    {"moe-router-bias-update-rate", {"0.01"}},
    {"moe-router-dtype", {"fp64"}},
    {"moe-input-jitter-eps", {"0.05"}},
    {"moe-router-padding-for-quantization", {"16", "32"}},
    {"moe-router-load-balancing-type", {"aux_loss", "seq_aux_loss", "global_aux_loss", "none"}},
    {"moe-aux-loss-coeff", {"0.01", "0.5"}},
    {"moe-z-loss-coeff", {"0.01"}},
    {"moe-expert-capacity-factor", {"0.5", "1", "1.5"}},
    {"weight-decay", {"0", "0.1"}},
    {"adam-beta1", {"0.8"}},
    {"adam-beta2", {"0.95"}},
    {"adam-eps", {"1e-5"}},
    {"sgd-momentum", {"0", "0.5"}},
    {"clip-grad", {"0", "0.1", "100"}},
};

const std::map<std::string, std::string> kNotDrawn = {
    {"num-layers", "drawn with the model's sizes"},
    {"hidden-size", "drawn with the model's sizes"},
    {"num-attention-heads", "drawn with the model's sizes"},
    {"num-query-groups", "drawn with the model's sizes"},
    {"vocab-size", "drawn with the model's sizes"},
    {"make-vocab-size-divisible-by", "drawn with the model's sizes"},
    {"mrope-section", "drawn with mrope"},
    {"longrope-short-factor", "drawn with longrope"},
    {"longrope-long-factor", "drawn with longrope"},
    {"num-experts", "drawn first, because the other options of experts need it"},
    {"moe-router-record", "writes files"},
    {"moe-router-replay", "reads files"},
    {"moe-use-upcycling", "reads a checkpoint"},
    {"moe-upcycling-granularity", "reads a checkpoint"},
    {"moe-shared-expert-overlap", "drawn with the shared experts"},
    {"recompute-granularity", "drawn with its companions"},
    {"recompute-method", "drawn with --recompute-granularity full"},
    {"recompute-num-layers", "drawn with --recompute-granularity full"},
    {"fp32-residual-connection", "verification runs in fp64"},
    {"fp16-lm-cross-entropy", "verification runs in fp64"},
    {"attention-backend", "drawn from the backends that compute in fp64"},
    {"qk-clip-threshold", "stops training on purpose"},
    {"qk-clip-alpha", "only its default works"},
};

// Experts, which other options of this kind need.
const std::vector<std::string> kExperts = {
    "--num-experts 4 --moe-token-dispatcher-type alltoall --moe-aux-loss-coeff 0.1",
    "--num-experts 8 --moe-router-topk 4 --moe-router-num-groups 4 --moe-router-group-topk 2 "
    "--moe-router-score-function sigmoid --moe-router-enable-expert-bias "
    "--moe-router-load-balancing-type seq_aux_loss --moe-aux-loss-coeff 0.1",
    "--num-experts 4 --moe-router-topk 1 --moe-router-pre-softmax --moe-expert-capacity-factor 1",
    "--num-experts 4 --moe-router-load-balancing-type sinkhorn --moe-router-topk 1",
    "--num-experts 6 --moe-router-topk 3 --moe-router-load-balancing-type aux_loss global_aux_loss "
    "--moe-aux-loss-coeff 0.1 0.2 --moe-z-loss-coeff 0.1",
    "--num-experts 4 --moe-expert-capacity-factor 0.75 --moe-token-drop-policy position "
    "--moe-shared-expert-intermediate-size 24 --moe-shared-expert-gate",
};
constexpr double kShareOfExperts = 0.4;

// Options that require each other.
const std::vector<std::string> kCombinations = {
    "--position-embedding-type rope --rotary-percent 0.5 --rotary-interleaved",
    "--position-embedding-type yarn --yarn-rotary-scaling-factor 4",
    "--use-rotary-position-embeddings --use-rope-scaling --rope-scaling-factor 4",
    "--window-size 5,0 --window-attn-skip-freq 2",
    "--multi-latent-attention --position-embedding-type rope --q-lora-rank 12 --kv-lora-rank 8 "
    "--qk-head-dim 8 --qk-pos-emb-head-dim 4 --v-head-dim 12",
    "--multi-latent-attention --position-embedding-type rope --kv-lora-rank 8 --qk-head-dim 8 "
    "--qk-pos-emb-head-dim 4 --v-head-dim 8 --rope-type yarn --rotary-scaling-factor 4 "
    "--mscale-all-dim 1",
    "--position-embedding-type yarn --yarn-rotary-scaling-factor 4 --rotary-percent 0.5 "
    "--rotary-interleaved",
    "--use-rotary-position-embeddings --use-rope-scaling --rope-scaling-low-freq-factor 2 "
    "--rope-scaling-high-freq-factor 8 --rope-scaling-original-max-position-embeddings 16",
    "--use-rotary-position-embeddings --rope-dynamic-scaling-factor 4 "
    "--rope-scaling-original-max-position-embeddings 12",
    "--use-rotary-position-embeddings --window-size 5,0 --window-attn-skip-freq 2 "
    "--rotary-base-local 100",
    "--use-parallel-residual --share-parallel-layernorm --no-layernorm-bias",
    "--qk-layernorm --qk-layernorm-scope per_head",
    "--qk-layernorm --qk-layernorm-scope projection --normalization RMSNorm",
    "--swiglu --glu-linear-offset 1 --activation-func-clamp-value 0.05",
    "--mtp-num-layers 2 --mtp-use-repeated-layer",
    "--mtp-num-layers 2 --mtp-detach-heads",
    "--mtp-num-layers 1 --calculate-per-token-loss",
    "--use-mup --mup-base-hidden-size 16",
    "--cross-entropy-loss-fusion --cross-entropy-fusion-impl linear",
    "--recompute-granularity full --recompute-method uniform --recompute-num-layers 1",
    "--recompute-granularity full --recompute-method block --recompute-num-layers 1",
    "--recompute-granularity full --recompute-method uniform --recompute-num-layers 2",
    "--recompute-granularity selective",
    "--attention-backend unfused",
    "--attention-backend local",
    "--attention-backend fused",
};

bool is_switch_or_choice(const Option& option) {
  if (option.is_shorthand()) return true;
  Options scratch;
  const FieldValue value = option.value(scratch);
  return is_bool(value) || std::holds_alternative<EnumReference>(value);
}

struct Draft {
  Options options;
  std::set<std::string> given;
  std::vector<std::string> flags;

  // Adds the flags if the model stays valid and no field is set twice, which a command line
  // refuses. Otherwise changes nothing.
  bool try_flags(const std::vector<std::string>& more) {
    Draft next = *this;
    try {
      Options scratch;
      std::set<std::string> fields;
      apply_flags(more, scratch, fields);
      if (std::ranges::any_of(fields, [&](const auto& field) { return given.contains(field); }))
        return false;
      apply_flags(more, next.options, next.given);
      options_in_layout(next.options, layout_from_name("dp1"));
    } catch (const Error&) {
      return false;
    }
    next.flags.insert(next.flags.end(), more.begin(), more.end());
    *this = std::move(next);
    return true;
  }
};

void draw_sizes(Dice& dice, Draft& draft) {
  const int64_t heads = dice.one_of<int64_t>({2, 3, 4, 6, 8});
  std::vector<int64_t> groups;
  for (int64_t count = 1; count <= heads; ++count)
    if (heads % count == 0) groups.push_back(count);
  const int64_t head_dim = dice.one_of<int64_t>({4, 8, 12, 16});
  draft.try_flags(split_flags(fmt::format(
      "--num-layers {} --hidden-size {} --num-attention-heads {} --num-query-groups {} "
      "--vocab-size {} --make-vocab-size-divisible-by {} --seq-length {}",
      1 + dice.below(6), heads * head_dim, heads, dice.one_of(groups), 40 + dice.below(200),
      dice.one_of<int64_t>({1, 8, 128}), dice.one_of<int64_t>({8, 16, 24, 32, 48}))));
}

std::vector<std::string> flags_for(Dice& dice, const Option& option) {
  const std::string flag = "--" + option.flag;
  if (const auto values = kValues.find(option.flag); values != kValues.end())
    return {flag, dice.one_of(values->second)};
  Options scratch;
  if (option.is_shorthand() || is_bool(option.value(scratch))) return {flag};
  const auto names = std::get<EnumReference>(option.value(scratch)).names;
  return {flag, std::string(names[dice.below(std::ssize(names))])};
}

void draw_model_options(Dice& dice, Draft& draft) {
  std::vector<std::vector<std::string>> groups;
  for (const Option& option : option_table().options()) {
    if (is_drawn_section(option) && reason_not_drawn(option).empty() &&
        dice.chance(kShareOfOptions))
      groups.push_back(flags_for(dice, option));
  }
  for (const std::string& combination : kCombinations)
    if (dice.chance(kShareOfOptions)) groups.push_back(split_flags(combination));
  const int64_t half = draft.options.model.transformer.head_dim() / 2;
  if (dice.chance(kShareOfOptions / 2)) {
    groups.push_back(
        split_flags(fmt::format("--position-embedding-type mrope --mrope-section {},{},{}",
                                half - half / 3 * 2, half / 3, half / 3)));
  }
  if (dice.chance(kShareOfOptions / 2)) {
    std::vector<double> short_factor, long_factor;
    for (int64_t i = 0; i < half; ++i) {
      short_factor.push_back(1 + 0.1 * double(i));
      long_factor.push_back(1 + double(i));
    }
    groups.push_back(
        split_flags(fmt::format("--use-rotary-position-embeddings --longrope-short-factor {} "
                                "--longrope-long-factor {} --longrope-mscale 1.2 "
                                "--rope-scaling-original-max-position-embeddings 12",
                                fmt::join(short_factor, ","), fmt::join(long_factor, ","))));
  }
  dice.shuffle(groups);
  if (dice.chance(kShareOfExperts))
    groups.insert(groups.begin(), split_flags(dice.one_of(kExperts)));
  for (const auto& group : groups) draft.try_flags(group);
}

// "Et|tt|mL": layers on random virtual stages; stages may be empty.
std::string random_stages(Dice& dice, const TransformerConfig& config, int64_t virtual_stages) {
  std::vector<int64_t> layers(virtual_stages);
  for (int64_t layer = 0; layer < config.num_layers; ++layer) ++layers[dice.below(virtual_stages)];
  std::string text = "E";
  const bool apart = config.mtp.mtp_num_layers > 0 && virtual_stages > 2 && dice.chance(0.3);
  for (int64_t stage = 0; stage < virtual_stages; ++stage) {
    if (stage > 0) text += "|";
    text.append(layers[stage], 't');
    if (config.mtp.mtp_num_layers > 0 && stage == virtual_stages - (apart ? 2 : 1))
      text.append(config.mtp.mtp_num_layers, 'm');
  }
  return text + "L";
}

NamedLayout draw_layout(Dice& dice, const Options& model) {
  std::vector<std::string> words;
  std::string joined;
  const auto try_words = [&](const std::vector<std::string>& more) {
    std::vector<std::string> next = words;
    next.insert(next.end(), more.begin(), more.end());
    const std::string name = fmt::format("{}", fmt::join(next, "+"));
    try {
      const NamedLayout layout = layout_from_name(name);
      if (layout.world_size > kMostRanks || !misfit(layout, model).empty()) return false;
    } catch (const Error&) {
      return false;
    }
    words = next;
    joined = name;
    return true;
  };
  std::vector<std::string> kinds = {"tp", "pp", "cp", "dp"};
  dice.shuffle(kinds);
  int64_t stages = 1;
  for (const std::string& kind : kinds) {
    const int64_t size = dice.one_of<int64_t>({1, 2, 2, 2, 3, 4, 8});
    if (size == 1) continue;
    std::string word = kind + std::to_string(size);
    if (kind == "cp") word += dice.one_of<std::string>({"", ":a2a", ":allgather"});
    // Training experts with tensor parallelism needs sequence parallelism.
    const bool needs_sp = kind == "tp" && model.model.transformer.moe.has_experts();
    if (try_words(needs_sp ? std::vector<std::string>{word, "sp"} : std::vector{word}) &&
        kind == "pp")
      stages = size;
  }
  if (words.empty()) try_words({"dp2"});
  if (stages > 1 && dice.chance(0.25)) {
    const int64_t chunks = 1 + dice.below(3);
    try_words({"layout:" + random_stages(dice, model.model.transformer, stages * chunks)});
  }
  std::vector<std::vector<std::string>> more = {{"sp"},
                                                {"sp", "tp-overlap"},
                                                {"vp2"},
                                                {"vp2"},
                                                {"vp3"},
                                                {"first1"},
                                                {"last2"},
                                                {"account"},
                                                {"group4"},
                                                {"varlen"},
                                                {"no-p2p-overlap"},
                                                {"keep-outputs"},
                                                {"defer"},
                                                {"overlap"},
                                                {"zero1"},
                                                {"zero1", "overlap"},
                                                {"zero1", "overlap", "step-overlap"},
                                                {"fsdp1"},
                                                {"fsdp2"},
                                                {"fsdp2", "overlap"},
                                                {"fsdp3"},
                                                {"fsdp3", "overlap"},
                                                {"torch-fsdp2"},
                                                {"torch-fsdp2", "overlap"},
                                                {"torch-fsdp2", "no-reshard"},
                                                {"full"},
                                                {"selective"}};
  if (model.model.transformer.moe.has_experts()) {
    for (const std::vector<std::string>& of_experts :
         std::vector<std::vector<std::string>>{{"ep2"},
                                               {"ep4"},
                                               {"ep2", "etp1"},
                                               {"ep4", "etp1"},
                                               {"ep2", "etp2"},
                                               {"etp1"},
                                               {"etp2"},
                                               {"combined"},
                                               {"combined", "delay-wgrad"},
                                               {"recompute-moe"}}) {
      if (dice.chance(0.5)) try_words(of_experts);
    }
  }
  dice.shuffle(more);
  for (const auto& group : more)
    if (dice.chance(kShareOfWords)) try_words(group);
  return layout_from_name(joined);
}

}  // namespace

bool is_drawn_section(const Option& option) {
  return contains(option.taken_by, Command::verify_layout) && kSections.contains(option.section);
}

std::string reason_not_drawn(const Option& option) {
  const auto found = kNotDrawn.find(option.flag);
  return found == kNotDrawn.end() ? "" : found->second;
}

bool has_drawn_values(const Option& option) {
  return kValues.contains(option.flag) || is_switch_or_choice(option);
}

std::string RandomDraw::command() const {
  return fmt::format("megatron verify-layout {} --layouts '{}'", fmt::join(flags, " "),
                     layout.name);
}

RandomDraw random_draw(uint64_t seed, int64_t index) {
  Dice dice(mix64(seed) ^ mix64(static_cast<uint64_t>(index) + 1));
  Draft draft;
  draft.options.model.transformer.params_dtype = at::kDouble;
  draft.options.training.seed = static_cast<int64_t>(seed);
  draw_sizes(dice, draft);
  draw_model_options(dice, draft);
  const NamedLayout layout = draw_layout(dice, draft.options);
  draft.flags.insert(draft.flags.end(), {"--seed", std::to_string(seed)});
  return {std::move(draft.flags), layout};
}

}  // namespace megatron
