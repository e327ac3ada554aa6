#include "megatron/parity/parity_run.h"

#include <cmath>

#include <ATen/ATen.h>
#include <fmt/ranges.h>

#include "megatron/base/error.h"
#include "megatron/base/nearest_name.h"
#include "megatron/parallel/model_groups.h"
#include "megatron/parallel/object_collectives.h"
#include "megatron/parity/case_bounds.h"
#include "megatron/parity/case_sharing.h"
#include "megatron/pipeline/pipeline_forward.h"
#include "megatron/training/same_options.h"
#include "megatron/training/train_step.h"
#include "megatron/training/training_models.h"
#include "megatron/transformer/moe/moe_pass.h"

namespace megatron {
namespace {

class ParityRun {
 public:
  ParityRun(const ParityCase& parity_case, const Options& options, const RankContext& rank)
      : case_(parity_case),
        options_(options),
        groups_(make_model_groups(options.model, rank)),
        device_(rank.device),
        share_(case_share(parity_case, options.model.transformer, rank.world_size)),
        comparison_(bound_exceptions(parity_case.params_dtype(), options)) {
    step_.emplace(build_training_models(options, groups_, rank,
                                        [this](const GPTModelChunks& chunks) {
                                          chunks_ = chunks;
                                          load_weights();
                                        }),
                  options);
  }

  Comparison run() {
    compare_forward();
    for (int64_t step = 0; step < case_.steps(); ++step) {
      const std::vector<MicroBatch> microbatches = share_of_step(step);
      const TrainStep::Losses losses = step_->forward_backward(microbatches, share_.sharing);
      const double loss_scale = step_->optimizer().loss_scale();
      if (step == 0) compare_gradients(loss_scale);
      const auto stepped = step_->optimizer().step(case_.learning_rate());
      compare_scaler(step, loss_scale, stepped.skipped);
      compare_scalar(ParityKind::step_loss, "step_loss", step, losses.objective);
      compare_mtp_losses(step, losses.mtp_microbatch_means);
      compare_moe_losses(step, losses.moe);
      // A step that one side skipped has no norm there; compare_scaler records the difference.
      if (was_applied(step) && (!stepped.skipped || !case_.json().contains("scaler")))
        compare_scalar(ParityKind::step_grad_norm, "step_grad_norm", step, stepped.grad_norm);
      if (step == 2) {
        compare_weights();
        compare_masters();
        compare_router_state();
      }
    }
    comparison_.merge(*groups_.world);
    check_everything_was_compared();
    note_what_is_absent();
    return std::move(comparison_);
  }

 private:
  void load_weights() {
    at::NoGradGuard no_grad;
    for (const ParameterPtr& parameter : parameters_of(chunks_)) {
      if (parameter->shared) continue;
      if (parameter->is_buffer) {
        const std::string key = "buffer0/" + parameter->name;
        if (case_.contains(key)) parameter->data.copy_(case_.tensor(key));
        continue;
      }
      for (Parameter& part : parts_of(*parameter)) {
        part.data.detach().copy_(
            part.local_part(case_.weight(case_.name_of(part.name), part.global_shape())));
        initial_weights_[part.name] = part.data.detach().clone();
      }
    }
    for (const auto& chunk : chunks_) chunk->synchronize_shared_embedding();
  }

  MicroBatch make_microbatch(const ParityCase::Input& input, int64_t first_row,
                             int64_t rows) const {
    const auto rows_of = [&](const at::Tensor& tensor) {
      const int64_t row_dim = tensor.dim() == 3 ? 1 : 0;  // position ids of mrope are [3, b, s]
      return tensor.narrow(row_dim, first_row, rows).contiguous().to(device_);
    };
    MicroBatch microbatch;
    microbatch.tokens = rows_of(input.tokens);
    microbatch.labels = rows_of(input.labels);
    microbatch.loss_mask = rows_of(input.loss_mask);
    microbatch.position_ids = rows_of(input.position_ids);
    if (input.attention_mask.defined()) {
      microbatch.attention_mask = input.attention_mask.size(0) == 1
                                      ? input.attention_mask.to(device_)
                                      : rows_of(input.attention_mask);
    }
    microbatch.sample_ordinals = at::arange(first_row, first_row + rows, at::kLong);
    return microbatch;
  }

  MicroBatch full_microbatch(int64_t step, int64_t index) const {
    return make_microbatch(case_.input(step, index), 0, case_.micro_batch_size());
  }

  std::vector<MicroBatch> share_of_step(int64_t step) const {
    const int64_t rank = groups_.dp->rank();
    std::vector<MicroBatch> share;
    for (int64_t i = 0; i < share_.microbatches; ++i) {
      share.push_back(share_.sharing == BatchSharing::whole_microbatches
                          ? full_microbatch(step, i * groups_.dp->size() + rank)
                          : make_microbatch(case_.input(step, i), rank * share_.rows, share_.rows));
    }
    return share;
  }

  // The model's output on the last pipeline stage, for this context-parallel rank's tokens of a
  // micro-batch of step 0: token losses, or logits without labels. Undefined on other stages.
  // `as_in_training`: routers choose as in a training step.
  at::Tensor forward(int64_t index, bool with_labels, bool as_in_training = false) {
    // The first micro-batch is also that of the routers' numbers; MTP runs where its losses are
    // recorded.
    const bool compares_routers = with_labels && index == 0 && !as_in_training;
    MtpLossRecord mtp;
    const MicroBatch microbatch = context_parallel_slice(full_microbatch(0, index), *groups_.cp);
    at::Tensor result;
    run_pipeline_forward(
        chunks_,
        {{.input = {.input_ids = microbatch.tokens,
                    .position_ids = microbatch.position_ids,
                    .attention_mask = microbatch.attention_mask,
                    .labels = with_labels ? microbatch.labels : at::Tensor(),
                    .runtime_gather_output = !with_labels,
                    .mtp_record = compares_routers ? &mtp : nullptr},
          .context = forward_context(microbatch, compares_routers, as_in_training)}},
        {.on_output = [&](int64_t, const at::Tensor& output) { return result = output; }});
    return result;
  }

  ForwardContext forward_context(const MicroBatch& microbatch, bool compares_routers,
                                 bool as_in_training) {
    ForwardContext context = ForwardContext::make(
        as_in_training, 0, microbatch.sample_ordinals, local_positions(),
        options_.model.transformer.sequence_parallel, groups_.tp->rank(), groups_.tp->size());
    if (!options_.model.transformer.moe.has_experts()) return context;
    if (compares_routers || as_in_training)
      context.moe = std::make_shared<MoePass>(std::make_shared<MoeStep>(), /*loss_weight=*/0);
    if (!compares_routers) return context;
    context.moe->on_routing = [this, positions = context.residual_positions](
                                  const std::string& router, const at::Tensor& probs,
                                  const at::Tensor& map) {
      compare_routing(router, positions, probs, map);
    };
    return context;
  }

  // The probabilities and the choice of a router for this rank's tokens.
  void compare_routing(const std::string& router, const at::Tensor& positions,
                       const at::Tensor& probs, const at::Tensor& map) {
    const auto local = [&](const std::string& tensor) {
      return case_.tensor(tensor)
          .unflatten(0, {-1, case_.micro_batch_size()})
          .index_select(0, positions)
          .flatten(0, 1)
          .to(at::kDouble);
    };
    if (!case_.contains("router_probs/" + router)) return;
    const at::Tensor theirs = local("router_probs/" + router);
    compare_elements(ParityKind::router_probs, router, probs, theirs);
    if (!case_.contains("router_map/" + router)) return;
    // Experts are padded to their capacity by tokens of probability 0.
    const at::Tensor chosen = local("router_map/" + router) * theirs.ne(0);
    compare_elements(ParityKind::router_map, router, map.to(at::kDouble), chosen);
  }

  // Global positions of this context-parallel rank's tokens: [s/cp].
  at::Tensor local_positions() const {
    return token_positions(options_.model.seq_length, *groups_.cp);
  }

  // Every data-parallel rank runs all rows of the micro-batches of step 0.
  void compare_forward() {
    const at::Tensor positions = local_positions();
    compare_rotary_tables();
    const at::Tensor logits = forward(0, /*with_labels=*/false);
    if (chunks_.back()->stage().post_process && case_.contains("logits")) {
      compare_elements(ParityKind::logits, "logits", logits,
                       case_.tensor("logits").index_select(1, positions));
    }
    for (int64_t i = 0; i < case_.num_microbatches(); ++i) {
      at::Tensor losses = forward(i, /*with_labels=*/true);
      const bool is_last_stage = chunks_.back()->stage().post_process;
      if (is_last_stage && i == 0 && case_.contains("per_token_loss")) {
        compare_elements(ParityKind::per_token_loss, "per_token_loss", losses,
                         case_.tensor("per_token_loss").index_select(1, positions));
      }
      // The peer's means come from its training steps, in which sinkhorn chooses the experts.
      if (options_.model.transformer.moe.balances_by("sinkhorn"))
        losses = forward(i, /*with_labels=*/true, /*as_in_training=*/true);
      if (is_last_stage && case_.contains("mean_loss")) {
        const at::Tensor mask = case_.input(0, i).loss_mask;
        const at::Tensor slice = mask.index_select(1, positions);
        const at::Tensor sum = (losses.cpu().to(at::kDouble) * slice).sum().view({1});
        groups_.cp->all_reduce(sum);
        const double mean = sum.item<double>() / std::max(mask.sum().item<double>(), 1.0);
        const double theirs = case_.tensor("mean_loss").to(at::kDouble)[i].item<double>();
        comparison_.record(ParityKind::mean_loss, fmt::format("mean_loss[{}]", i),
                           std::abs(mean - theirs));
      }
    }
  }

  void compare_rotary_tables() {
    const ModelRotaryEmbedding* rotary = chunks_.front()->rotary_embedding();
    for (const std::string& name : case_.tensor_names()) {
      if (!is_rotary_table(name)) continue;
      check(rotary != nullptr, "Expected no {} in case {}: this model has no rotary tables", name,
            case_.name());
      const at::Tensor theirs = case_.tensor(name).flatten(0, 2);
      const RotaryTable table = rotary->table(
          {.positions = at::arange(theirs.size(0), at::kLong), .row_length = theirs.size(0)},
          at::kDouble, at::kCPU);
      at::Tensor ours = name.ends_with("cos_cached") ? table.cos : table.sin;
      // Ours has the two features of a pair next to each other, theirs half a head apart.
      if (options_.model.transformer.mla.multi_latent_attention)
        ours = ours.unflatten(1, {-1, 2}).transpose(1, 2).flatten(1);
      compare_elements(ParityKind::buffer, name, ours, theirs);
    }
  }

  void compare_elements(ParityKind kind, const std::string& name, const at::Tensor& ours,
                        const at::Tensor& theirs) {
    check(ours.sizes() == theirs.sizes(), "Expected {} of shape {} as in the case, but got {}",
          name, theirs.sizes().vec(), ours.sizes().vec());
    const at::Tensor difference = ours.detach().cpu().to(at::kDouble) - theirs.to(at::kDouble);
    comparison_.record(kind, name, difference.abs().max().item<double>());
  }

  // Both files of a case may hold these numbers.
  void compare_scalar(ParityKind kind, const char* field, int64_t step, double ours) {
    const auto compare = [&](double theirs) {
      const double difference = std::abs(ours - theirs);
      comparison_.record(kind, fmt::format("{}[{}]", field, step),
                         parity_bound(kind).relative ? difference / std::abs(theirs) : difference);
    };
    if (case_.json().contains(field)) compare(case_.json()[field][step].get<double>());
    if (case_.contains(field)) {
      compare(case_.tensor(field).to(at::kDouble)[step].item<double>());
    }
  }

  void compare_mtp_losses(int64_t step, const std::vector<double>& ours) {
    const nlohmann::json all = case_.json().value("mtp_loss_per_step", nlohmann::json::array());
    if (all.empty()) return;
    check(int64_t(all.size()) > step && all[step].is_array() && all[step].size() == ours.size(),
          "Expected {} MTP losses for step {} in 'mtp_loss_per_step', but got {}", ours.size(),
          step, all.dump());
    for (size_t depth = 0; depth < ours.size(); ++depth) {
      comparison_.record(ParityKind::mtp_loss, fmt::format("mtp_{}_loss[{}]", depth + 1, step),
                         std::abs(ours[depth] - all[step][depth].get<double>()));
    }
  }

  // The peer's metrics are sums over the micro-batches of one rank.
  void compare_moe_losses(int64_t step, const std::vector<MoeLayerRecord>& ours) {
    const nlohmann::json all = case_.json().value("moe_metrics_per_step", nlohmann::json::array());
    if (all.empty()) return;
    check(int64_t(all.size()) > step && all[step].is_object(),
          "Expected an object for step {} in 'moe_metrics_per_step', but got {}", step, all.dump());
    const int64_t layers = options_.model.transformer.num_layers;
    for (const auto& [name, values] : all[step].items()) {
      for (size_t i = 0; i < values.size(); ++i) {
        const bool is_mtp = int64_t(i) >= layers;
        const std::string layer = is_mtp ? fmt::format("mtp.layers.{}.mtp_model_layer", i - layers)
                                         : fmt::format("decoder.layers.{}", i);
        double mine = 0;
        for (const MoeLayerRecord& record : ours) {
          if (record.layer != layer) continue;
          for (const auto& [loss, value] : record.losses) {
            if (loss == name) mine = value * double(case_.num_microbatches());
          }
        }
        const double theirs = values[i].get<double>(), difference = std::abs(mine - theirs);
        comparison_.record(ParityKind::moe_loss, fmt::format("{} of {}[{}]", name, layer, step),
                           theirs == 0 ? difference : difference / std::abs(theirs));
      }
    }
  }

  void compare_router_state() {
    for (const ParameterPtr& parameter : parameters_of(chunks_)) {
      const std::string key = "buffer_after3/" + parameter->name;
      if (parameter->is_buffer && case_.contains(key))
        compare_elements(ParityKind::buffer, key, parameter->data, case_.tensor(key));
    }
    // Here counters live in the step.
    for (const std::string& name : case_.tensor_names()) {
      if (!is_router_state(name) || name.ends_with(".expert_bias")) continue;
      const at::Tensor theirs = case_.tensor(name);
      compare_elements(ParityKind::buffer, name, at::zeros_like(theirs), theirs);
    }
  }

  // A stack of experts is one parameter here and one for each expert in the case.
  static std::vector<Parameter> parts_of(const Parameter& parameter) {
    if (!parameter.expert) return {parameter};
    std::vector<Parameter> parts;
    for (int64_t i = 0; i < parameter.data.size(0); ++i) parts.push_back(parameter.expert_part(i));
    return parts;
  }

  // Sums a statistic of a parameter over the ranks that hold its shards.
  double sum_over_shards(const Parameter& parameter, double value) const {
    if (parameter.sharding.partition_dim < 0) return value;
    at::Tensor sum = at::full({1}, value, at::kDouble);
    const bool is_expert = parameter.name.find(".experts.local_experts.") != std::string::npos;
    (is_expert ? groups_.expt_tp : groups_.tp)->all_reduce(sum);
    return sum.item<double>();
  }

  static double squared(const at::Tensor& tensor) { return tensor.square().sum().item<double>(); }

  // The parameters that this rank compares: all but copies of another stage's parameters.
  std::vector<Parameter> compared_parameters() const {
    std::vector<Parameter> compared;
    for (const ParameterPtr& parameter : parameters_of(chunks_)) {
      if (parameter->shared || parameter->is_buffer) continue;
      for (Parameter& part : parts_of(*parameter)) compared.push_back(std::move(part));
    }
    return compared;
  }

  // Whether the peer applied a step; only loss scaling skips one.
  bool was_applied(int64_t step) const {
    return !case_.json().contains("scaler") || case_.json()["scaler"]["applied"][step].get<bool>();
  }

  // What the loss scaler did in a step: exact, as no rounding reaches it.
  void compare_scaler(int64_t step, double before, bool skipped) {
    const nlohmann::json scaler = case_.json().value("scaler", nlohmann::json());
    if (scaler.is_null() || options_.model.transformer.compute_dtype() != at::kHalf) return;
    const auto record = [&](const char* field, double ours, double theirs) {
      comparison_.record(ParityKind::loss_scale, fmt::format("{}[{}]", field, step),
                         std::abs(ours - theirs));
    };
    record("applied", skipped ? 0 : 1, scaler["applied"][step].get<bool>() ? 1 : 0);
    record("loss_scale_before", before, scaler["loss_scale_before"][step].get<double>());
    record("loss_scale", step_->optimizer().loss_scale(), scaler["loss_scale"][step].get<double>());
  }

  // Whether the case has the masters of its weights, whose rounding the weights are.
  bool has_master(const std::string& name) const { return case_.contains("main_after3/" + name); }

  // fp32 masters, where each rank has all of its parameters' own.
  void compare_masters() {
    if (step_->optimizer().is_sharded()) return;
    for (const OptimizerState& state : step_->optimizer().states()) {
      const Parameter& parameter = *state.slice.parameter;
      const std::string name = case_.name_of(parameter.name);
      if (parameter.shared || parameter.expert || !has_master(name)) continue;
      const at::Tensor theirs = parameter.local_part(
          case_.tensor("main_after3/" + name, parameter.global_shape()).to(at::kDouble));
      const at::Tensor ours = state.master.detach().cpu().to(at::kDouble).view(theirs.sizes());
      record_weight(name, std::sqrt(sum_over_shards(parameter, squared(ours - theirs))),
                    std::sqrt(sum_over_shards(parameter, squared(theirs))));
    }
  }

  // With fp16 main gradients and those of the case carry the loss scale. Where the step overflowed,
  // both must have elements that are not finite.
  void compare_gradients(double loss_scale) {
    step_->unshard_gradients();
    const double case_scale = case_.json().contains("scaler")
                                  ? case_.json()["scaler"]["loss_scale_before"][0].get<double>()
                                  : 1.0;
    const bool overflowed =
        case_.json().contains("scaler") && !case_.json()["scaler"]["applied"][0].get<bool>();
    bool ours_overflow = false, theirs_overflow = false;
    for (const Parameter& parameter : compared_parameters()) {
      const std::string name = case_.name_of(parameter.name), key = "grad/" + name;
      if (!case_.contains(key)) continue;
      const at::Tensor theirs =
          parameter.local_part(case_.tensor(key, parameter.global_shape()).to(at::kDouble)) /
          case_scale;
      const at::Tensor ours = parameter.main_grad.cpu().to(at::kDouble) / loss_scale;
      if (overflowed) {
        ours_overflow |= !ours.isfinite().all().item<bool>();
        theirs_overflow |= !theirs.isfinite().all().item<bool>();
        continue;
      }
      const at::Tensor difference = ours - theirs;
      comparison_.record(ParityKind::gradient, name, difference.abs().max().item<double>());
      const double norm = std::sqrt(sum_over_shards(parameter, squared(theirs)));
      const double distance = std::sqrt(sum_over_shards(parameter, squared(difference)));
      if (norm > 1e-6) {
        comparison_.record(ParityKind::gradient_norm_of_difference, name, distance / norm);
      }
    }
    if (!overflowed) return;
    at::Tensor flags =
        at::tensor({ours_overflow ? 1.0 : 0.0, theirs_overflow ? 1.0 : 0.0}, at::kDouble);
    groups_.world->all_reduce(flags, ReduceOp::max);
    comparison_.record(ParityKind::loss_scale, "gradients that are not finite",
                       std::abs(flags[0].item<double>() - flags[1].item<double>()));
  }

  // Compares sum, norm and distance moved of each parameter, and full tensors where the case has
  // them. The sum can be near zero, so its difference is relative to norm * sqrt(elements).
  void compare_weights() {
    step_->unshard_parameters();
    const nlohmann::json statistics = case_.json().value("weight_after3", nlohmann::json::object());
    for (const Parameter& parameter : compared_parameters()) {
      const std::string name = case_.name_of(parameter.name);
      const at::Tensor ours = parameter.data.detach().cpu().to(at::kDouble);
      if (statistics.contains(name)) {
        const nlohmann::json& theirs = statistics[name];
        const double sum = sum_over_shards(parameter, ours.sum().item<double>());
        const double norm = std::sqrt(sum_over_shards(parameter, squared(ours)));
        const double moved = std::sqrt(sum_over_shards(
            parameter, squared(ours - initial_weights_.at(parameter.name).cpu().to(at::kDouble))));
        int64_t elements = 1;
        for (const int64_t size : parameter.global_shape()) elements *= size;
        const double their_norm = theirs.at("l2").get<double>(),
                     their_moved = theirs.at("moved_l2").get<double>();
        record_weight(name + " (sum)", std::abs(sum - theirs.at("sum").get<double>()),
                      their_norm * std::sqrt(double(elements)));
        record_weight(name + " (l2)", std::abs(norm - their_norm), their_norm);
        record_weight(name + " (moved_l2)", std::abs(moved - their_moved), their_moved);
      }
      // The weights are the masters' rounding.
      if (has_master(name) && step_->optimizer().is_sharded()) {
        const at::Tensor theirs = parameter.local_part(
            case_.tensor("main_after3/" + name, parameter.global_shape()).to(at::kDouble));
        record_weight(name, std::sqrt(sum_over_shards(parameter, squared(ours - theirs))),
                      std::sqrt(sum_over_shards(parameter, squared(theirs))));
      }
      if (const std::string key = "weight_after3/" + name; case_.contains(key)) {
        const at::Tensor theirs =
            parameter.local_part(case_.tensor(key, parameter.global_shape()).to(at::kDouble));
        record_weight(name, std::sqrt(sum_over_shards(parameter, squared(ours - theirs))),
                      std::sqrt(sum_over_shards(parameter, squared(theirs))));
      }
    }
  }

  void record_weight(const std::string& name, double difference, double scale) {
    comparison_.record(ParityKind::weight_after3, name,
                       scale > 0 ? difference / scale : difference);
  }

  // Refuses names of the case that the model does not have: they would not be compared.
  void check_everything_was_compared() {
    nlohmann::json names = nlohmann::json::array();
    for (const Parameter& parameter : compared_parameters())
      names.push_back(case_.name_of(parameter.name));
    std::vector<std::string>& ours = parameter_names_;
    for (const std::string& text : all_gather_strings(names.dump(), *groups_.world)) {
      for (const auto& name : nlohmann::json::parse(text)) ours.push_back(name.get<std::string>());
    }
    const auto check_known = [&](const std::string& tensor, const std::string& name) {
      check(std::ranges::find(ours, name) != ours.end(),
            "Expected a parameter of the model for '{}' of case {}, but there is none; the nearest "
            "is '{}'",
            tensor, case_.name(), nearest_name(name, ours));
    };
    for (const std::string& tensor : case_.tensor_names()) {
      for (const char* kind : {"weight/", "grad/", "weight_after3/", "main_after3/"}) {
        if (tensor.starts_with(kind))
          check_known(tensor, tensor.substr(std::string_view(kind).size()));
      }
      if (tensor.starts_with("router_probs/")) {
        check(comparison_.contains(ParityKind::router_probs,
                                   tensor.substr(std::string_view("router_probs/").size())),
              "Expected a router of the model for '{}' of case {}, but there is none", tensor,
              case_.name());
      }
    }
    const nlohmann::json statistics = case_.json().value("weight_after3", nlohmann::json::object());
    for (const auto& [name, numbers] : statistics.items()) {
      check_known("weight_after3 " + name, name);
    }
  }

  void note_absent(const std::string& what) { comparison_.note("not in the case: " + what); }

  void note_what_is_absent() {
    const auto note = [&](ParityKind kind) {
      if (!comparison_.contains(kind)) note_absent(parity_bound(kind).name);
    };
    for (const ParityKind kind :
         {ParityKind::logits, ParityKind::per_token_loss, ParityKind::mean_loss,
          ParityKind::gradient, ParityKind::step_loss, ParityKind::step_grad_norm,
          ParityKind::weight_after3}) {
      note(kind);
    }
    for (const std::string& name : parameter_names_) {
      const bool has_weight = comparison_.contains(ParityKind::weight_after3, name) ||
                              comparison_.contains(ParityKind::weight_after3, name + " (sum)");
      if (comparison_.contains(ParityKind::gradient) &&
          !comparison_.contains(ParityKind::gradient, name)) {
        note_absent("gradient of " + name);
      }
      if (comparison_.contains(ParityKind::weight_after3) && !has_weight) {
        note_absent("weight_after3 of " + name);
      }
    }
  }

  const ParityCase& case_;
  const Options& options_;
  ProcessGroupCollection groups_;
  at::Device device_;
  CaseShare share_;
  GPTModelChunks chunks_;
  std::optional<TrainStep> step_;
  std::map<std::string, at::Tensor> initial_weights_;
  std::vector<std::string> parameter_names_;  // the case's, of all ranks, with duplicates
  Comparison comparison_;
};

}  // namespace

Comparison run_parity(const ParityCase& parity_case, const Options& options,
                      const RankContext& rank) {
  check_same_options(options, rank);
  return ParityRun(parity_case, options, rank).run();
}

}  // namespace megatron
