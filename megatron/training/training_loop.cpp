#include "megatron/training/training_loop.h"

#include <chrono>
#include <cmath>

#include <ATen/ATen.h>
#include <ATen/record_function.h>

#include "megatron/base/device.h"
#include "megatron/base/dtype.h"
#include "megatron/base/error.h"
#include "megatron/base/human_bytes.h"
#include "megatron/checkpoint/save_checkpoint.h"
#include "megatron/config/model/batch_size.h"
#include "megatron/config/options/options_json.h"
#include "megatron/convert/source_model.h"
#include "megatron/data/split.h"
#include "megatron/optimizer/learning_rate_schedule.h"
#include "megatron/parallel/model_groups.h"
#include "megatron/parallel/object_collectives.h"
#include "megatron/planner/flops.h"
#include "megatron/reporting/machine.h"
#include "megatron/reporting/run_log.h"
#include "megatron/reporting/step_profiler.h"
#include "megatron/training/checkpoint_folders.h"
#include "megatron/training/evaluator.h"
#include "megatron/training/hf_export.h"
#include "megatron/training/shutdown_signal.h"
#include "megatron/training/train_step.h"
#include "megatron/training/training_data.h"
#include "megatron/training/training_models.h"
#include "megatron/training/training_state.h"

namespace megatron {
namespace {

using Clock = std::chrono::steady_clock;

double milliseconds_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

class TrainingLoop {
 public:
  TrainingLoop(const Options& options, const Tokenizer* tokenizer, const RankContext& rank)
      : options_(options),
        tokenizer_(tokenizer),
        rank_(rank),
        groups_(make_model_groups(options.model, rank)),
        schedule_(options.optimizer, options.training, options.batch,
                  global_batch_size(options.batch, groups_.dp->size())),
        profiler_(options.profile, rank, groups_.world),
        resumes_(loads_checkpoint(options.checkpoint) && !is_source_model(options.checkpoint.load)),
        evaluator_(options, tokenizer) {
    check_finetune_folders(options.checkpoint);
    if (!options.checkpoint.save.empty()) check_can_save(options.checkpoint.save, *groups_.world);
    // A checkpoint replaces the initial weights. The optimizer copies its masters from them.
    Options built = options;
    built.model.transformer.perform_initialization &= !resumes_;
    std::function<void(const GPTModelChunks&)> load;
    std::optional<SourceModel> source;
    if (is_source_model(options.checkpoint.load)) {
      source = open_source_model(options.checkpoint.load);
      progress_.source = source->record;
      load = [&](const GPTModelChunks& chunks) {
        load_source_model(*source, sharded_state_dict(chunks));
      };
    }
    step_.emplace(build_training_models(built, groups_, rank, load), options);
    chunks_ = step_->chunks();
  }

  int run(std::vector<std::string> notes) {
    const auto remember = [&](const std::string& line) { notes.push_back(line); };
    if (progress_.source) {
      remember(fmt::format("fine-tuning the {} model of {}{}", progress_.source->model_type,
                           options_.checkpoint.load, padding_note()));
    } else if (!resumes_ && !options_.checkpoint.load.empty()) {
      remember(fmt::format("no checkpoint in {} yet: training begins from scratch",
                           options_.checkpoint.load));
    }
    if (resumes_) {
      progress_ = load_training_state(options_, rank_, chunks_, step_->optimizer(),
                                      tokenizer_fingerprint(), remember);
    }
    if (!options_.checkpoint.save_hf.empty()) hf_export_.emplace(options_, progress_.source);
    if (const auto line = checkpoints_to_replace(options_.checkpoint, progress_.iteration))
      remember(*line);
    const bool reads =
        std::ranges::any_of(chunks_, [](const auto& chunk) { return chunk->reads_tokens(); });
    TrainingData data(options_, tokenizer_, groups_, rank_.device, reads, remember);
    if (const auto line =
            explain_data_change(progress_.data, data.identity(), progress_.consumed_samples))
      remember(*line);
    progress_.data = data.identity();
    set_last_iteration(data.batch_sizes());
    if (progress_.iteration == last_iteration_) {
      if (rank_.rank == 0) {
        fmt::print("nothing left to do: {} is at iteration {} of {}\n", options_.checkpoint.load,
                   progress_.iteration, length_of_run());
      }
      return 0;
    }
    gemm_tflops_ = sum_over_world(measure_gemm_tflops(options_.model.transformer.params_dtype,
                                                      rank_.device, /*milliseconds=*/60));
    open_log(notes);
    started_ = Clock::now();
    const int64_t interval = options_.training.eval_interval;
    note_empty_splits(data);
    bool stopped = signal_received();
    if (stopped && log_) log_->note("stopping before the first step: received a signal");
    if (options_.profile.profile && log_ &&
        progress_.iteration > options_.profile.profile_step_start) {
      log_->note(fmt::format("no trace: the run resumes after --profile-step-start {}",
                             options_.profile.profile_step_start));
    }
    while (progress_.iteration < last_iteration_ && !stopped) {
      profiler_.before_step(progress_.iteration);
      train_one(data);
      const auto trace =
          profiler_.after_step(progress_.iteration, [&] { step_->wait_for_parameters(); });
      if (trace && log_) log_->note(fmt::format("trace of this rank's steps: {}", *trace));
      const int64_t done = progress_.iteration;
      if (interval > 0 && done % interval == 0) evaluate(data, Split::valid);
      stopped = stop_requested();
      const bool due =
          options_.checkpoint.save_interval > 0 && done % options_.checkpoint.save_interval == 0;
      if (due || stopped || done == last_iteration_) save();
    }
    const bool finished = progress_.iteration == last_iteration_;
    if (finished && interval > 0) {
      if (progress_.iteration % interval != 0) evaluate(data, Split::valid);
      evaluate(data, Split::test);
    }
    if (!log_) return 0;
    log_->finish();
    check(log_->incomplete().empty(),
          "Expected to write the whole log to {}, but could not; training itself went on to "
          "iteration {}",
          log_->incomplete(), progress_.iteration);
    return 0;
  }

 private:
  // What tensor parallelism added to a model of another library.
  std::string padding_note() const {
    const SourceRecord& source = *progress_.source;
    const GPTModelConfig before =
        read_hf_config(hf_family(source.model_type), source.config, "config.json");
    const int64_t groups = options_.model.transformer.query_groups();
    const int64_t added = groups - before.transformer.query_groups();
    if (added == 0) return "";
    return fmt::format(
        "; {} query group{} of zeros added to its {}, so that the tensor-parallel ranks share them "
        "evenly",
        added, added == 1 ? "" : "s", groups - added);
  }

  // Samples that are left make up whole steps, whatever the batch sizes so far were.
  void set_last_iteration(const BatchSizeSchedule& batch_sizes) {
    const TrainingConfig& training = options_.training;
    if (training.train_samples) {
      check(progress_.consumed_samples <= *training.train_samples,
            "Expected --train-samples of at least the checkpoint's {} samples, but got {}; {} "
            "would run one more step, and --finetune starts at sample 1 with its weights",
            progress_.consumed_samples, *training.train_samples,
            progress_.consumed_samples + batch_sizes.batch_size(progress_.consumed_samples));
      last_iteration_ = progress_.iteration + batch_sizes.steps_until(*training.train_samples,
                                                                      progress_.consumed_samples);
      return;
    }
    check(progress_.iteration <= training.train_iters,
          "Expected --train-iters of at least the checkpoint's {} iterations, but got {}; {} would "
          "run one more, and --finetune starts at iteration 1 with its weights",
          progress_.iteration, training.train_iters, progress_.iteration + 1);
    last_iteration_ = training.train_iters;
  }

  std::string length_of_run() const {
    const TrainingConfig& training = options_.training;
    return training.train_samples
               ? fmt::format("{} (--train-samples {})", last_iteration_, *training.train_samples)
               : fmt::format("--train-iters {}", training.train_iters);
  }

  // What the learning-rate schedule has counted.
  int64_t schedule_position() {
    return counts_samples(options_.training, options_.batch) ? progress_.scheduled_samples
                                                             : step_->optimizer().num_steps();
  }

  void open_log(const std::vector<std::string>& notes) {
    RunDescription description;
    description.title = fmt::format(
        "GPT, {} layers x {}, {} parameters, {}", options_.model.transformer.num_layers,
        options_.model.transformer.hidden_size, human_parameters(count_parameters(options_.model)),
        dtype_name(options_.model.transformer.params_dtype));
    description.settings = differences_from_default(options_, commands(Command::train));
    description.stages = describe_stages();
    description.layout = describe_world(options_.model.transformer, options_.ddp, rank_);
    description.first_iteration = progress_.iteration;
    description.first_consumed_samples = progress_.consumed_samples;
    description.train_iters = last_iteration_;
    description.batch_size_grows = !options_.batch.rampup_batch_size.empty();
    description.world_size = rank_.world_size;
    description.gemm_peak_tflops = gemm_tflops_;
    if (rank_.rank != 0) return;
    log_.emplace(options_.logging, description);
    if (resumes_) {
      log_->note(options_.checkpoint.finetune
                     ? fmt::format("fine-tuning the weights of {}", options_.checkpoint.load)
                     : fmt::format("resumed from {} at iteration {}", options_.checkpoint.load,
                                   progress_.iteration));
    }
    for (const std::string& line : notes) log_->note(line);
  }

  // A line per pipeline stage. Collective over the world.
  std::vector<std::string> describe_stages() const {
    int64_t parameters = 0;
    for (const ParameterPtr& parameter : step_->parameters()) parameters += parameter->data.numel();
    const PipelineLayout layout = PipelineLayout::of(options_.model.transformer);
    const std::string mine = fmt::format(
        "stage {}: {}, {} parameters per rank", groups_.pp->rank(),
        describe_stage(layout, groups_.pp->rank(), options_.model.transformer.mtp.mtp_num_layers),
        human_parameters(parameters));
    std::vector<std::string> stages = all_gather_strings(mine, *groups_.pp);
    return stages;
  }

  void note_empty_splits(const TrainingData& data) {
    const TrainingConfig& training = options_.training;
    if (!log_ || training.eval_interval == 0 || training.eval_iters == 0) return;
    for (const auto& [split, name] :
         {std::pair{Split::valid, "validation"}, std::pair{Split::test, "test"}}) {
      if (data.has(split)) continue;
      const DataConfig& given = options_.data;
      if (!given.train_data_path.empty() || !given.per_split_data_args_path.empty()) {
        log_->note(fmt::format("no {} loss: {} names no data for it", name,
                               given.train_data_path.empty() ? "--per-split-data-args-path"
                               : split == Split::valid       ? "--valid-data-path"
                                                             : "--test-data-path"));
        continue;
      }
      const bool too_few = parse_split(options_.data.split)[static_cast<size_t>(split)].has_value();
      log_->note(fmt::format(
          "no {} loss: the split {} leaves no documents for it{}", name, options_.data.split,
          too_few ? "; there are too few: preprocess --document-start cuts a plain text into more"
                  : ""));
    }
  }

  std::string signal_reason() const {
    return options_.checkpoint.save.empty()
               ? "received a signal; nothing was saved, --save FOLDER would"
               : "received a signal";
  }

  // Collective: a signal reaches the ranks at different times.
  bool signal_received() const {
    at::Tensor vote = at::full({1}, ShutdownSignal::received() != 0 ? 1.0 : 0.0, at::kDouble);
    groups_.world->all_reduce(vote, ReduceOp::max);
    return vote.item<double>() > 0;
  }

  void train_one(const TrainingData& data) {
    RECORD_USER_SCOPE(fmt::format("step {}", progress_.iteration + 1));
    const auto start = Clock::now();
    const double learning_rate = schedule_.learning_rate(schedule_position());
    const double decoupled_rate = schedule_.decoupled_learning_rate(schedule_position());
    const int64_t batch_size = data.batch_sizes().batch_size(progress_.consumed_samples);
    step_->set_iteration(progress_.iteration + 1);
    step_->record_experts(shows_step(options_.logging, progress_.iteration + 1, last_iteration_));
    const TrainStep::Losses losses = step_->forward_backward(
        data.global_batch(Split::train, progress_.consumed_samples, batch_size),
        BatchSharing::whole_microbatches);
    if (options_.training.empty_unused_memory_level >= 1) release_unused_memory(rank_.device);
    check(std::isfinite(losses.loss) || !options_.training.check_for_nan_in_loss,
          "Expected a finite loss, but got {} at iteration {}; a lower --lr or more "
          "--lr-warmup-iters usually helps; no checkpoint has this step's weights",
          std::abs(losses.loss), progress_.iteration + 1);
    const bool scales_loss = step_->optimizer().loss_scaler() != nullptr;
    const double loss_scale = step_->optimizer().loss_scale();
    const Optimizer::StepResult stepped = step_->optimize(learning_rate, decoupled_rate);
    if (options_.training.empty_unused_memory_level >= 2) release_unused_memory(rank_.device);
    synchronize(rank_.device);
    progress_.iteration += 1;
    progress_.consumed_samples += batch_size;
    if (stepped.skipped) ++skipped_iterations_;
    if (!stepped.skipped) progress_.scheduled_samples += batch_size;
    if (!log_) return;
    const double ms = milliseconds_since(start), samples = double(batch_size);
    const double tflops = model_flops(options_.model, batch_size) / (ms * 1e9);
    log_->step({.iteration = progress_.iteration,
                .consumed_samples = progress_.consumed_samples,
                .loss = losses.loss,
                .grad_norm = stepped.grad_norm,
                .learning_rate = learning_rate,
                .loss_scale = scales_loss ? loss_scale : 0,
                .low_precision = losses.low_precision,
                .mtp = losses.mtp,
                .moe = losses.moe,
                .step_ms = ms,
                .tokens_per_s = samples * double(options_.model.seq_length) / (ms / 1e3),
                .model_tflops = tflops,
                .gemm_peak_fraction = share_of_peak(tflops, gemm_tflops_),
                .memory_mib = resident_mib(),
                .batch_size = batch_size});
    if (stepped.skipped) {
      log_->note(skip_note(stepped.grad_norm, loss_scale));
    }
  }

  std::string skip_note(double grad_norm, double loss_scale) {
    std::string text = fmt::format("iteration {} skipped: the gradient norm is {}",
                                   progress_.iteration, grad_norm);
    if (step_->optimizer().loss_scaler() == nullptr) return text;
    const double next = step_->optimizer().loss_scale();
    return text + fmt::format("; the loss scale {} {}; skipped iterations of this run: {}",
                              next == loss_scale ? "stays" : "falls to", next, skipped_iterations_);
  }

  void evaluate(const TrainingData& data, Split split) {
    const auto start = Clock::now();
    const auto record = evaluator_.run(
        *step_, data, split, progress_.iteration,
        {.stop =
             [&] {
               const bool stop = signal_received();
               if (stop && log_) log_->note("evaluation abandoned: received a signal");
               return stop;
             },
         .on_batch =
             [&](int64_t done, int64_t batches) {
               if (options_.training.empty_unused_memory_level >= 1)
                 release_unused_memory(rank_.device);
               if (!log_) return;
               log_->evaluation_progress({.split = evaluation_name(split),
                                          .done = done,
                                          .batches = batches,
                                          .seconds = milliseconds_since(start) / 1000});
             }});
    if (record && log_) log_->evaluation(*record);
  }

  // Whether the run ends after this iteration. Collective: a signal reaches the ranks at different
  // times.
  bool stop_requested() {
    const TrainingConfig& training = options_.training;
    const int64_t done = progress_.iteration;
    const bool interval_reached = training.exit_interval > 0 && done % training.exit_interval == 0;
    const bool duration_reached =
        training.exit_duration_in_mins &&
        milliseconds_since(started_) > *training.exit_duration_in_mins * 60'000;
    at::Tensor votes = at::tensor(
        {ShutdownSignal::received() != 0 ? 1.0 : 0.0, duration_reached ? 1.0 : 0.0}, at::kDouble);
    groups_.world->all_reduce(votes, ReduceOp::max);
    const bool signalled = votes[0].item<double>() > 0, out_of_time = votes[1].item<double>() > 0;
    if (done == last_iteration_ || !(interval_reached || out_of_time || signalled)) return false;
    if (log_) {
      log_->print_pending_steps();
      log_->note(fmt::format("stopping after iteration {}: {}", done,
                             signalled     ? signal_reason()
                             : out_of_time ? "--exit-duration-in-mins has passed"
                                           : "--exit-interval reached"));
    }
    return true;
  }

  void save() {
    if (hf_export_) save_hf();
    if (options_.checkpoint.save.empty()) return;
    save_training_state(options_, rank_, chunks_, step_->optimizer(), progress_,
                        tokenizer_fingerprint());
    if (log_) {
      log_->note(
          fmt::format("saved iteration {} in {}", progress_.iteration, options_.checkpoint.save));
    }
  }

  // Parameters of sharded models are complete for a moment.
  void save_hf() {
    step_->wait_for_parameters();
    step_->unshard_parameters();
    const std::filesystem::path folder = hf_export_->write(progress_.iteration, chunks_);
    step_->reshard_parameters();
    if (log_) log_->note(fmt::format("wrote the Hugging Face folder {}", folder.string()));
  }

  std::string tokenizer_fingerprint() const {
    return tokenizer_ != nullptr ? tokenizer_->fingerprint() : "";
  }

  double sum_over_world(double value) const {
    at::Tensor sum = at::full({1}, value, at::kDouble);
    groups_.world->all_reduce(sum);
    return sum.item<double>();
  }

  const Options& options_;
  const Tokenizer* tokenizer_;
  const RankContext& rank_;
  ProcessGroupCollection groups_;
  ShutdownSignal shutdown_signal_;  // constructed after the ranks have met: before, signals kill
  GPTModelChunks chunks_;
  std::optional<TrainStep> step_;
  std::optional<HfExport> hf_export_;
  LearningRateSchedule schedule_;
  StepProfiler profiler_;
  bool resumes_;
  Evaluator evaluator_;
  TrainingProgress progress_;
  int64_t last_iteration_ = 0;
  int64_t skipped_iterations_ = 0;  // of this run
  double gemm_tflops_ = 0;
  Clock::time_point started_;
  std::optional<RunLog> log_;  // on the first rank
};

}  // namespace

int run_training(const Options& options, const Tokenizer* tokenizer, const RankContext& rank,
                 const std::vector<std::string>& notes) {
  return TrainingLoop(options, tokenizer, rank).run(notes);
}

}  // namespace megatron
