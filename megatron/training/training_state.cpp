#include "megatron/training/training_state.h"

#include <algorithm>
#include <iterator>
#include <map>

#include "megatron/base/error.h"
#include "megatron/checkpoint/expert_layout.h"
#include "megatron/checkpoint/parameter_shards.h"
#include "megatron/checkpoint/save_checkpoint.h"
#include "megatron/config/model/enum_names.h"
#include "megatron/config/options/options_json.h"
#include "megatron/convert/padding_groups.h"
#include "megatron/parallel/model_groups.h"
#include "megatron/training/upcycling.h"

namespace megatron {
namespace {

std::string missing_optimizer_state(const CheckpointReader& checkpoint) {
  return fmt::format(
      "Expected optimizer state in {}, but it holds none; --finetune or --no-load-optim loads its "
      "weights alone",
      checkpoint.directory().string());
}

// Calls visit(state, shards_of) for each parameter slice of the optimizer. shards_of(tensor,
// prefix) returns the shards of a tensor of the slice's shape, under `prefix` and the key of its
// weight.
template <typename Visit>
void visit_parts(Optimizer& optimizer, const ShardedStateDict& weights, const Visit& visit) {
  std::map<const Parameter*, const ShardedTensor*> shard_of;
  for (const ShardedTensor& weight : weights) shard_of.emplace(weight.parameter, &weight);
  for (const OptimizerState& entry : optimizer.states()) {
    const Parameter& parameter = *entry.slice.parameter;
    const ShardedTensor& weight = *shard_of.at(&parameter);
    visit(entry, [&](const at::Tensor& tensor, const std::string& prefix) {
      if (!optimizer.is_sharded())
        return parameter_shards(parameter, tensor, prefix + weight.key, weight.replica_id);
      return parameter_slice_shards(parameter, entry.slice.begin, tensor, prefix + weight.key,
                                    /*replica_id=*/parameter.is_main_copy() ? 0 : 1);
    });
  }
}

using Note = std::function<void(const std::string&)>;

// The state of delayed FP8 scaling.
bool is_fp8_state(const std::string& key) {
  return key.ends_with(".fp8_state");
}

bool has_fp8_state(const CheckpointReader& checkpoint) {
  return std::ranges::any_of(checkpoint.keys(), is_fp8_state);
}

// A model without it may not go on from a checkpoint that has it by accident.
void check_fp8_recipe(const CheckpointReader& checkpoint, const Options& options) {
  const LowPrecisionConfig& low = options.model.transformer.low_precision;
  const bool delayed = low.is_used() && low.fp8_recipe == Fp8Recipe::delayed;
  check(
      delayed || options.checkpoint.finetune || options.checkpoint.no_load_optim ||
          !has_fp8_state(checkpoint),
      "Expected --fp8-recipe delayed as in the checkpoint {}, which has its amax history, but got "
      "{}; --finetune or --no-load-optim loads its weights alone",
      checkpoint.directory().string(), low.is_used() ? enum_name(low.fp8_recipe) : "no FP8");
}

// `weights` without the state of delayed scaling where the checkpoint has none.
ShardedStateDict without_absent_fp8_state(const CheckpointReader& checkpoint,
                                          ShardedStateDict weights, const Note& note) {
  const auto is_state = [](const ShardedTensor& t) { return is_fp8_state(t.key); };
  if (!std::ranges::any_of(weights, is_state) || has_fp8_state(checkpoint)) return weights;
  note("FP8 begins with scales of 1: the checkpoint has no amax history");
  std::erase_if(weights, is_state);
  return weights;
}

// `note` reports context options that change with --finetune.
void load_weights(CheckpointReader& checkpoint, const Options& options,
                  const ShardedStateDict& weights, const Note& note) {
  Options stored = from_json(checkpoint.common().at("options"));
  stored.model =
      with_padding_groups(stored.model, options.model.transformer.tensor_model_parallel_size);
  std::string extended, refused;
  bool finetune_would_work = true;
  const bool upcycles = is_upcycling(stored, options);
  for (const ArchitectureDifference& difference :
       architecture_differences(stored, upcycles ? dense_options(options) : options)) {
    const bool accepted = difference.extends_context && options.checkpoint.finetune;
    finetune_would_work &= difference.extends_context;
    std::string& list = accepted ? extended : refused;
    list += fmt::format("{}{} is {} in the checkpoint and {} here", list.empty() ? "" : ", ",
                        difference.field, difference.left, difference.right);
  }
  check(refused.empty(), "Expected a model of the same architecture as the checkpoint {}, but {}{}",
        checkpoint.directory().string(), refused,
        finetune_would_work ? "; --finetune accepts these changes" : "");
  if (!extended.empty()) note("fine-tuning with another context: " + extended);
  if (upcycles) {
    note("upcycling a dense checkpoint into experts");
    load_upcycled(checkpoint, options, weights);
    return;
  }
  checkpoint.load(
      within_stored_groups(checkpoint, in_layout_of(checkpoint, without_absent_fp8_state(
                                                                    checkpoint, weights, note))),
      {.allow_lossy_conversion = true});
}

}  // namespace

ShardedStateDict sharded_state_dict(Optimizer& optimizer, const ShardedStateDict& weights) {
  ShardedStateDict state;
  visit_parts(optimizer, weights, [&](const OptimizerState& entry, const auto& shards_of) {
    const auto append = [&](const at::Tensor& tensor, const char* prefix) {
      for (ShardedTensor& shard : shards_of(tensor, prefix)) state.push_back(std::move(shard));
    };
    if (entry.has_separate_master()) append(entry.master, "optimizer.state.param.");
    append(entry.exp_avg, "optimizer.state.exp_avg.");
    if (entry.exp_avg_sq.defined()) append(entry.exp_avg_sq, "optimizer.state.exp_avg_sq.");
  });
  return state;
}

ShardedStateDict owned_weights(Optimizer& optimizer, const ShardedStateDict& weights) {
  if (!optimizer.is_sharded()) return weights;
  ShardedStateDict state;
  visit_parts(optimizer, weights, [&](const OptimizerState& entry, const auto& shards_of) {
    for (ShardedTensor& shard : shards_of(entry.slice.data, "")) state.push_back(std::move(shard));
  });
  // Frozen parameters are not sharded: no rank updates them.
  std::ranges::copy_if(weights, std::back_inserter(state), [](const ShardedTensor& weight) {
    return !weight.parameter->data.requires_grad();
  });
  return state;
}

Fingerprint run_fingerprint(const Options& options, const RankContext& rank) {
  const ParallelSizes sizes = parallel_sizes(options.model.transformer, rank.world_size);
  Fingerprint fingerprint = Fingerprint::of_this_process();
  fingerprint.tensor_model_parallel_size = sizes.tp;
  fingerprint.pipeline_model_parallel_size = sizes.pp;
  fingerprint.context_parallel_size = sizes.cp;
  fingerprint.data_parallel_size = sizes.dp;
  if (options.model.transformer.moe.has_experts()) {
    fingerprint.expert_model_parallel_size = sizes.ep;
    fingerprint.expert_tensor_parallel_size = sizes.expt_tp;
  }
  fingerprint.sequence_parallel = options.model.transformer.sequence_parallel;
  fingerprint.world_size = rank.world_size;
  fingerprint.threads_per_rank = rank.threads;
  fingerprint.backend = rank.transport ? rank.transport->kind() : "none";
  fingerprint.device = rank.device.is_cuda() ? "cuda" : "cpu";
  return fingerprint;
}

void save_training_state(const Options& options, const RankContext& rank,
                         const GPTModelChunks& chunks, Optimizer& optimizer,
                         const TrainingProgress& progress, const std::string& tokenizer) {
  const ShardedStateDict weights = sharded_state_dict(chunks);
  ShardedStateDict state = owned_weights(optimizer, weights);
  if (!options.checkpoint.no_save_optim) {
    for (ShardedTensor& tensor : sharded_state_dict(optimizer, weights))
      state.push_back(std::move(tensor));
  }
  if (!options.model.transformer.moe.moe_grouped_gemm) state = with_sequential_experts(state);
  const nlohmann::json& metadata = options.model.extra_checkpoint_metadata;
  nlohmann::json common = {{"options", to_json(options)},
                           {"iteration", progress.iteration},
                           {"consumed_samples", progress.consumed_samples},
                           {"scheduled_samples", progress.scheduled_samples},
                           {"data", to_json(progress.data)},
                           {"optimizer_steps", optimizer.num_steps()},
                           {"has_optimizer_state", !options.checkpoint.no_save_optim},
                           {"tokenizer_fingerprint", tokenizer},
                           {"extra_checkpoint_metadata",
                            metadata.is_null() ? progress.extra_checkpoint_metadata : metadata},
                           {"fingerprint", to_json(run_fingerprint(options, rank))}};
  if (const LossScaler* scaler = optimizer.loss_scaler()) {
    const LossScalerState state_of_scaler = scaler->state();
    common["loss_scaler"] = {{"scale", state_of_scaler.scale},
                             {"growth_tracker", state_of_scaler.growth_tracker},
                             {"hysteresis_tracker", state_of_scaler.hysteresis_tracker}};
  }
  SaveOptions save_options;
  if (progress.source) {
    save_options.add_files = [&](const std::filesystem::path& directory) {
      write_source_record(*progress.source, directory);
    };
  }
  save_checkpoint(options.checkpoint.save, progress.iteration, state, common,
                  *chunks.front()->groups().world, save_options);
}

void load_weights(CheckpointReader& checkpoint, const Options& options,
                  const GPTModelChunks& chunks) {
  load_weights(checkpoint, options, sharded_state_dict(chunks), [](const std::string&) {});
}

TrainingProgress load_training_state(const Options& options, const RankContext& rank,
                                     const GPTModelChunks& chunks, Optimizer& optimizer,
                                     const std::string& tokenizer,
                                     const std::function<void(const std::string&)>& note) {
  auto checkpoint = CheckpointReader::open(options.checkpoint.load);
  const nlohmann::json& common = checkpoint.common();
  const std::string stored_tokenizer = common.value("tokenizer_fingerprint", "");
  check(stored_tokenizer == tokenizer || stored_tokenizer.empty() || tokenizer.empty(),
        "Expected the tokenizer that the checkpoint {} was trained with ({}), but got another ({})",
        checkpoint.directory().string(), stored_tokenizer, tokenizer);
  check_fp8_recipe(checkpoint, options);
  const ShardedStateDict weights = sharded_state_dict(chunks);
  load_weights(checkpoint, options, owned_weights(optimizer, weights), note);
  optimizer.gather_parameters();
  const Options stored = from_json(common.at("options"));
  const bool upcycles = is_upcycling(stored, options);
  if (options.checkpoint.finetune || options.checkpoint.no_load_optim || upcycles) {
    optimizer.reload_masters();
  } else {
    check(stored.optimizer.optimizer == options.optimizer.optimizer,
          "Expected --optimizer {} as in the checkpoint {}, but got {}; --no-load-optim or "
          "--finetune loads its weights alone",
          enum_name(stored.optimizer.optimizer), checkpoint.directory().string(),
          enum_name(options.optimizer.optimizer));
    check(common.value("has_optimizer_state", false), "{}", missing_optimizer_state(checkpoint));
    ShardedStateDict wanted = in_layout_of(checkpoint, sharded_state_dict(optimizer, weights));
    std::erase_if(wanted, [&](const ShardedTensor& tensor) {
      // Masters are stored only for bf16 and fp16: in an fp32 run the weights are the masters.
      return !checkpoint.contains(tensor.key);
    });
    optimizer.reload_masters();
    checkpoint.load(within_stored_groups(checkpoint, std::move(wanted)),
                    {.allow_lossy_conversion = true});
    optimizer.set_num_steps(common.at("optimizer_steps").get<int64_t>());
    // A run that was not in fp16 has none: the scale begins at its initial value.
    if (optimizer.loss_scaler() != nullptr && common.contains("loss_scaler")) {
      const nlohmann::json& scaler = common.at("loss_scaler");
      optimizer.loss_scaler()->restore(
          {.scale = scaler.at("scale").get<float>(),
           .growth_tracker = scaler.at("growth_tracker").get<int>(),
           .hysteresis_tracker = scaler.at("hysteresis_tracker").get<int>()});
    }
  }
  std::optional<SourceRecord> source = read_source_record(checkpoint.directory());
  if (options.checkpoint.finetune || upcycles) return {.source = std::move(source)};
  std::string changed = explain_difference(fingerprint_from_json(common.at("fingerprint")),
                                           run_fingerprint(options, rank))
                            .value_or("");
  for (const FieldDifference& field : training_differences(stored, options)) {
    changed += fmt::format("{}{} was {}, is {}", changed.empty() ? kNotBitwise : "; ", field.field,
                           field.left, field.right);
  }
  if (options.checkpoint.no_load_optim) {
    changed += fmt::format("{}the optimizer starts afresh", changed.empty() ? kNotBitwise : "; ");
  }
  if (!changed.empty()) note(changed);
  const auto consumed_samples = common.at("consumed_samples").get<int64_t>();
  return {.iteration = common.at("iteration").get<int64_t>(),
          .consumed_samples = consumed_samples,
          .scheduled_samples = options.checkpoint.no_load_optim
                                   ? 0
                                   : common.value("scheduled_samples", consumed_samples),
          .data = data_identity_from_json(common.value("data", nlohmann::json::object())),
          .extra_checkpoint_metadata = common.value("extra_checkpoint_metadata", nlohmann::json()),
          .source = std::move(source)};
}

}  // namespace megatron
