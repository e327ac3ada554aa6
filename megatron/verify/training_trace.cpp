#include "megatron/verify/training_trace.h"

#include <algorithm>
#include <cmath>
#include <exception>
#include <limits>

#include <ATen/ATen.h>
#include <fmt/format.h>

#include "megatron/base/error.h"
#include "megatron/parallel/model_groups.h"
#include "megatron/parallel/thread_ranks.h"
#include "megatron/training/training_models.h"

namespace megatron {
namespace {

constexpr double kFloor = 1e-3;  // of the largest of all tensors
constexpr std::chrono::minutes kTraceTimeout{10};

// Callbacks for the results of a rank.
struct TraceObserver {
  std::function<void(const GPTModelChunks&)> on_start;
  std::function<void(int64_t step, const TrainStep::Losses&)> on_losses;
  std::function<void(int64_t step, const Parameter&)> on_gradient;
  std::function<void(int64_t step, double)> on_grad_norm;
  std::function<void(const Parameter&)> on_weight;
};

void run_steps(const Options& options, const TraceInputs& inputs, const RankContext& rank,
               const TraceObserver& observer) {
  const ProcessGroupCollection groups = make_model_groups(options.model, rank);
  TrainStep train_step(build_training_models(options, groups, rank,
                                             [&](const GPTModelChunks& chunks) {
                                               inputs.initialize(chunks);
                                               observer.on_start(chunks);
                                             }),
                       options);
  for (int64_t step = 0; step < inputs.steps; ++step) {
    observer.on_losses(
        step, train_step.forward_backward(
                  inputs.microbatches(step, groups.dp->rank(), groups.dp->size()), inputs.sharing));
    if (inputs.after_backward) inputs.after_backward(rank, step, train_step);
    if (step < inputs.gradient_steps) {
      train_step.unshard_gradients();
      for (const ParameterPtr& parameter : train_step.parameters())
        observer.on_gradient(step, *parameter);
    }
    observer.on_grad_norm(step, train_step.optimize(inputs.learning_rate).grad_norm);
  }
  train_step.unshard_parameters();
  for (const ParameterPtr& parameter : train_step.parameters()) observer.on_weight(*parameter);
}

void run_threads(int world_size, int threads, const std::function<void(const RankContext&)>& body) {
  const auto outcome =
      run_thread_ranks(world_size, threads, "cpu", kTraceTimeout, [&](RankContext& rank) {
        body(rank);
        return 0;
      });
  if (outcome.error) std::rethrow_exception(outcome.error);
}

double largest_element(const at::Tensor& tensor) {
  return tensor.numel() == 0 ? 0.0 : tensor.detach().abs().max().item<double>();
}

double relative(double difference, double scale) {
  return difference == 0 ? 0.0 : difference / scale;  // infinite if the scale is 0
}

// A one-rank tensor in the global shape of this layout, which may pad the vocabulary differently.
// Missing rows are zero.
at::Tensor in_global_shape(const Parameter& parameter, const at::Tensor& of_one_rank) {
  const std::vector<int64_t> shape = parameter.global_shape();
  if (of_one_rank.sizes().vec() == shape) return of_one_rank;
  check(parameter.allow_shape_mismatch, "Expected {} of shape {} as in one rank, but got {}",
        parameter.name, of_one_rank.sizes().vec(), shape);
  at::Tensor padded = at::zeros(shape, of_one_rank.options());
  const int64_t rows = std::min(shape[0], of_one_rank.size(0));
  padded.narrow(0, 0, rows).copy_(of_one_rank.narrow(0, 0, rows));
  return padded;
}

// The parameter's value in the trace of one rank. The last pipeline stage's copy of a tied
// embedding is named as an output layer, which one rank does not have.
template <typename Value>
const Value& traced(const std::map<std::string, Value>& trace, const Parameter& parameter) {
  const auto found = trace.find(parameter.name);
  if (found == trace.end() && parameter.shared) return trace.at("embedding.word_embeddings.weight");
  check(found != trace.end(), "Expected {} in one rank too, but it has no such parameter",
        parameter.name);
  return found->second;
}

// Zeroes rows of vocabulary padding in a tensor of the parameter's local shape.
at::Tensor without_padding(const Parameter& parameter, const at::Tensor& local,
                           int64_t vocab_size) {
  if (!parameter.allow_shape_mismatch) return local;
  const std::vector<int64_t> shape = parameter.global_shape();
  std::vector<int64_t> column(shape.size(), 1);
  column[0] = shape[0];
  const at::Tensor counts = (at::arange(shape[0]) < vocab_size).view(column).expand(shape);
  return at::where(parameter.local_part(counts), local, at::zeros({}, local.options()));
}

}  // namespace

std::string_view quantity_name(TracedQuantity quantity) {
  constexpr std::array<std::string_view, kTracedQuantities.size()> names = {"loss", "grad norm",
                                                                            "gradient", "weight"};
  return names[static_cast<size_t>(quantity)];
}

TracedQuantity TraceDifferences::largest_quantity() const {
  return *std::ranges::max_element(
      kTracedQuantities, {}, [&](TracedQuantity quantity) { return (*this)[quantity].value; });
}

double TraceDifferences::largest() const {
  return (*this)[largest_quantity()].value;
}

void TraceDifferences::note(TracedQuantity quantity, double difference,
                            const std::function<std::string()>& where) {
  if (std::isnan(difference)) difference = std::numeric_limits<double>::infinity();
  Largest& largest = largest_[static_cast<size_t>(quantity)];
  if (difference > largest.value) largest = {difference, where()};
}

void TraceDifferences::merge(const TraceDifferences& other) {
  for (const TracedQuantity quantity : kTracedQuantities)
    note(quantity, other[quantity].value, [&] { return other[quantity].where; });
}

TrainingTrace record_one_rank(const Options& options, const TraceInputs& inputs, int threads) {
  TrainingTrace trace;
  const auto vocabulary = [&](const Parameter& parameter, const at::Tensor& tensor) {
    return without_padding(parameter, tensor, *options.model.vocab_size);
  };
  const TraceObserver observer{
      .on_start =
          [&](const GPTModelChunks& chunks) {
            for (const ParameterPtr& parameter : parameters_of(chunks))
              trace.weights[parameter->name].value = parameter->data.detach().clone();
          },
      .on_losses = [&](int64_t, const auto& losses) { trace.losses.push_back(losses); },
      .on_gradient =
          [&](int64_t step, const Parameter& parameter) {
            trace.gradients.resize(step + 1);
            trace.gradients[step][parameter.name] = parameter.main_grad.clone();
          },
      .on_grad_norm = [&](int64_t, double norm) { trace.grad_norms.push_back(norm); },
      .on_weight =
          [&](const Parameter& parameter) {
            TrainingTrace::Weight& weight = trace.weights.at(parameter.name);
            const at::Tensor now = parameter.data.detach().clone();
            weight.moved = largest_element(vocabulary(parameter, now - weight.value));
            weight.value = now;
          }};
  run_threads(1, threads,
              [&](const RankContext& rank) { run_steps(options, inputs, rank, observer); });
  return trace;
}

TraceDifferences compare_layout(const Options& options, int world_size, const TraceInputs& inputs,
                                const TrainingTrace& one_rank, int threads) {
  std::vector<double> gradient_floors;
  std::vector<std::map<std::string, double>> largest_gradients;
  for (const auto& gradients : one_rank.gradients) {
    double floor = 0;
    auto& largest = largest_gradients.emplace_back();
    for (const auto& [name, gradient] : gradients) {
      largest[name] = largest_element(gradient);
      floor = std::max(floor, kFloor * largest[name]);
    }
    gradient_floors.push_back(floor);
  }
  double weight_floor = 0;
  for (const auto& [name, weight] : one_rank.weights)
    weight_floor = std::max(weight_floor, kFloor * weight.moved);

  std::vector<TraceDifferences> by_rank(world_size);
  run_threads(world_size, threads, [&](const RankContext& rank) {
    TraceDifferences& differences = by_rank[rank.rank];
    const auto place = [&rank](const std::string& name, int64_t step) {
      return [&rank, name, step] {
        return fmt::format("{}, step {}, rank {}", name, step + 1, rank.rank);
      };
    };
    const TraceObserver observer{
        .on_start = [](const GPTModelChunks&) {},
        .on_losses =
            [&](int64_t step, const TrainStep::Losses& got) {
              const TrainStep::Losses& want = one_rank.losses[step];
              const auto note = [&](double ours, double theirs, const std::string& name) {
                differences.note(TracedQuantity::loss, std::abs(ours - theirs), place(name, step));
              };
              note(got.loss, want.loss, "loss");
              note(got.objective, want.objective, "objective");
              for (size_t depth = 0; depth < want.mtp.size(); ++depth) {
                note(got.mtp.at(depth).loss, want.mtp[depth].loss,
                     fmt::format("mtp_{}_loss", depth + 1));
              }
            },
        .on_gradient =
            [&](int64_t step, const Parameter& parameter) {
              const at::Tensor want = parameter.local_part(
                  in_global_shape(parameter, traced(one_rank.gradients[step], parameter)));
              const double scale =
                  std::max(traced(largest_gradients[step], parameter), gradient_floors[step]);
              differences.note(TracedQuantity::gradient,
                               relative(largest_element(parameter.main_grad - want), scale),
                               place(parameter.name, step));
            },
        .on_grad_norm =
            [&](int64_t step, double got) {
              const double want = one_rank.grad_norms[step];
              differences.note(TracedQuantity::grad_norm, relative(std::abs(got - want), want),
                               place("gradient norm", step));
            },
        .on_weight =
            [&](const Parameter& parameter) {
              const TrainingTrace::Weight& weight = traced(one_rank.weights, parameter);
              const at::Tensor want =
                  parameter.local_part(in_global_shape(parameter, weight.value));
              const at::Tensor difference = without_padding(
                  parameter, parameter.data.detach() - want, *options.model.vocab_size);
              differences.note(
                  TracedQuantity::weight,
                  relative(largest_element(difference), std::max(weight.moved, weight_floor)),
                  place(parameter.name, inputs.steps - 1));
            }};
    run_steps(options, inputs, rank, observer);
  });
  TraceDifferences all;
  for (const TraceDifferences& one : by_rank) all.merge(one);
  return all;
}

}  // namespace megatron
