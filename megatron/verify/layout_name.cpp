#include "megatron/verify/layout_name.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <set>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "megatron/base/error.h"
#include "megatron/base/nearest_name.h"
#include "megatron/config/model/enum_names.h"
#include "megatron/config/model/pipeline_layout.h"
#include "megatron/parallel/model_groups.h"
#include "megatron/verify/option_flags.h"

namespace megatron {
namespace {

// {} in `flags` is replaced with the number or text of the word.
struct LayoutWord {
  enum class Argument { none, number, text };
  std::string_view word;
  std::string_view flags;
  Argument argument = Argument::none;
  bool data_parallel = false;  // implies two data-parallel ranks
  std::string_view sets = {};  // words with the same value exclude each other
};

using enum LayoutWord::Argument;

constexpr LayoutWord kLayoutWords[] = {
    {"tp", "--tensor-model-parallel-size {}", number},
    {"sp", "--sequence-parallel"},
    {"tp-overlap", "--tp-comm-overlap"},
    {"pp", "--pipeline-model-parallel-size {}", number},
    {"vp", "--num-virtual-stages-per-pipeline-rank {}", number},
    {"first", "--decoder-first-pipeline-num-layers {}", number},
    {"last", "--decoder-last-pipeline-num-layers {}", number},
    {"account", "--account-for-embedding-in-pipeline-split --account-for-loss-in-pipeline-split"},
    {"layout:", "--pipeline-model-parallel-layout {}", text},
    {"group", "--microbatch-group-size-per-virtual-pipeline-stage {}", number},
    {"varlen", "--variable-seq-lengths"},
    {"no-p2p-overlap", "--no-overlap-p2p-communication"},
    {"keep-outputs", "--no-deallocate-pipeline-outputs"},
    {"defer", "--defer-embedding-wgrad-compute"},
    {"cp", "--context-parallel-size {}", number},
    {"dp", "", number},
    {"ep", "--expert-model-parallel-size {}", number, true},
    {"etp", "--expert-tensor-parallel-size {}", number},
    {"overlap", "--overlap-grad-reduce", none, true},
    {"zero1", "--use-distributed-optimizer", none, true, "sharding"},
    {"zero2", "--use-megatron-fsdp --data-parallel-sharding-strategy optim_grads", none, true,
     "sharding"},
    {"zero3", "--use-megatron-fsdp --data-parallel-sharding-strategy optim_grads_params", none,
     true, "sharding"},
    {"fsdp1", "--use-megatron-fsdp --data-parallel-sharding-strategy optim", none, true,
     "sharding"},
    {"fsdp2", "--use-megatron-fsdp --data-parallel-sharding-strategy optim_grads", none, true,
     "sharding"},
    {"fsdp3", "--use-megatron-fsdp --data-parallel-sharding-strategy optim_grads_params", none,
     true, "sharding"},
    {"torch-fsdp2", "--use-torch-fsdp2", none, true, "sharding"},
    {"no-reshard", "--torch-fsdp2-no-reshard-after-forward"},
    {"step-overlap", "--overlap-param-gather-with-optimizer-step", none, true},
    {"full", "--recompute-granularity full --recompute-method uniform --recompute-num-layers 1",
     none, false, "recomputation"},
    {"selective", "--recompute-granularity selective", none, false, "recomputation"},
    {"recompute-norm", "--recompute-granularity selective --recompute-modules layernorm", none,
     false, "recomputation"},
    {"recompute-moe",
     "--recompute-granularity selective --recompute-modules core_attn moe layernorm", none, false,
     "recomputation"},
    {"combined", "--overlap-moe-expert-parallel-comm"},
    {"delay-wgrad", "--delay-wgrad-compute"},
    {"local", "--transformer-impl local", none, false, "spec"},
    {"full-layer", "--use-transformer-engine-full-layer-spec", none, false, "spec"},
    {"op-fuser", "--use-transformer-engine-op-fuser", none, false, "spec"},
};

std::string_view without_digits(std::string_view word) {
  while (!word.empty() && word.back() >= '0' && word.back() <= '9') word.remove_suffix(1);
  return word;
}

const LayoutWord* find_word(std::string_view text) {
  const auto found = [&](std::string_view word) {
    return std::ranges::find(kLayoutWords, word, &LayoutWord::word);
  };
  if (const auto word = found(text); word != std::end(kLayoutWords)) return word;
  if (text.starts_with("layout:")) return found("layout:");
  const auto word = found(without_digits(text.substr(0, text.find(':'))));
  return word == std::end(kLayoutWords) || word->argument != number ? nullptr : word;
}

std::string shown(const LayoutWord& word) {
  const char* argument = word.argument == number ? "N" : word.argument == text ? "STAGES" : "";
  return fmt::format("{}{}", word.word, argument);
}

[[noreturn]] void fail_unknown(std::string_view word, std::string_view name) {
  std::vector<std::string> known;
  for (const LayoutWord& one : kLayoutWords) known.push_back(shown(one));
  // Compare letters only: the nearest of tq3 is tpN.
  std::vector<std::string> letters;
  for (const LayoutWord& one : kLayoutWords) letters.emplace_back(one.word);
  const std::string nearest = nearest_name(word, letters);
  fail("Expected words joined with + in layout '{}' ({}), but got '{}'; the nearest is {}", name,
       fmt::join(known, ", "), word, shown(*find_word(nearest)));
}

int64_t number_in(std::string_view word, const LayoutWord& kind, std::string_view name) {
  const std::string_view digits = word.substr(kind.word.size(), word.find(':') - kind.word.size());
  int64_t value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  check(error == std::errc{} && end == digits.data() + digits.size() && value >= 1 &&
            value <= kMostLocalRanks,
        "Expected a number from 1 to {} behind '{}' in layout '{}', but got '{}'; {}2 works",
        kMostLocalRanks, kind.word, name, digits, kind.word);
  return value;
}

std::vector<std::string_view> words_of(std::string_view name) {
  std::vector<std::string_view> words;
  for (size_t begin = 0; begin <= name.size();) {
    const size_t end = std::min(name.find('+', begin), name.size());
    words.push_back(name.substr(begin, end - begin));
    begin = end + 1;
  }
  return words;
}

}  // namespace

NamedLayout layout_from_name(std::string_view name) {
  NamedLayout layout{.name = std::string(name)};
  std::set<std::string_view> seen;
  int64_t model_ranks = 1;
  std::optional<int64_t> data_parallel;
  bool wants_data_parallel = false, is_sharded = false, overlaps = false;
  for (const std::string_view text_of_word : words_of(name)) {
    const LayoutWord* word = find_word(text_of_word);
    if (word == nullptr) fail_unknown(text_of_word, name);
    const std::string_view key = word->sets.empty() ? word->word : word->sets;
    check(seen.insert(key).second,
          "Expected one word for the same thing in layout '{}', but got '{}' too; leave one out",
          name, text_of_word);
    wants_data_parallel |= word->data_parallel;
    is_sharded |= word->sets == "sharding";
    overlaps |= word->word == "overlap";
    std::string argument;
    if (word->argument == number) {
      const int64_t value = number_in(text_of_word, *word, name);
      argument = std::to_string(value);
      if (word->word == "dp") data_parallel = value;
      if (word->word == "tp" || word->word == "pp" || word->word == "cp") model_ranks *= value;
      check(model_ranks <= kMostLocalRanks, "Expected at most {} ranks in layout '{}', but got {}",
            kMostLocalRanks, name, model_ranks);
    } else if (word->argument == text) {
      argument = text_of_word.substr(word->word.size());
    }
    for (std::string& flag : split_flags(std::string(word->flags)))
      layout.flags.push_back(flag == "{}" ? argument : std::move(flag));
    if (const size_t colon = text_of_word.find(':');
        word->argument == number && colon != std::string_view::npos) {
      const std::string type(text_of_word.substr(colon + 1));
      check(word->word == "cp" &&
                std::ranges::find(enum_names<CpCommType>, type) != enum_names<CpCommType>.end(),
            "Expected {} behind cpN: in layout '{}', but got '{}'; cp2:a2a works",
            fmt::join(enum_names<CpCommType>, ", "), name, text_of_word);
      layout.flags.insert(layout.flags.end(), {"--cp-comm-type", type});
    }
  }
  if (overlaps && is_sharded) layout.flags.emplace_back("--overlap-param-gather");
  const int64_t ranks = model_ranks * data_parallel.value_or(wants_data_parallel ? 2 : 1);
  check(ranks <= kMostLocalRanks, "Expected at most {} ranks in layout '{}', but got {}",
        kMostLocalRanks, name, ranks);
  layout.world_size = static_cast<int>(ranks);
  return layout;
}

std::vector<NamedLayout> layouts_from_names(const std::vector<std::string>& texts) {
  std::vector<NamedLayout> layouts;
  for (const std::string& all : texts) {
    for (size_t begin = 0; begin <= all.size();) {
      const size_t end = std::min(all.find(',', begin), all.size());
      std::string_view name = std::string_view(all).substr(begin, end - begin);
      while (name.starts_with(' ')) name.remove_prefix(1);
      while (name.ends_with(' ')) name.remove_suffix(1);
      layouts.push_back(layout_from_name(name));
      begin = end + 1;
    }
  }
  return layouts;
}

std::string layout_name_of(const Options& options, int world_size) {
  const TransformerConfig& t = options.model.transformer;
  const PipelineConfig& p = t.pipeline;
  std::vector<std::string> words;
  const auto add = [&](bool holds, std::string word) {
    if (holds) words.push_back(std::move(word));
  };
  const auto sized = [&](const char* word, int64_t size) {
    add(size > 1, fmt::format("{}{}", word, size));
  };
  sized("tp", t.tensor_model_parallel_size);
  add(t.sequence_parallel, "sp");
  add(t.tp_comm_overlap, "tp-overlap");
  sized("pp", t.pipeline_model_parallel_size);
  if (!p.pipeline_model_parallel_layout.empty())
    words.push_back("layout:" + p.pipeline_model_parallel_layout);
  else
    sized("vp", PipelineLayout::of(t).chunks());
  if (p.num_layers_in_first_pipeline_stage)
    words.push_back(fmt::format("first{}", *p.num_layers_in_first_pipeline_stage));
  if (p.num_layers_in_last_pipeline_stage)
    words.push_back(fmt::format("last{}", *p.num_layers_in_last_pipeline_stage));
  add(p.account_for_embedding_in_pipeline_split && p.account_for_loss_in_pipeline_split, "account");
  if (p.microbatch_group_size_per_vp_stage)
    words.push_back(fmt::format("group{}", *p.microbatch_group_size_per_vp_stage));
  add(p.variable_seq_lengths, "varlen");
  add(!p.overlap_p2p_comm, "no-p2p-overlap");
  add(!p.deallocate_pipeline_outputs, "keep-outputs");
  add(t.defer_embedding_wgrad_compute, "defer");
  if (t.context_parallel_size > 1) {
    words.push_back(fmt::format("cp{}{}", t.context_parallel_size,
                                t.cp_comm_type == CpCommType::p2p
                                    ? std::string()
                                    : fmt::format(":{}", enum_name(t.cp_comm_type))));
  }
  sized("ep", t.expert_model_parallel_size);
  if (t.moe.expert_tensor_parallel_size)
    words.push_back(fmt::format("etp{}", *t.moe.expert_tensor_parallel_size));
  add(t.moe.overlap_moe_expert_parallel_comm, "combined");
  add(t.moe.delay_wgrad_compute, "delay-wgrad");
  const auto& ddp = options.ddp;
  if (ddp.use_megatron_fsdp) {
    add(shards_data_parallel_state(ddp),
        fmt::format("fsdp{}", static_cast<int>(ddp.data_parallel_sharding_strategy)));
  } else {
    add(ddp.use_distributed_optimizer, "zero1");
    add(ddp.use_torch_fsdp2, "torch-fsdp2");
    add(!ddp.torch_fsdp2_reshard_after_forward, "no-reshard");
  }
  add(ddp.overlap_grad_reduce, "overlap");
  add(options.optimizer.overlap_param_gather_with_optimizer_step, "step-overlap");
  words.push_back(fmt::format("dp{}", parallel_sizes(t, world_size).dp));
  return fmt::format("{}", fmt::join(words, "+"));
}

void clear_layout(Options& options) {
  const TransformerConfig defaults;
  TransformerConfig& t = options.model.transformer;
  t.tensor_model_parallel_size = t.pipeline_model_parallel_size = t.context_parallel_size = 1;
  t.expert_model_parallel_size = 1;
  t.moe.expert_tensor_parallel_size.reset();
  t.moe.overlap_moe_expert_parallel_comm = t.moe.delay_wgrad_compute = false;
  t.sequence_parallel = t.tp_comm_overlap = t.defer_embedding_wgrad_compute = false;
  t.wgrad_deferral_limit = defaults.wgrad_deferral_limit;
  t.cp_comm_type = defaults.cp_comm_type;
  t.pipeline = {};
  options.model.tp_comm_overlap_cfg = {};
  const auto [bucket_size, num_buckets] =
      std::pair{options.ddp.bucket_size, options.ddp.num_buckets};
  options.ddp = Options().ddp;
  options.ddp.bucket_size = bucket_size;
  options.ddp.num_buckets = num_buckets;
  options.optimizer.overlap_param_gather_with_optimizer_step = false;
}

void apply_layout(const NamedLayout& layout, Options& options) {
  clear_layout(options);
  const bool recomputes =
      std::ranges::find(layout.flags, "--recompute-granularity") != layout.flags.end();
  if (recomputes) options.model.transformer.recompute = {};
  std::set<std::string> given;
  apply_flags(layout.flags, options, given);
}

}  // namespace megatron
